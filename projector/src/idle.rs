//! The pauses between the batches of the healthy partitions, and between reads.

use std::time::Duration;

use tokio::time::Instant;

/// In a steady stream of records, the worker idles after a batch for this many times as long as the batch took. Most of
/// the cost of a batch doesn't grow with its size, and on a busy machine commands and sockets come first.
const IDLE_FACTOR: u32 = 5;
/// The longest time that the worker idles: a reader that waits for a position waits for it, too.
const MAX_IDLE: Duration = Duration::from_millis(250);
/// How much idle time the worker can save up while no records come. It spends the credit before it idles again, so it
/// projects the messages of two users who chat as they come.
const IDLE_CREDIT: Duration = Duration::from_secs(1);

/// The pause after a read that took all records there were. Looking for the next ones costs the same for one or many.
const READ_PAUSE: Duration = Duration::from_millis(5);

/// When the next batch may begin, and when the next records may be read.
pub(crate) struct Idle {
    /// In the past, by the credit that is left.
    until: Instant,
    next_read: Instant,
}

impl Idle {
    /// Begins with the whole credit.
    pub(crate) fn new() -> Self {
        Self { until: Instant::now() - IDLE_CREDIT, next_read: Instant::now() }
    }

    /// When the next batch may begin.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// When the next records may be read.
    pub(crate) fn next_read(&self) -> Instant {
        self.next_read.max(self.until)
    }

    /// Takes note that all records have been read that there were.
    pub(crate) fn after_read(&mut self) {
        self.next_read = Instant::now() + READ_PAUSE;
    }

    /// Takes note of a batch that has just ended, and took so long.
    pub(crate) fn after_batch(&mut self, took: Duration) {
        let began = Instant::now() - took;
        self.until = self.until.max(began - IDLE_CREDIT) + took + (took * IDLE_FACTOR).min(MAX_IDLE);
    }
}

/// A time that a session doesn't live to see.
pub(crate) fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(3_600)
}
