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

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
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
use crate::report::{compare, docs, table};

/// The argument that makes this program a floor.
const FLOOR: &str = "floor";

fn main() -> ExitCode {
    let is_floor = std::env::args().nth(1).is_some_and(|argument| argument == FLOOR);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if !is_floor {
        // A floor has as many workers as Messages. The generator leaves the cores to what it measures.
        runtime.worker_threads(1);
    }
    let result = runtime.enable_all().build().map_err(anyhow::Error::from).and_then(|runtime| {
        lifecycle::raise_open_file_limit();
        runtime.block_on(async { if is_floor { run_floor().await } else { judge().await } })
    });
    result.unwrap_or_else(|error| {
        eprintln!("✗ {error:#}");
        ExitCode::FAILURE
    })
}

async fn run_floor() -> anyhow::Result<ExitCode> {
    telemetry::start("error", LogFormat::Text);
    floors::run(&FloorOptions::parse_from(std::env::args().skip(1))).await?;
    Ok(ExitCode::SUCCESS)
}

async fn judge() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    telemetry::start("warn,event_log::topic=error,bench=info", LogFormat::Text);
    let earlier: Option<Report> = options.compare.as_deref().map(read_report).transpose()?;
    let measured = lifecycle::shutdown_on_signal().run_until_cancelled_owned(measure(&options)).await;
    let report =
        measured.context("stopped before the end; its topics and schemas, named bench…, still exist").flatten()?;
    print!("{}", table::render(&report));
    if let Some(earlier) = earlier {
        print!("{}", compare::render(&report, &earlier));
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?).with_context(|| path.display().to_string())?;
    }
    if options.docs {
        docs::write(&report)?;
    }
    Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read_report(path: &Path) -> anyhow::Result<Report> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| format!("{} is no report of this bench", path.display()))
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
        settings: Settings { seconds: options.seconds, conversations: options.conversations, events: options.events },
        cases,
        failures: context.failures.all(),
    })
}
