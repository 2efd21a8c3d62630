//! The tail of one partition.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::delivery::relayed_record::RelayedRecord;

/// From this age of a record on that the projector hasn't published, the projector lags on the record's partition.
/// Usually it takes milliseconds.
pub(super) const LAGS_AFTER: Duration = Duration::from_secs(1);

/// A record that the relay has passed.
pub(super) struct TailEntry {
    pub(super) offset: i64,
    pub(super) passed_at: Instant,
    /// None if no socket that comes later needs it.
    pub(super) record: Option<Arc<RelayedRecord>>,
}

impl TailEntry {
    fn memory(&self) -> usize {
        size_of::<Self>() + self.record.as_ref().map_or(0, |record| record.memory())
    }
}

/// What the relay keeps of a partition for sockets that come later.
pub(super) struct PartitionTail {
    /// The next offset that the relay looks at: it has relayed everything below, or is relaying it.
    pub(super) relayed: i64,
    /// The next offset that the tail reads. It is below `relayed` until the tail has what the relay began after.
    pub(super) next: i64,
    /// The first offset of which the tail has every record.
    start: i64,
    /// The next offset that the projector has published.
    pub(super) projected: i64,
    pub(super) entries: VecDeque<TailEntry>,
    pub(super) bytes: usize,
}

impl PartitionTail {
    /// An empty tail, of a relay that begins at the offset `end` and reads from the offset `from` on.
    pub(super) fn new(from: i64, end: i64) -> Self {
        Self { relayed: end, next: from, start: from, projected: 0, entries: VecDeque::new(), bytes: 0 }
    }

    /// The first offset from which on a socket can follow the tail.
    pub(super) fn available_from(&self) -> i64 {
        if self.next < self.relayed { self.relayed } else { self.start }
    }

    fn index_of(&self, offset: i64) -> usize {
        self.entries.partition_point(|entry| entry.offset < offset)
    }

    /// The entries from an offset on.
    pub(super) fn since(&self, offset: i64) -> impl Iterator<Item = &TailEntry> {
        self.entries.range(self.index_of(offset)..)
    }

    /// Whether the tail has an entry that the projector has published.
    pub(super) fn has_projected(&self) -> bool {
        self.entries.front().is_some_and(|oldest| oldest.offset < self.projected)
    }

    /// Whether the projector takes long for a record that the relay has passed.
    pub(super) fn lags(&self, now: Instant) -> bool {
        let oldest = self.entries.get(self.index_of(self.projected));
        oldest.is_some_and(|oldest| now.duration_since(oldest.passed_at) >= LAGS_AFTER)
    }

    pub(super) fn push(&mut self, entry: TailEntry) {
        self.next = entry.offset + 1;
        self.relayed = self.relayed.max(self.next);
        self.bytes += entry.memory();
        self.entries.push_back(entry);
    }

    pub(super) fn drop_oldest(&mut self) {
        if let Some(oldest) = self.entries.pop_front() {
            self.bytes -= oldest.memory();
            self.start = oldest.offset + 1;
        }
    }

    /// Drops the entries below an offset.
    pub(super) fn drop_below(&mut self, offset: i64) {
        while self.entries.front().is_some_and(|entry| entry.offset < offset) {
            self.drop_oldest();
        }
    }
}
