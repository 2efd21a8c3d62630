//! `messages rebuild --reset`: rebuilds the read model from the topic and shows the progress.

use std::time::Instant;

use clap::Args;
use event_log::TopicWatch;
use projector::{FoldedKeys, Projector, Stalls};
use read_model::ReadModel;
use service::config::Config;
use service::{lifecycle, telemetry};
use uuid::Uuid;

use super::progress::ProgressDisplay;
use crate::process;

#[derive(Args)]
pub(crate) struct RebuildArgs {
    /// Confirm that the read model will be deleted.
    #[arg(long, required = true)]
    reset: bool,
    #[command(flatten)]
    config: Config,
}

/// Empties the read model and folds the topic again, up to the end that it has now.
///
/// # Errors
/// When Kafka or Postgres doesn't answer, or a signal stops the process.
pub(crate) async fn run(arguments: &RebuildArgs) -> anyhow::Result<()> {
    debug_assert!(arguments.reset, "clap requires --reset");
    let config = &arguments.config;
    telemetry::start(&config.log, config.log_format);
    let topic = process::ensure_topics(config).await?.log;
    process::connect_and_migrate(config, 1).await?;
    let projector = Projector {
        brokers: config.kafka_brokers.clone(),
        topic_watch: TopicWatch::start(&config.kafka_brokers, topic.clone())?,
        topic,
        read_model: ReadModel::connect_projector(&config.database_url, &config.database_schema)?,
        cache: process::connect_cache(config)?,
        owner: Uuid::now_v7().to_string(),
        stalls: Stalls::default(),
        folded: FoldedKeys::default(),
    };
    let started = Instant::now();
    let display = ProgressDisplay::new("rebuilding the read model", "records")?;
    let shutdown = lifecycle::shutdown_on_signal();
    let rebuilt =
        projector::rebuild(projector, &shutdown, |progress| display.update(progress.done, progress.total)).await?;
    display.finish();
    tracing::info!(records = rebuilt.total, elapsed = ?started.elapsed(), "the read model is rebuilt to the log's end");
    Ok(())
}
