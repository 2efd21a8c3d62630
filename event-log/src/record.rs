//! A record as it is read.

use domain::Position;
use rdkafka::message::{BorrowedMessage, Headers, Message};

/// A record as it was read; its value isn't looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Where it is.
    pub position: Position,
    /// When the log took it, in Unix milliseconds.
    pub timestamp_ms: i64,
    /// Its key: a conversation's id as text.
    pub key: Vec<u8>,
    /// The header `ce_type`, if it has one: the type without looking into the value.
    pub event_type: Option<String>,
    /// The header `traceparent` (W3C Trace Context), if it has one: the trace of the command.
    pub traceparent: Option<String>,
    /// Its value.
    pub value: Vec<u8>,
}

impl LogRecord {
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
            event_type: header("ce_type"),
            traceparent: header("traceparent"),
            value: message.payload().unwrap_or_default().to_vec(),
        }
    }
}
