//! `messages verify`: compares the read model with the fold of the topic, and prints what differs.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Args;
use event_log::describe_topic;
use projector::{Differences, StepProgress, Verification, VerifyOutcome, ViewComparison};
use read_model::ReadModel;
use replay::SortBudget;
use service::config::Config;
use service::printable::escaped;
use service::{lifecycle, telemetry};

use super::progress::StepDisplay;
use crate::process;

/// The exit code when the read model differs from the fold of the topic.
pub(super) const DIFFERENT: u8 = 3;
/// How many connections to Postgres the command opens at most.
const CONNECTIONS: u32 = 1;

#[derive(Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    config: Config,
}

/// Compares the read model with the fold of the topic.
///
/// # Errors
/// When the comparison can't be finished.
pub(crate) async fn run(arguments: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let config = &arguments.config;
    telemetry::start(&config.log, config.log_format);
    let verification = prepare(config).await?;
    let started = Instant::now();
    let display = StepDisplay::default();
    let shutdown = lifecycle::shutdown_on_signal();
    let cache = process::connect_cache(config)?;
    let comparing = async {
        let outcome = projector::verify(&verification, |progress| display.show(progress.into())).await?;
        let report = |compared| display.show(StepProgress::of_views(compared));
        let views = projector::compare_cached_views(&verification.read_model, &cache, report).await;
        anyhow::Ok((outcome, views))
    };
    let (outcome, views) = tokio::select! {
        compared = comparing => compared?,
        () = shutdown.cancelled() => bail!("stopped before everything was compared; nothing was changed"),
    };
    display.finish();
    tracing::info!(elapsed = ?started.elapsed(), "compared the read model with the log");
    print(&outcome);
    let views = views.context("the cached views were not compared")?;
    print_views(&views);
    let is_equal = outcome.differences.is_empty() && views.stale == 0;
    Ok(if is_equal { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}

async fn prepare(config: &Config) -> anyhow::Result<Verification> {
    let topic = describe_topic(&config.kafka_brokers, &config.kafka_topic).await?;
    let topic = topic.with_context(|| format!("the topic {} doesn't exist", config.kafka_topic))?;
    let read_model = ReadModel::connect(&config.database_url, &config.database_schema, CONNECTIONS)?;
    let pending = read_model.health().await?.pending_migrations;
    ensure!(pending == 0, "the schema {} lacks {pending} migrations: run messages migrate", config.database_schema);
    Ok(Verification {
        brokers: config.kafka_brokers.clone(),
        topic: config.kafka_topic.clone(),
        topic_id: topic.id,
        partitions: topic.partitions,
        read_model,
        budget: SortBudget::in_folder(std::env::temp_dir()),
    })
}

fn print(outcome: &VerifyOutcome) {
    let VerifyOutcome { records, rows, differences, readable_dead_letters } = outcome;
    print_differences(differences);
    if *readable_dead_letters > 0 {
        println!("! dead letters that this version can read: {readable_dead_letters}");
        println!("    → fold them: messages dead-letters retry --all");
    }
    if differences.is_empty() {
        println!("✓ the read model is the fold of the log: {rows} rows, {records} records");
        return;
    }
    print_counts(differences);
    println!(
        "✗ the read model differs from the log: rows {}, in conversations {}",
        differences.rows(),
        differences.conversations
    );
}

fn print_views(views: &ViewComparison) {
    for stale in &views.first {
        println!("✗ {}", escaped(&stale.to_string()));
    }
    if views.restless > 0 {
        println!("! cached views that changed all the time, and were not compared: {}", views.restless);
    }
    if views.has_more {
        println!("! Redis has more cached views; they were not compared");
    }
    match views.stale {
        0 => println!("✓ the cached views are those of the read model: {}", views.compared),
        stale => println!("✗ cached views that are stale: {stale} of {}", views.compared),
    }
}

/// Prints the first differences, one a line.
pub(super) fn print_differences(differences: &Differences) {
    for difference in &differences.first {
        println!("✗ {}", escaped(&difference.to_string()));
    }
}

/// Prints how many rows of each table differ.
pub(super) fn print_counts(differences: &Differences) {
    println!("\n{:<16}{:>10}{:>10}{:>10}", "table", "missing", "added", "changed");
    for (table, counts) in &differences.counts {
        println!("{table:<16}{:>10}{:>10}{:>10}", counts.missing, counts.added, counts.changed);
    }
}
