//! How far the read model in Postgres is, polled once for all requests of a process that wait for it. A poll costs the
//! same however many requests wait, so nobody can make Postgres busy by waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::PositionVector;
use read_model::{ReadModel, ReadModelError};
use tokio::sync::watch;

/// The pause after a poll: at most ten polls a second.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The outcome of a poll. None before the first.
pub(crate) type PollOutcome = Option<Result<PositionVector, Arc<ReadModelError>>>;

/// Polls Postgres while somebody subscribes.
pub(crate) struct OffsetPoll {
    read_model: ReadModel,
    outcome: watch::Sender<PollOutcome>,
    is_running: AtomicBool,
}

impl OffsetPoll {
    pub(crate) fn new(read_model: ReadModel) -> Arc<Self> {
        Arc::new(Self { read_model, outcome: watch::Sender::new(None), is_running: AtomicBool::new(false) })
    }

    /// Starts polling, unless that is under way. The receiver changes with each poll that ends from now on.
    pub(crate) fn subscribe(self: &Arc<Self>) -> watch::Receiver<PollOutcome> {
        let polls = self.outcome.subscribe();
        if !self.is_running.swap(true, Ordering::SeqCst) {
            tokio::spawn(self.clone().run());
        }
        polls
    }

    /// Polls until nobody subscribes any more.
    async fn run(self: Arc<Self>) {
        loop {
            let offsets = self.read_model.offsets().await;
            self.outcome.send_replace(Some(offsets.map_err(Arc::new)));
            tokio::time::sleep(POLL_INTERVAL).await;
            if self.outcome.receiver_count() > 0 {
                continue;
            }
            self.is_running.store(false, Ordering::SeqCst);
            // Somebody may have subscribed in between, and have seen that this task still runs.
            if self.outcome.receiver_count() == 0 || self.is_running.swap(true, Ordering::SeqCst) {
                return;
            }
        }
    }
}
