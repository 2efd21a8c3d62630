//! Turns: work that reads much is done for one admin at a time on a process.

use std::time::Duration;

use service::problem::Problem;
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long a request waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

domain::limit_rows! {
    Queries, "wait of a look at a conversation's events, or at its cached views, for its turn: one of each runs at a time on a process", Time TURN_TIMEOUT, "503 `busy`", "Kafka, Redis and Postgres";
}

/// Gives each request its turn.
pub(crate) struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(1))
    }
}

impl Turns {
    /// Waits for the turn of a request. It ends when the result is dropped.
    ///
    /// # Errors
    /// 503 `busy` when the others take too long.
    pub(crate) async fn take(&self) -> Result<SemaphorePermit<'_>, Problem> {
        let permit = tokio::time::timeout(TURN_TIMEOUT, self.0.acquire()).await;
        permit.ok().and_then(Result::ok).ok_or_else(|| Problem::busy(2))
    }
}
