//! `messages rebuild --reset`, with its progress.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context;
use cache::Cache;
use indicatif::{ProgressBar, ProgressStyle};
use projector::{Projector, RebuildProgress};
use read_model::ReadModel;
use service::config::Config;
use service::lifecycle;
use uuid::Uuid;

use crate::process::{self, POSTGRES_HINT};

/// How often a line is logged where there is no terminal.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// Empties the read model and folds the topic again, up to its end as it is now.
///
/// # Errors
/// When a service doesn't answer, or the process is told to stop.
pub(crate) async fn run(config: &Config) -> anyhow::Result<()> {
    let topic = process::topic(config).await?;
    let read_model = ReadModel::connect(&config.database_url, &config.database_schema, config.database_connections)?;
    read_model.migrate().await.context(POSTGRES_HINT)?;
    let projector = Projector {
        brokers: config.kafka_brokers.clone(),
        topic_watch: topic.watch(&config.kafka_brokers)?,
        topic,
        read_model,
        cache: Cache::connect(&config.redis_url, &config.redis_prefix)?,
        owner: Uuid::now_v7().to_string(),
    };
    let started = Instant::now();
    let shown = Shown::new()?;
    let done = projector::rebuild(projector, &lifecycle::shutdown_on_signal(), |progress| shown.show(progress)).await?;
    shown.bar.finish_and_clear();
    tracing::info!(records = done.total, elapsed = ?started.elapsed(), "the read model is folded up to the log's end");
    Ok(())
}

/// A bar on a terminal, log lines elsewhere.
struct Shown {
    bar: ProgressBar,
    logged: Mutex<Instant>,
}

impl Shown {
    fn new() -> anyhow::Result<Self> {
        // Hidden by itself where there is no terminal.
        let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} records · {per_sec} · {eta} left")?;
        let bar = ProgressBar::new(0).with_style(style);
        Ok(Self { bar, logged: Mutex::new(Instant::now()) })
    }

    fn show(&self, progress: RebuildProgress) {
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.done);
        let mut logged = self.logged.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !std::io::stderr().is_terminal() && logged.elapsed() >= LOG_EVERY {
            *logged = Instant::now();
            tracing::info!(done = progress.done, total = progress.total, "folding");
        }
    }
}
