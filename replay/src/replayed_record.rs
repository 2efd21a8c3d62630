//! A record as it is replayed: with its place in the log, and as an event if it is one.

use std::collections::BTreeSet;

use domain::{ConversationId, Event, Position, Timestamp, UserId};
use event_log::LogRecord;
use serde::Serialize;

/// What the error of a record says where nobody may see content: the reason could quote some.
const HIDDEN_REASON: &str = "this record is no event";

/// A record of the log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReplayedRecord {
    /// Its partition and offset.
    pub(crate) position: Position,
    /// When the log took it.
    pub(crate) logged_at: Option<Timestamp>,
    /// Its key, as another program may have written it.
    pub(crate) key: Vec<u8>,
    /// What Kafka returned as the value, event or not.
    pub(crate) value: Vec<u8>,
    /// The event, or why it is none.
    pub(crate) event: Result<Event, String>,
}

impl ReplayedRecord {
    /// Decodes a record of a topic with this number of partitions.
    pub(crate) fn new(record: LogRecord, partitions: usize) -> Self {
        let event = record.event(partitions).map_err(|error| error.to_string());
        let LogRecord { position, timestamp_ms, key, value, .. } = record;
        Self { position, logged_at: Timestamp::from_millis(timestamp_ms).ok(), key, value, event }
    }
}

/// What is replayed of the content, which is what people wrote: texts, titles, labels, attachments. What is derived from it
/// by hashing counts as content, too: short texts can be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ContentChoice {
    /// All of it.
    #[default]
    Kept,
    /// Nothing of it, and of a record that is no event only where it is.
    LeftOut,
}

impl ContentChoice {
    /// Why a record is no event, as far as one may see that.
    pub(crate) fn reason(self, reason: &str) -> &str {
        match self {
            Self::Kept => reason,
            Self::LeftOut => HIDDEN_REASON,
        }
    }
}

/// Which records are replayed, and how much of them.
#[derive(Debug, Clone)]
pub struct RecordChoice {
    /// The number of partitions of the topic. A record that is on another one than its conversation's is no event.
    pub partitions: usize,
    /// The records.
    pub filter: RecordFilter,
    /// How much of what people wrote.
    pub content: ContentChoice,
}

/// Which records are replayed. A record must be of one of the types, conversations and actors; an empty set allows all. A
/// record that is no event has none of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RecordFilter {
    /// The names of their types.
    pub types: BTreeSet<String>,
    /// The ids of their conversations.
    pub conversations: BTreeSet<ConversationId>,
    /// The users who acted.
    pub actors: BTreeSet<UserId>,
}

impl RecordFilter {
    /// Whether a record is replayed.
    pub(crate) fn includes(&self, record: &ReplayedRecord) -> bool {
        let Self { types, conversations, actors } = self;
        match &record.event {
            Ok(event) => {
                (types.is_empty() || types.contains(event.data.type_name()))
                    && (conversations.is_empty() || conversations.contains(&event.conversation_id))
                    && (actors.is_empty() || actors.contains(&event.actor_id))
            }
            Err(_) => types.is_empty() && conversations.is_empty() && actors.is_empty(),
        }
    }
}
