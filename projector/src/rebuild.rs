//! Building the read model again from the log.

use std::time::Duration;

use domain::PositionVector;
use event_log::LogConsumer;
use tokio_util::sync::CancellationToken;

use crate::worker::{self, Projector};

/// How often a rebuild looks how far it has come.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How far a rebuild has come, in records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebuild {
    /// Folded so far.
    pub done: u64,
    /// On the log when the rebuild began.
    pub total: u64,
}

/// Empties the read model and folds the topic again, up to its end as it is now. `progress` is called a few
/// times a second.
///
/// # Errors
/// When a service doesn't answer, or the shutdown came first: the read model is then incomplete, and the
/// projectors go on from where it is.
pub async fn rebuild(
    projector: Projector,
    shutdown: &CancellationToken,
    progress: impl Fn(Rebuild),
) -> anyhow::Result<Rebuild> {
    let consumer = LogConsumer::new(&projector.brokers, &projector.topic.name, "rebuild")?;
    let end = consumer.end_offsets().await?;
    projector.read_model.reset(projector.topic.id, projector.topic.partitions).await?;
    let stop = shutdown.child_token();
    let worker = tokio::spawn(worker::run(projector.clone(), stop.clone()));
    let outcome = watch(&projector, &end, shutdown, progress).await;
    stop.cancel();
    worker.await?;
    outcome
}

async fn watch(
    projector: &Projector,
    end: &PositionVector,
    shutdown: &CancellationToken,
    progress: impl Fn(Rebuild),
) -> anyhow::Result<Rebuild> {
    loop {
        let offsets = projector.read_model.offsets().await?;
        let now = Rebuild { done: sum(&offsets, end), total: sum(end, end) };
        progress(now);
        if offsets.covers(end) {
            return Ok(now);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = shutdown.cancelled() => anyhow::bail!("stopped before the end; run it again, or let a projector go on"),
        }
    }
}

fn sum(offsets: &PositionVector, end: &PositionVector) -> u64 {
    let capped = offsets.0.iter().zip(&end.0).map(|(offset, end)| (*offset).min(*end));
    capped.map(|offset| u64::try_from(offset).unwrap_or(0)).sum()
}
