//! A record of the log that waits to be folded.

use domain::event::EventData;
use domain::{Event, Position};
use event_log::LogRecord;

/// What an event costs that writes no rows: it is only read.
const COST_OF_SKIPPING: usize = 1;
/// How many rows most events write: the conversation, a message or a read mark, the event's id, and a row to spare.
const COST_OF_AN_EVENT: usize = 4;

/// A record of the log, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRecord {
    /// The record's partition and offset.
    pub position: Position,
    /// The event, or the reason why the record can't be decoded as one.
    pub event: Result<Event, String>,
    /// The length of the record's value.
    pub bytes: usize,
    /// The trace of the command that appended the record (W3C Trace Context), if there is one.
    pub traceparent: Option<String>,
}

impl PendingRecord {
    /// Decodes a record of a topic with this number of partitions.
    pub fn new(record: LogRecord, partitions: usize) -> Self {
        let event = record.event(partitions).map_err(|error| error.to_string());
        Self { position: record.position, event, bytes: record.value.len(), traceparent: record.traceparent }
    }

    /// How many rows folding the record reads and writes at least, as far as the record itself tells: a new
    /// conversation has a row for each participant.
    pub fn cost(&self) -> usize {
        match self.event.as_ref().map(|event| &event.data) {
            Ok(EventData::ConversationCreated { participant_ids, .. }) => COST_OF_AN_EVENT + participant_ids.len(),
            Ok(data) if !data.changes_state() => COST_OF_SKIPPING,
            Ok(_) | Err(_) => COST_OF_AN_EVENT,
        }
    }
}
