//! Measures the system, and beside each figure the same hops with nothing in them.

mod child;
mod events;
mod load;
mod pace;
mod projection;
mod raw;
mod report;
mod socket;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use event_log::{TopicSpec, ensure_topic};
use service::lifecycle;
use service::telemetry::{self, LogFormat};
use uuid::Uuid;

use crate::pace::Pace;
use crate::report::{Faults, Report};

/// How many partitions each topic gets: as many as Messages makes by default.
const PARTITIONS: i32 = 12;

/// Measure Messages on this machine, beside the same hops with nothing in them.
///
/// It starts the release build of `messages` that lies beside it as processes of its own, with topics and schemas that
/// it deletes afterwards, and prints three rows:
///
///   send to answer   POST /api/messages until its 201, beside librdkafka's acknowledgement of records like its event
///   send to frame    POST /api/messages until `message:new` is at a receiver's socket, beside produce to consume
///   projector        events folded a second, beside inserting the same rows in batches of 2,000
///
/// The first two are of one open loop: each message has a time at which it is due, and counts from then on also when
/// something before it stalls. The raw figures are of the same run, settings, rate and machine. Anything that fails is
/// counted, shown, and makes the exit code 1. Use a quiet machine, and run it more than once.
#[derive(Parser)]
#[command(name = "bench", max_term_width = 120, verbatim_doc_comment)]
struct Options {
    /// Messages a second.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// For how long, in seconds, after 2 s that warm up and don't count.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// Users who send, one after the other. At least twice the conversations.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    users: u32,
    /// Conversations that the users are spread over.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    conversations: u32,
    /// Events for the projector to fold.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    events: u32,
    #[command(flatten)]
    services: Services,
}

/// Where the three services are; `scripts/services env` tells.
#[derive(Clone, clap::Args)]
struct Services {
    /// Kafka's addresses, separated by commas.
    #[arg(long, env = "KAFKA_BROKERS")]
    kafka_brokers: String,
    /// Postgres, for the read model.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Redis.
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis_url: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    telemetry::start("warn,event_log::topic=error,bench=info", LogFormat::Text);
    let measured = lifecycle::shutdown_on_signal().run_until_cancelled_owned(measure(&options)).await;
    match measured {
        Some(Ok(report)) => {
            println!("{report}");
            if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Some(Err(error)) => {
            eprintln!("✗ {error:#}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("✗ stopped before the end; its topics and schemas, named bench…, are left");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) -> anyhow::Result<Report> {
    anyhow::ensure!(options.users >= 2 * options.conversations, "--users has to be at least twice --conversations");
    let run = Run::new(options).await?;
    let measured = run.measure(options).await;
    run.clean_up().await?;
    measured
}

/// What one run has made: a topic for each of the three measurements, and a schema for each process's.
struct Run {
    services: Services,
    raw: String,
    load: String,
    projection: String,
}

impl Run {
    async fn new(options: &Options) -> anyhow::Result<Self> {
        let id = Uuid::now_v7().simple();
        let name = |what: &str| format!("bench_{id}_{what}");
        let run = Self {
            services: options.services.clone(),
            raw: name("raw"),
            load: name("load"),
            projection: name("projection"),
        };
        for topic in [&run.raw, &run.load, &run.projection] {
            let spec = TopicSpec { name: topic.clone(), partitions: PARTITIONS };
            ensure_topic(&run.services.kafka_brokers, &spec).await?;
        }
        Ok(run)
    }

    async fn measure(&self, options: &Options) -> anyhow::Result<Report> {
        let faults = Arc::new(Faults::default());
        let kafka = &self.services.kafka_brokers;
        let shape = events::Shape { users: options.users, conversations: options.conversations };
        let raw = raw::measure(kafka, &self.raw, shape, Pace::new(options.rate, options.seconds), &faults).await?;
        let sent = load::measure(&self.services, &self.load, shape, options, &faults).await?;
        let rates = projection::measure(&self.services, &self.projection, shape, options.events, &faults).await?;
        Ok(Report { raw, sent, rates, faults })
    }

    async fn clean_up(&self) -> anyhow::Result<()> {
        raw::delete_topics(&self.services.kafka_brokers, &[&self.raw, &self.load, &self.projection]).await?;
        projection::drop_schemas(&self.services.database_url, &[&self.load, &self.projection]).await
    }
}
