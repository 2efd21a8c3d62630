//! Passes records: remembers each in the tail, and decides whether the relay delivers it.

use std::sync::Arc;

use domain::PositionVector;
use event_log::LogRecord;

use super::dedup::RecentEventIds;
use super::relayed_record::RelayedRecord;
use super::tail::RelayTail;

/// What the relay remembers of the records that it has read.
pub(super) struct Passage {
    tail: Option<Arc<RelayTail>>,
    /// The relay delivers records from these offsets on; all records where there is no tail.
    begin: Option<PositionVector>,
    recent: RecentEventIds,
    partitions: usize,
}

impl Passage {
    /// A relay that has read nothing yet, on a topic with this number of partitions.
    pub(super) fn new(tail: Option<Arc<RelayTail>>, partitions: usize) -> Self {
        let begin = tail.as_ref().map(|tail| tail.relayed());
        Self { tail, begin, recent: RecentEventIds::default(), partitions }
    }

    /// Passes the next record. Returns it if the relay delivers it.
    pub(super) fn pass(&mut self, record: LogRecord) -> Option<Arc<RelayedRecord>> {
        let record = Arc::new(RelayedRecord::new(record));
        // A user may come between an event and its copy, so the relay remembers every event.
        let is_copy = record.event_id(self.partitions).is_some_and(|id| !self.recent.insert(id));
        if let Some(tail) = &self.tail {
            tail.pass(&record, is_copy);
        }
        let is_before_begin = self.begin.as_ref().is_some_and(|begin| begin.includes(record.position()));
        (!is_copy && !is_before_begin).then_some(record)
    }
}
