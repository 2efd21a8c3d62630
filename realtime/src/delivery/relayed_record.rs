//! A record on its way from the log to the rooms of this node, and to sockets that come a moment later.

use std::sync::OnceLock;

use domain::{ConversationId, Event, EventId, Position};
use event_log::{LogRecord, NotAnEvent};

/// A record, whose event is decoded at most once, and only if somebody on this node needs it.
pub(crate) struct RelayedRecord {
    log: LogRecord,
    /// The conversation that the record's key names.
    conversation: Option<ConversationId>,
    event: OnceLock<Result<Event, NotAnEvent>>,
}

impl RelayedRecord {
    /// A record as the log returned it.
    pub(super) fn new(log: LogRecord) -> Self {
        let conversation = std::str::from_utf8(&log.key).ok().and_then(|key| key.parse().ok());
        Self { log, conversation, event: OnceLock::new() }
    }

    /// Where the record is on the log.
    pub(crate) fn position(&self) -> Position {
        self.log.position
    }

    /// When the log appended the record, in Unix milliseconds.
    pub(super) fn timestamp_ms(&self) -> i64 {
        self.log.timestamp_ms
    }

    /// The header that names the event's type. The command API sets it on every record.
    pub(super) fn event_type(&self) -> Option<&str> {
        self.log.event_type.as_deref()
    }

    /// The trace of the command.
    pub(super) fn traceparent(&self) -> Option<&str> {
        self.log.traceparent.as_deref()
    }

    /// The id of the record's event; none if the record is no event. The command API sets the header on every record,
    /// which saves decoding the value.
    pub(super) fn event_id(&self, partitions: usize) -> Option<EventId> {
        self.log.event_id.or_else(|| self.event(partitions).as_ref().ok().map(|event| event.event_id))
    }

    /// The record's event, on a topic with this number of partitions.
    ///
    /// # Errors
    /// When the record is not an event.
    pub(crate) fn event(&self, partitions: usize) -> &Result<Event, NotAnEvent> {
        self.event.get_or_init(|| self.log.event(partitions))
    }

    /// Whether the record may create a conversation. A record without the header may.
    pub(super) fn may_create_conversation(&self) -> bool {
        matches!(self.event_type(), Some("CONVERSATION_CREATED") | None)
    }

    /// Whether `is_open` holds for the conversation of the record, or the record may create one. Decided by key and
    /// headers, without decoding the value.
    pub(super) fn may_concern(&self, is_open: impl FnOnce(ConversationId) -> bool) -> bool {
        match self.event_type() {
            Some("MENTION_NOTIFICATION") => false,
            _ => self.may_create_conversation() || self.conversation.is_some_and(is_open),
        }
    }

    /// Whether a socket that comes after the record still needs its frames: those of typing are outdated by then, and
    /// mention notifications have none.
    pub(super) fn outlives_its_delivery(&self) -> bool {
        !matches!(self.event_type(), Some("MENTION_NOTIFICATION" | "TYPING_START" | "TYPING_STOP"))
    }

    /// About how many bytes of memory the record takes. A decoded list of ids takes several times its text.
    pub(super) fn memory(&self) -> usize {
        const FIXED_BYTES: usize = 512;
        const DECODED_FACTOR: usize = 4;
        FIXED_BYTES + self.log.key.len() + self.log.value.len() * (1 + DECODED_FACTOR)
    }
}
