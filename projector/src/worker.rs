//! The worker: leases partitions, and folds the log into the read model batch by batch.
//!
//! # The timeline of a batch
//!
//! | When | What happens |
//! |---|---|
//! | lease | Once a second, [`Session`] renews the leases, and takes or gives up partitions. It also publishes the progress again, and retries dead letters. |
//! | read | The worker waits for a record, and takes all that have come, of each partition as many as there is room for. |
//! | choose | [`Backlog`](crate::folding::Backlog) takes records of all healthy partitions in turns, until the budget of the batch is spent. |
//! | load | `ReadModel::load` reads the part of the state that the events can touch. What costs too much now comes in the next batch. |
//! | fold | `domain::fold` changes the state in memory. |
//! | commit | `ReadModel::commit` writes the rows and moves the offsets, in one transaction, if the offsets are still the expected ones. |
//! | publish | Redis learns which cached views are stale, and then the new offsets. |
//! | forget | Once a second, Redis learns of which events it needn't keep reservations and pending entities any longer. |
//! | idle | If no more records wait, the worker pauses. What comes in the meantime makes up the next batch. |
//!
//! An example: the worker owns partition 3, whose next offset is 42. It takes the records at offsets 42 to 44, folds
//! them, and commits the rows with the offset 45. Then it publishes 45, which wakes the readers that wait for `3:44`.
//!
//! *The worker dies before the commit.* Nothing of the batch is written. The next owner of the partition reads from
//! offset 42 again.
//!
//! *The worker dies after the commit, or Redis fails.* Redis still knows 42 and serves no view as fresher. The next
//! renewal of the leases, by this worker or by the next owner, finds that Redis is behind, and invalidates what changed
//! since 42.
//!
//! *Two workers believe that they own partition 3.* The second commit finds another offset than 42 and is fenced off.
//! Its session ends and starts again from the offsets in Postgres.
//!
//! *Postgres times out, or refuses the batch.* Its partitions are set apart: each gets batches of its own, beside those
//! of the other partitions, and smaller ones each time, until one succeeds. If Postgres can't be reached or is read-only,
//! the session ends.
//!
//! *A rebuild replaces the read model.* The commit is fenced off, because its generation isn't the live one. The next
//! session opens the new generation at once, and goes on with the reader of the last one.
//!
//! The worker must never keep an offset that Postgres doesn't have, and must never publish before the commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event_log::LogConsumer;
use read_model::ReadModel;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::lag::{self, LogEnd};
use crate::projector::Projector;
use crate::session::Session;

/// The backoff before any failure. Each failure doubles it, and the worker then pauses for as long.
const INITIAL_BACKOFF: Duration = Duration::from_millis(50);
/// The longest pause after a failure. A session that lasted longer than this resets the backoff.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// How often a projector looks for generations that aren't in use any more.
const GENERATIONS_INTERVAL: Duration = Duration::from_secs(60);

/// Projects until `shutdown`. After a failure it starts again, with a growing pause, from what is committed.
pub async fn run(projector: Projector, shutdown: CancellationToken) {
    let (owned_sender, owned) = watch::channel(BTreeMap::new());
    let (log_end_sender, log_end) = watch::channel(LogEnd::default());
    let log = Arc::new(LogConsumer::new(&projector.brokers, &projector.topic.name, "projector-look-ups"));
    tokio::spawn(lag::observe(projector.clone(), log.clone(), owned, log_end_sender));
    tokio::spawn(projector.folded.clone().run(projector.cache.clone(), shutdown.clone()));
    tokio::spawn(drop_unused_generations(projector.read_model.clone(), shutdown.clone()));
    let mut backoff = INITIAL_BACKOFF;
    // What is left of the last session.
    let mut reader = None;
    while !shutdown.is_cancelled() {
        let started = Instant::now();
        let failure = match Session::open(&projector, log.clone(), &owned_sender, reader.take()).await {
            Ok(mut session) => match session.work(&shutdown, log_end.clone()).await {
                Ok(()) => break,
                Err(error) => {
                    let (generation, warm) = session.into_parts();
                    let live = projector.read_model.generation().await;
                    if live.is_ok_and(|live| live.is_some_and(|live| live != generation)) {
                        tracing::info!("a rebuilt generation of the read model is in use; going on with it");
                        reader = Some(warm);
                        continue;
                    }
                    error.context("projecting failed; starting again from the committed offsets")
                }
            },
            Err(error) => error.context("starting to project failed; retrying"),
        };
        let failure = format!("{failure:#}");
        tracing::warn!("{failure}");
        projector.stalls.failed(&owned_sender.borrow().keys().copied().collect::<Vec<_>>(), &failure);
        backoff = next_backoff(backoff, started.elapsed());
        tokio::select! {
            () = tokio::time::sleep(backoff) => {}
            () = shutdown.cancelled() => {}
        }
    }
    if let Err(error) = projector.read_model.release_leases(&projector.owner).await {
        tracing::info!(%error, "releasing the leases failed; they expire by themselves");
    }
}

/// Drops what rebuilds don't need any more, until the shutdown.
async fn drop_unused_generations(read_model: ReadModel, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(GENERATIONS_INTERVAL)).await.is_some() {
        if let Err(error) = read_model.drop_unused_generations().await {
            tracing::debug!(%error, "dropping retired generations failed; retrying in a minute");
        }
    }
}

/// The pause after a session that has lasted so long, given the pause before it.
fn next_backoff(previous: Duration, lasted: Duration) -> Duration {
    if lasted > MAX_BACKOFF { INITIAL_BACKOFF } else { (previous * 2).min(MAX_BACKOFF) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_fail_at_once_for_hours_never_stop_the_worker() {
        let mut backoff = INITIAL_BACKOFF;
        for _ in 0..10_000 {
            backoff = next_backoff(backoff, Duration::from_millis(10));
        }
        assert_eq!(backoff, MAX_BACKOFF);
        assert_eq!(next_backoff(backoff, MAX_BACKOFF * 2), INITIAL_BACKOFF);
    }
}
