//! Measures Messages, each figure next to a baseline: the same hops without Messages.

mod kafka_baseline;
mod latency;
mod messages_process;
mod options;
mod projection_rate;
mod report;
mod schedule;
mod socket;
mod workload;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use event_log::{TopicSpec, ensure_topic};
use service::lifecycle;
use service::telemetry::{self, LogFormat};
use uuid::Uuid;

use crate::options::{Options, Services};
use crate::report::{Failures, Report};
use crate::schedule::Schedule;
use crate::workload::Population;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    telemetry::start("warn,event_log::topic=error,bench=info", LogFormat::Text);
    let measured = lifecycle::shutdown_on_signal().run_until_cancelled_owned(measure(&options)).await;
    match measured {
        Some(Ok(report)) => {
            println!("{report}");
            if report.has_failures() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Some(Err(error)) => {
            eprintln!("✗ {error:#}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("✗ stopped before the end; its topics and schemas, named bench…, still exist");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) -> anyhow::Result<Report> {
    anyhow::ensure!(options.users >= 2 * options.conversations, "--users must be at least twice --conversations");
    let run = Run::create(options).await?;
    let measured = run.measure(options).await;
    run.clean_up().await?;
    measured
}

/// What a run creates and deletes: a topic for each of its three measurements, and a schema for two of them. Topic and
/// schema of a measurement have the same name.
struct Run {
    services: Services,
    baseline: String,
    latency: String,
    projection: String,
}

impl Run {
    async fn create(options: &Options) -> anyhow::Result<Self> {
        let id = Uuid::now_v7().simple();
        let name = |measurement: &str| format!("bench_{id}_{measurement}");
        let run = Self {
            services: options.services.clone(),
            baseline: name("baseline"),
            latency: name("latency"),
            projection: name("projection"),
        };
        for topic in [&run.baseline, &run.latency, &run.projection] {
            let spec = TopicSpec { name: topic.clone(), partitions: kafka_baseline::PARTITIONS };
            ensure_topic(&run.services.kafka_brokers, &spec).await?;
        }
        Ok(run)
    }

    async fn measure(&self, options: &Options) -> anyhow::Result<Report> {
        let failures = Arc::new(Failures::default());
        let population = Population { users: options.users, conversations: options.conversations };
        let schedule = Schedule::new(options.rate, options.seconds);
        let brokers = &self.services.kafka_brokers;
        let baseline = kafka_baseline::measure(brokers, &self.baseline, population, schedule, &failures).await?;
        let messages = latency::measure(&self.services, &self.latency, population, options, &failures).await?;
        let rates =
            projection_rate::measure(&self.services, &self.projection, population, options.events, &failures).await?;
        Ok(Report { baseline, messages, rates, failures })
    }

    async fn clean_up(&self) -> anyhow::Result<()> {
        let topics = [self.baseline.as_str(), &self.latency, &self.projection];
        kafka_baseline::delete_topics(&self.services.kafka_brokers, &topics).await?;
        projection_rate::drop_schemas(&self.services.database_url, &[&self.latency, &self.projection]).await
    }
}
