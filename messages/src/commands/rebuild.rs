//! `messages rebuild --reset`: rebuilds the read model from the topic and shows the progress.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use event_log::TopicWatch;
use indicatif::{ProgressBar, ProgressStyle};
use projector::{FoldedKeys, Projector, RebuildProgress, Stalls};
use read_model::ReadModel;
use service::config::Config;
use service::{lifecycle, telemetry};
use uuid::Uuid;

use crate::process;

/// The interval between two log lines when no terminal shows the progress bar.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

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
    let display = ProgressDisplay::new()?;
    let shutdown = lifecycle::shutdown_on_signal();
    let rebuilt = projector::rebuild(projector, &shutdown, |progress| display.update(progress)).await?;
    display.bar.finish_and_clear();
    tracing::info!(records = rebuilt.total, elapsed = ?started.elapsed(), "the read model is rebuilt to the log's end");
    Ok(())
}

/// A progress bar on a terminal, log lines elsewhere.
struct ProgressDisplay {
    bar: ProgressBar,
    last_logged: Mutex<Instant>,
}

impl ProgressDisplay {
    fn new() -> anyhow::Result<Self> {
        // The bar hides itself without a terminal.
        let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} records · {per_sec} · {eta} left")?;
        let bar = ProgressBar::new(0).with_style(style);
        Ok(Self { bar, last_logged: Mutex::new(Instant::now()) })
    }

    fn update(&self, progress: RebuildProgress) {
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.done);
        let mut last_logged = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::io::stderr().is_terminal() && last_logged.elapsed() >= LOG_INTERVAL {
            *last_logged = Instant::now();
            tracing::info!(done = progress.done, total = progress.total, "rebuilding the read model");
        }
    }
}
