//! A record as the log returns it, and its decoding to an event.

use domain::envelope::{self, DecodeError};
use domain::{Event, EventId, Position};
use rdkafka::message::{BorrowedMessage, Headers, Message};

use crate::partition::partition_of;

/// A record of the log. Its value is not decoded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// The record's partition and offset.
    pub position: Position,
    /// When the log appended the record, in Unix milliseconds.
    pub timestamp_ms: i64,
    /// The record's key: a conversation's id as text.
    pub key: Vec<u8>,
    /// The header `ce_id`, if it holds an id: the event's id, without decoding the value.
    pub event_id: Option<EventId>,
    /// The header `ce_type`, if the record has one: the event's type, without decoding the value.
    pub event_type: Option<String>,
    /// The header `traceparent` (W3C Trace Context), if the record has one: the trace of the command.
    pub traceparent: Option<String>,
    /// The record's value: an encoded event, unless a foreign producer wrote it.
    pub value: Vec<u8>,
}

/// Why a record is not an event. Such a record has no effect.
#[derive(Debug, thiserror::Error)]
pub enum NotAnEvent {
    /// This build can't decode the value.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// The record is on another partition than the other events of its conversation, so its order among them is
    /// undefined.
    #[error("it is on partition {found}, but the events of its conversation are on partition {wanted}")]
    Misplaced {
        /// The record's partition.
        found: i32,
        /// The partition of its conversation.
        wanted: i32,
    },
}

impl LogRecord {
    /// Decodes the record's event, on a topic with this number of partitions.
    ///
    /// # Errors
    /// When this build can't decode the value, or the record is on the wrong partition.
    pub fn event(&self, partitions: usize) -> Result<Event, NotAnEvent> {
        let event = envelope::decode(&self.value)?;
        let wanted = partition_of(event.conversation_id, partitions);
        let found = self.position.partition;
        if found == wanted { Ok(event) } else { Err(NotAnEvent::Misplaced { found, wanted }) }
    }

    /// Copies a record out of librdkafka's memory; without the parts that its headers have, if nobody needs them.
    pub(crate) fn new(message: &BorrowedMessage<'_>, with_headers: bool) -> Self {
        let (mut event_id, mut event_type, mut traceparent) = (None, None, None);
        let headers = with_headers.then(|| message.headers()).flatten();
        for header in headers.into_iter().flat_map(Headers::iter) {
            let Some(value) = header.value.map(String::from_utf8_lossy) else { continue };
            // The first one of a name counts.
            match header.key {
                "ce_id" => event_id = event_id.or_else(|| Some(value.parse().ok().map(EventId))),
                "ce_type" => event_type = event_type.or_else(|| Some(value.into_owned())),
                "traceparent" => traceparent = traceparent.or_else(|| Some(value.into_owned())),
                _ => {}
            }
        }
        Self {
            position: Position { partition: message.partition(), offset: message.offset() },
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key().unwrap_or_default().to_vec(),
            event_id: event_id.flatten(),
            event_type,
            traceparent,
            value: message.payload().unwrap_or_default().to_vec(),
        }
    }
}
