//! Resetting the read model: empties it and folds the topic from its beginning. Running projectors help.

use std::time::Duration;

use domain::PositionVector;
use event_log::LogConsumer;
use tokio_util::sync::CancellationToken;

use crate::complete_log::{ensure_complete, ensure_same_partitions};
use crate::projector::Projector;
use crate::worker;

/// The pause between two reports of the progress.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// The progress of a reset, in records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetProgress {
    /// How many of them are folded.
    pub done: u64,
    /// How many records were on the log when the reset began.
    pub total: u64,
}

/// Empties the read model and folds the topic again, up to its end as it is now. Calls `report` a few times a second.
///
/// # Errors
/// When the log no longer has its first records; nothing is changed then. When Kafka or Postgres doesn't answer, or
/// `shutdown` comes first: the read model is then incomplete, and the next projector continues from its offsets.
pub async fn reset(
    projector: Projector,
    shutdown: &CancellationToken,
    report: impl Fn(ResetProgress),
) -> anyhow::Result<ResetProgress> {
    let consumer = LogConsumer::new(&projector.brokers, &projector.topic.name, "rebuild");
    ensure_complete(&consumer).await?;
    let topic = &projector.topic;
    if let Some(folded) = projector.read_model.folded_topic().await?.filter(|folded| folded.id == topic.id) {
        ensure_same_partitions(&topic.name, topic.partitions, &folded)?;
    }
    let end = consumer.end_offsets().await?;
    projector.read_model.reset(projector.topic.id, projector.topic.partitions).await?;
    let stop = shutdown.child_token();
    let worker = tokio::spawn(worker::run(projector.clone(), stop.clone()));
    let outcome = wait_until_folded(&projector, &end, shutdown, report).await;
    stop.cancel();
    worker.await?;
    outcome
}

async fn wait_until_folded(
    projector: &Projector,
    end: &PositionVector,
    shutdown: &CancellationToken,
    report: impl Fn(ResetProgress),
) -> anyhow::Result<ResetProgress> {
    loop {
        let offsets = projector.read_model.offsets().await?;
        let progress = ResetProgress { done: count_records(&offsets, end), total: count_records(end, end) };
        report(progress);
        if offsets.covers(end) {
            return Ok(progress);
        }
        tokio::select! {
            () = tokio::time::sleep(REPORT_INTERVAL) => {}
            () = shutdown.cancelled() => {
                anyhow::bail!("stopped before the end of the log; run the rebuild again, or let a projector continue");
            }
        }
    }
}

/// How many offsets of all partitions are below both `offsets` and `end`.
fn count_records(offsets: &PositionVector, end: &PositionVector) -> u64 {
    let capped = offsets.0.iter().zip(&end.0).map(|(offset, end)| (*offset).min(*end));
    capped.map(|offset| u64::try_from(offset).unwrap_or(0)).sum()
}
