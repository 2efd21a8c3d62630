//! A record as the row of a table that has the same columns for every type of event.

use domain::event::{Attachment, ConversationKind, EventData, MessageSent, MessageType};
use domain::{ConversationId, Event, EventId, IdempotencyKey, MessageId, Timestamp, UserId};
use serde::{Serialize, Serializer};

use crate::replayed_record::{ContentChoice, ReplayedRecord};

/// A row. What the record's type doesn't have is none. As text, a list is a JSON array.
#[derive(Serialize, Default)]
pub(crate) struct TableRow<'a> {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) logged_at: Option<Timestamp>,
    pub(crate) occurred_at: Option<Timestamp>,
    #[serde(rename = "type")]
    pub(crate) event_type: Option<&'static str>,
    pub(crate) event_id: Option<EventId>,
    pub(crate) conversation_id: Option<ConversationId>,
    pub(crate) actor_id: Option<&'a UserId>,
    pub(crate) message_id: Option<MessageId>,
    pub(crate) content: Option<&'a str>,
    pub(crate) message_type: Option<MessageType>,
    #[serde(serialize_with = "as_json")]
    pub(crate) attachments: Option<&'a [Attachment]>,
    #[serde(serialize_with = "as_json")]
    pub(crate) mentions: Option<&'a [UserId]>,
    pub(crate) reply_to_id: Option<MessageId>,
    pub(crate) conversation_type: Option<ConversationKind>,
    pub(crate) title: Option<&'a str>,
    #[serde(serialize_with = "as_json")]
    pub(crate) participant_ids: Option<&'a [UserId]>,
    pub(crate) emoji: Option<&'a str>,
    pub(crate) label: Option<&'a str>,
    pub(crate) user_id: Option<&'a UserId>,
    pub(crate) idempotency_key: Option<&'a IdempotencyKey>,
    pub(crate) request_hash: Option<&'a str>,
    pub(crate) error: Option<&'a str>,
    #[serde(serialize_with = "as_text")]
    pub(crate) key: Option<&'a [u8]>,
    #[serde(serialize_with = "as_text")]
    pub(crate) value: Option<&'a [u8]>,
}

impl<'a> TableRow<'a> {
    /// The row of a record, with as much of what people wrote as somebody may see.
    pub(crate) fn new(record: &'a ReplayedRecord, content: ContentChoice) -> Self {
        let place = Self {
            partition: record.position.partition,
            offset: record.position.offset,
            logged_at: record.logged_at,
            ..Self::default()
        };
        let row = match &record.event {
            Ok(event) => place.with_event(event),
            Err(reason) => Self {
                error: Some(content.reason(reason)),
                key: Some(&record.key),
                value: Some(&record.value),
                ..place
            },
        };
        match content {
            ContentChoice::Kept => row,
            ContentChoice::LeftOut => Self {
                content: None,
                attachments: None,
                title: None,
                label: None,
                request_hash: None,
                key: None,
                value: None,
                ..row
            },
        }
    }

    fn with_event(self, event: &'a Event) -> Self {
        let row = Self {
            occurred_at: Some(event.occurred_at),
            event_type: Some(event.data.type_name()),
            event_id: Some(event.event_id),
            conversation_id: Some(event.conversation_id),
            actor_id: Some(&event.actor_id),
            message_id: event.data.message_id(),
            idempotency_key: event.request.as_ref().map(|request| &request.key),
            request_hash: event.request.as_ref().map(|request| request.hash.as_str()),
            ..self
        };
        match &event.data {
            EventData::ConversationCreated { kind, title, participant_ids } => Self {
                conversation_type: Some(*kind),
                title: title.as_deref(),
                participant_ids: Some(participant_ids),
                ..row
            },
            EventData::MessageSent(sent) => row.with_message(sent),
            EventData::MessageEdited { content, mentions, .. } => {
                Self { content: Some(content), mentions: Some(mentions), ..row }
            }
            EventData::ReactionAdded { emoji, label, .. } => {
                Self { emoji: Some(emoji), label: label.as_deref(), ..row }
            }
            EventData::ReactionRemoved { emoji, .. } => Self { emoji: Some(emoji), ..row },
            EventData::MentionNotification { user_id, .. } => Self { user_id: Some(user_id), ..row },
            EventData::MessageDeleted { .. }
            | EventData::MessagesRead { .. }
            | EventData::TypingStart {}
            | EventData::TypingStop {} => row,
        }
    }

    fn with_message(self, sent: &'a MessageSent) -> Self {
        Self {
            content: Some(&sent.content),
            message_type: Some(sent.message_type),
            attachments: Some(&sent.attachments),
            mentions: Some(&sent.mentions),
            reply_to_id: sent.reply_to_id,
            ..self
        }
    }
}

fn as_json<T: Serialize, S: Serializer>(list: &Option<&[T]>, serializer: S) -> Result<S::Ok, S::Error> {
    let json = list.map(|list| serde_json::to_string(list).map_err(serde::ser::Error::custom)).transpose()?;
    json.serialize(serializer)
}

fn as_text<S: Serializer>(bytes: &Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    bytes.map(String::from_utf8_lossy).serialize(serializer)
}
