//! How many presence queries a user may send, over all their sockets on this node.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// How many queries of a user may be open.
const CONCURRENT_QUERIES: usize = 4;
/// The interval between two queries that a user may keep up permanently: 10 queries a second.
const QUERY_INTERVAL: Duration = Duration::from_millis(100);
/// How many queries may come at once, for example when many pages of a user reconnect.
const BURST: u32 = 200;

domain::limit_rows! {
    Sockets, "`presence:get` of a user on a node that wait for their acknowledgement", Count CONCURRENT_QUERIES, "an acknowledgement with `too_many_questions`", "Redis";
    Sockets, "`presence:get` of a user on a node at once", Count BURST, "an acknowledgement with `too_many_questions`", "Redis";
    Sockets, "time between two `presence:get` of a user, in the long run", Time QUERY_INTERVAL, "an acknowledgement with `too_many_questions`", "Redis";
}

/// The limit of one user.
pub(super) struct QueryLimit {
    open: Semaphore,
    /// When the last query so far would have come if all were [`QUERY_INTERVAL`] apart.
    due: Mutex<Instant>,
}

impl QueryLimit {
    /// The limit of a user who has asked nothing yet.
    pub(super) fn new() -> Self {
        Self { open: Semaphore::new(CONCURRENT_QUERIES), due: Mutex::new(Instant::now()) }
    }

    /// Begins a query, which is open until the permit is dropped. None if the user asks too much.
    pub(super) fn begin(&self) -> Option<SemaphorePermit<'_>> {
        let permit = self.open.try_acquire().ok()?;
        let now = Instant::now();
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (*due).max(now) + QUERY_INTERVAL;
        if next > now + QUERY_INTERVAL * BURST {
            return None;
        }
        *due = next;
        Some(permit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_user_may_ask_in_a_burst_and_then_ten_times_a_second_and_four_times_at_once() {
        let limit = QueryLimit::new();
        let open: Vec<_> = (0..CONCURRENT_QUERIES).map(|_| limit.begin().unwrap()).collect();
        assert!(limit.begin().is_none());
        drop(open);
        let left = BURST - CONCURRENT_QUERIES as u32;
        assert!((0..left).all(|_| limit.begin().is_some()));
        assert!(limit.begin().is_none(), "the burst is used up");
        for _ in 0..100 {
            tokio::time::advance(QUERY_INTERVAL).await;
            assert!(limit.begin().is_some());
            assert!(limit.begin().is_none());
        }
    }
}
