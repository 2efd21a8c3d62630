//! Measures Messages, each figure next to a floor: the same hops with nothing in them.

mod context;
mod counters;
mod failures;
mod floors;
mod latency;
mod load;
mod machine;
mod observer;
mod options;
mod phases;
mod proc;
mod progress;
mod report;
mod schedule;
mod server;
mod totals;
mod workload;

use std::process::ExitCode;

use clap::Parser;
use service::lifecycle;
use service::telemetry::{self, LogFormat};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::context::Context;
use crate::floors::options::FloorOptions;
use crate::machine::Machine;
use crate::options::Options;
use crate::report::figures::{Report, Settings};
use crate::report::table;

/// The argument that makes this program a floor.
const FLOOR: &str = "floor";

fn main() -> ExitCode {
    let is_floor = std::env::args().nth(1).is_some_and(|argument| argument == FLOOR);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // A floor has as many workers as Messages. The generator leaves the cores to what it measures.
    let runtime = if is_floor { &mut runtime } else { runtime.worker_threads(1) }.enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        lifecycle::raise_open_file_limit();
        runtime.block_on(if_ended(is_floor))
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("✗ {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn if_ended(is_floor: bool) -> anyhow::Result<ExitCode> {
    if is_floor {
        telemetry::start("error", LogFormat::Text);
        floors::run(&FloorOptions::parse_from(std::env::args().skip(1))).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::parse();
    telemetry::start("warn,event_log::topic=error,bench=info", LogFormat::Text);
    let run = lifecycle::shutdown_on_signal().run_until_cancelled_owned(measure(&options)).await;
    let report = run.unwrap_or_else(|| {
        anyhow::bail!("stopped before the end; its topics and schemas, named bench…, still exist")
    })?;
    println!("{}", table::render(&report));
    Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the chosen phases, and deletes what they created.
async fn measure(options: &Options) -> anyhow::Result<Report> {
    let date = OffsetDateTime::now_utc().format(format_description!("[year]-[month]-[day] [hour]:[minute] UTC"))?;
    let context = Context::new(&options.services);
    let mut cases = Vec::new();
    let mut measured = Ok(());
    for phase in &options.phases {
        match phases::run(*phase, &context, options).await {
            Ok(found) => cases.extend(found),
            Err(error) => measured = Err(error.context(format!("the phase {phase:?}"))),
        }
    }
    context.clean_up().await?;
    measured?;
    Ok(Report {
        machine: Machine::this(),
        date,
        commit: machine::commit(),
        settings: Settings {
            seconds: options.seconds,
            conversations: options.conversations,
            events: options.events,
        },
        cases,
        failures: context.failures.all(),
    })
}
