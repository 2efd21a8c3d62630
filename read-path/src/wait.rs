//! Waiting until the read model includes a position. The projector publishes its progress in Redis, which wakes the
//! waiters. One task polls Postgres for all of them, in case Redis is down or behind. No wait is ever longer than its
//! time-out.

use std::sync::Arc;
use std::time::Duration;

use cache::Progress;
use domain::PositionVector;
use read_model::{ReadModel, ReadModelError};
use service::problem::Problem;

use crate::offset_poll::OffsetPoll;

/// How long a request waits for a position.
pub const MAX_WAIT: Duration = Duration::from_secs(1);
/// How long a waiter relies on Redis alone. The projector is usually only milliseconds behind.
const POLL_AFTER: Duration = Duration::from_millis(100);

domain::limit_rows! {
    Requests, "wait for the projector to reach a position", Time MAX_WAIT, "503 `projection_behind`", "tasks, connections and Postgres";
}

/// Where a position was found to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReachedIn {
    /// The projector has published it in Redis: cached views may include it.
    Redis,
    /// Only Postgres has it. Redis is down or behind, and the request must not use Redis.
    Postgres,
}

/// Why a position was not reached in time.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The projector is behind.
    #[error("the read model did not reach the position in time")]
    Behind,
    /// Redis has not reported the position, and the last poll of Postgres failed.
    #[error(transparent)]
    Postgres(Arc<ReadModelError>),
    /// Redis has not reported the position, and Postgres answered no poll in time.
    #[error("Postgres did not answer in time")]
    NoAnswer,
}

impl From<WaitError> for Problem {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Behind => Self::projection_behind(),
            WaitError::Postgres(error) => crate::postgres_unavailable(&error),
            WaitError::NoAnswer => {
                tracing::warn!("Postgres did not answer in time; the client is told to retry");
                Self::dependency_unavailable()
            }
        }
    }
}

/// Waits for positions. Clones share everything: a process has one, so that all who wait share one poll of Postgres.
#[derive(Clone)]
pub struct PositionWait {
    progress: Progress,
    offset_poll: Arc<OffsetPoll>,
}

impl PositionWait {
    /// Waits by these two sources.
    pub fn new(progress: Progress, read_model: ReadModel) -> Self {
        Self { progress, offset_poll: OffsetPoll::new(read_model) }
    }

    /// Whether the projector is known to have published `position`: waiting for it costs nothing.
    pub fn is_reached(&self, position: &PositionVector) -> bool {
        self.progress.has_reached(position)
    }

    /// Waits at most [`MAX_WAIT`] until the read model includes `position`.
    ///
    /// # Errors
    /// When the read model doesn't include it in time.
    pub async fn reach(&self, position: &PositionVector) -> Result<ReachedIn, WaitError> {
        if self.is_reached(position) {
            return Ok(ReachedIn::Redis);
        }
        let mut last_poll = Err(WaitError::NoAnswer);
        tokio::select! {
            biased;
            published = self.progress.reached(position, MAX_WAIT) => {
                if published {
                    return Ok(ReachedIn::Redis);
                }
            }
            () = self.follow_polls(position, &mut last_poll) => return Ok(ReachedIn::Postgres),
        }
        Err(last_poll.err().unwrap_or(WaitError::Behind))
    }

    /// Ends when Postgres includes `position`. Keeps the outcome of the last poll in `last_poll`.
    async fn follow_polls(&self, position: &PositionVector, last_poll: &mut Result<(), WaitError>) {
        tokio::time::sleep(POLL_AFTER).await;
        let mut polls = self.offset_poll.subscribe();
        while polls.changed().await.is_ok() {
            match &*polls.borrow_and_update() {
                Some(Ok(offsets)) if offsets.covers(position) => return,
                Some(Ok(_)) | None => *last_poll = Ok(()),
                Some(Err(error)) => *last_poll = Err(WaitError::Postgres(error.clone())),
            }
        }
    }
}
