//! A record as it is read.

use domain::envelope::{self, DecodeError};
use domain::{Event, EventId, Position};
use rdkafka::message::{BorrowedMessage, Headers, Message};

use crate::partition::partition_for;

/// A record as it was read; its value isn't looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Where it is.
    pub position: Position,
    /// When the log took it, in Unix milliseconds.
    pub timestamp_ms: i64,
    /// Its key: a conversation's id as text.
    pub key: Vec<u8>,
    /// The header `ce_id`, if it has one: the event's id without looking into the value.
    pub event_id: Option<EventId>,
    /// The header `ce_type`, if it has one: the type without looking into the value.
    pub event_type: Option<String>,
    /// The header `traceparent` (W3C Trace Context), if it has one: the trace of the command.
    pub traceparent: Option<String>,
    /// Its value.
    pub value: Vec<u8>,
}

/// Why a record counts for nothing.
#[derive(Debug, thiserror::Error)]
pub enum NotAnEvent {
    /// Its value can't be read.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// It is where its conversation's events aren't: it has no place among them.
    #[error("it is on partition {found}, but the events of its conversation are on partition {wanted}")]
    Misplaced {
        /// Where it is.
        found: i32,
        /// Where it would belong.
        wanted: i32,
    },
}

impl LogRecord {
    /// The event that the record is, on a topic of so many partitions.
    ///
    /// # Errors
    /// When it is none that this build knows.
    pub fn event(&self, partitions: usize) -> Result<Event, NotAnEvent> {
        let event = envelope::decode(&self.value)?;
        let wanted = partition_for(event.conversation_id.to_string().as_bytes(), partitions);
        let found = self.position.partition;
        if found == wanted { Ok(event) } else { Err(NotAnEvent::Misplaced { found, wanted }) }
    }

    pub(crate) fn new(message: &BorrowedMessage<'_>) -> Self {
        let header = |name: &str| {
            let headers = message.headers()?;
            let found = headers.iter().find(|header| header.key == name)?;
            Some(String::from_utf8_lossy(found.value?).into_owned())
        };
        Self {
            position: Position { partition: message.partition(), offset: message.offset() },
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key().unwrap_or_default().to_vec(),
            event_id: header("ce_id").and_then(|id| id.parse().ok()).map(EventId),
            event_type: header("ce_type"),
            traceparent: header("traceparent"),
            value: message.payload().unwrap_or_default().to_vec(),
        }
    }
}
