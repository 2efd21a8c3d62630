//! Events: what happened, as it stands on the log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{ConversationId, EventId, IdempotencyKey, MessageId, UserId};
use crate::limits;
use crate::timestamp::Timestamp;

/// What happened, who did it, when, and in which conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event's own id.
    pub event_id: EventId,
    /// When the command was accepted.
    pub occurred_at: Timestamp,
    /// Where it happened; also the record's key.
    pub conversation_id: ConversationId,
    /// Who did it.
    pub actor_id: UserId,
    /// The key and hash of the request, when its client gave a key.
    pub request: Option<Request>,
    /// What happened.
    pub data: EventData,
}

/// The idempotency key that a command came with, and the hash of what it asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The client's key; its scope is conversation and actor.
    pub key: IdempotencyKey,
    /// SHA-256 in hex over the validated command's canonical JSON (RFC 8785).
    pub hash: String,
}

/// What happened, by type. Every type is of version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "data", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub enum EventData {
    /// A conversation began. A second one for the same id changes nothing.
    ConversationCreated {
        /// Direct or group.
        #[serde(rename = "type")]
        kind: ConversationKind,
        /// The title, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(extend("x-maxLength" = limits::TITLE_CHARS))]
        title: Option<String>,
        /// Everyone in it, the creator first.
        #[schemars(extend("x-maxItems" = limits::PARTICIPANTS))]
        participant_ids: Vec<UserId>,
    },
    /// A message was sent.
    MessageSent(MessageSent),
    /// The author gave a message another content.
    MessageEdited {
        /// Which message.
        message_id: MessageId,
        /// The new content, whole.
        #[schemars(extend("x-maxLength" = limits::CONTENT_CHARS))]
        content: String,
        /// The participants whom the new content mentions.
        #[serde(default, deserialize_with = "null_as_default")]
        #[schemars(with = "Option<Vec<UserId>>", extend("x-maxItems" = limits::MENTIONS))]
        mentions: Vec<UserId>,
    },
    /// The author deleted a message.
    MessageDeleted {
        /// Which message.
        message_id: MessageId,
    },
    /// A participant reacted to a message.
    ReactionAdded {
        /// Which message.
        message_id: MessageId,
        /// One emoji.
        #[schemars(extend("x-maxBytes" = limits::EMOJI_BYTES))]
        emoji: String,
        /// A label for the emoji; without one, the emoji keeps the one it has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(extend("x-maxLength" = limits::LABEL_CHARS))]
        label: Option<String>,
    },
    /// A participant took a reaction back.
    ReactionRemoved {
        /// Which message.
        message_id: MessageId,
        /// One emoji.
        #[schemars(extend("x-maxBytes" = limits::EMOJI_BYTES))]
        emoji: String,
    },
    /// A participant began to type. Folds to nothing.
    TypingStart {},
    /// A participant stopped typing. Folds to nothing.
    TypingStop {},
    /// A participant has read up to a message.
    MessagesRead {
        /// Up to this message; none: up to whatever came before this event.
        #[serde(default)]
        message_id: Option<MessageId>,
    },
    /// A message mentions a user; follows its `MESSAGE_SENT`. Folds to nothing.
    MentionNotification {
        /// Which message.
        message_id: MessageId,
        /// Who is mentioned.
        user_id: UserId,
    },
}

/// A message as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageSent {
    /// The message's id.
    pub message_id: MessageId,
    /// The text; empty only where there are attachments.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(with = "Option<String>", extend("x-maxLength" = limits::CONTENT_CHARS))]
    pub content: String,
    /// What kind of message it is.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(with = "Option<MessageType>")]
    pub message_type: MessageType,
    /// Files that live elsewhere.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(with = "Option<Vec<Attachment>>", extend("x-maxItems" = limits::ATTACHMENTS))]
    pub attachments: Vec<Attachment>,
    /// The participants whom the content mentions.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(with = "Option<Vec<UserId>>", extend("x-maxItems" = limits::MENTIONS))]
    pub mentions: Vec<UserId>,
    /// The message that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to_id: Option<MessageId>,
}

/// The contract says that absent and null mean the same.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A conversation of exactly two, of which a pair has one; or a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConversationKind {
    /// Two people; a pair has one, ever.
    Direct,
    /// Any number of people.
    Group,
}

/// What a message mainly is, for how it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MessageType {
    /// Text.
    #[default]
    Text,
    /// A picture.
    Image,
    /// A film.
    Video,
    /// Sound.
    Audio,
    /// Any file.
    File,
}

/// A file that lives elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Where it is: an https URL.
    #[schemars(extend("x-maxLength" = limits::URL_CHARS))]
    pub url: String,
    /// What it is called.
    #[schemars(extend("x-maxLength" = limits::NAME_CHARS))]
    pub name: String,
    /// Its media type, such as `image/png`.
    #[schemars(extend("x-maxLength" = limits::NAME_CHARS))]
    pub mime_type: String,
    /// Its size in bytes.
    pub size: u64,
}

impl EventData {
    /// The type as it stands in the envelope and in the header `ce_type`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::ConversationCreated { .. } => "CONVERSATION_CREATED",
            Self::MessageSent(_) => "MESSAGE_SENT",
            Self::MessageEdited { .. } => "MESSAGE_EDITED",
            Self::MessageDeleted { .. } => "MESSAGE_DELETED",
            Self::ReactionAdded { .. } => "REACTION_ADDED",
            Self::ReactionRemoved { .. } => "REACTION_REMOVED",
            Self::TypingStart {} => "TYPING_START",
            Self::TypingStop {} => "TYPING_STOP",
            Self::MessagesRead { .. } => "MESSAGES_READ",
            Self::MentionNotification { .. } => "MENTION_NOTIFICATION",
        }
    }

    /// Whether the fold has anything to do with events of this type.
    pub fn folds(&self) -> bool {
        !matches!(self, Self::TypingStart {} | Self::TypingStop {} | Self::MentionNotification { .. })
    }

    /// The message that the event is about, if it is about one.
    pub fn message_id(&self) -> Option<MessageId> {
        match self {
            Self::MessageSent(sent) => Some(sent.message_id),
            Self::MessageEdited { message_id, .. }
            | Self::MessageDeleted { message_id }
            | Self::ReactionAdded { message_id, .. }
            | Self::ReactionRemoved { message_id, .. }
            | Self::MentionNotification { message_id, .. } => Some(*message_id),
            Self::MessagesRead { message_id } => *message_id,
            Self::ConversationCreated { .. } | Self::TypingStart {} | Self::TypingStop {} => None,
        }
    }
}
