//! Events: what happened, as the log records it. An event that is on the log must stay readable permanently, so a type
//! may gain optional fields and nothing else.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{ConversationId, EventId, IdempotencyKey, MessageId, UserId};
use crate::limits;
use crate::timestamp::Timestamp;

/// An event: what happened in a conversation, who did it, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event's id, unique within its conversation.
    pub event_id: EventId,
    /// When a node accepted the command.
    pub occurred_at: Timestamp,
    /// The conversation of the event. It is also the record's key.
    pub conversation_id: ConversationId,
    /// The user who did it.
    pub actor_id: UserId,
    /// The key and hash of the request, if its client sent an idempotency key.
    pub request: Option<Request>,
    /// What happened, by type.
    pub data: EventData,
}

/// The idempotency key of a command, and the hash of the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The client's key. Its scope is the conversation and the actor.
    pub key: IdempotencyKey,
    /// SHA-256 in hex over the validated command's canonical JSON (RFC 8785).
    pub hash: String,
}

/// What happened, by type. Every type has version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "data", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub enum EventData {
    /// A user created a conversation. A second event for the same conversation has no effect.
    ConversationCreated {
        /// Direct or group.
        #[serde(rename = "type")]
        kind: ConversationKind,
        /// The title, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(extend("x-maxLength" = limits::MAX_TITLE_CHARS))]
        title: Option<String>,
        /// All participants, the creator first.
        #[schemars(extend("x-maxItems" = limits::MAX_PARTICIPANTS))]
        participant_ids: Vec<UserId>,
    },
    /// A participant sent a message.
    MessageSent(MessageSent),
    /// The author edited a message.
    MessageEdited {
        /// The edited message.
        message_id: MessageId,
        /// The new content. It replaces the old content.
        #[schemars(extend("x-maxLength" = limits::MAX_CONTENT_CHARS))]
        content: String,
        /// The participants whom the new content mentions.
        #[serde(default, deserialize_with = "null_as_default")]
        #[schemars(with = "Option<Vec<UserId>>", extend("x-maxItems" = limits::MAX_MENTIONS))]
        mentions: Vec<UserId>,
    },
    /// The author deleted a message.
    MessageDeleted {
        /// The deleted message.
        message_id: MessageId,
    },
    /// A participant reacted to a message.
    ReactionAdded {
        /// The message with the reaction.
        message_id: MessageId,
        /// The emoji that the participant reacted with.
        #[schemars(extend("x-maxBytes" = limits::MAX_EMOJI_BYTES))]
        emoji: String,
        /// A label for the emoji. Without one, the emoji keeps its present label.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(extend("x-maxLength" = limits::MAX_LABEL_CHARS))]
        label: Option<String>,
    },
    /// A participant removed their reaction.
    ReactionRemoved {
        /// The message with the reaction.
        message_id: MessageId,
        /// The emoji of the removed reaction.
        #[schemars(extend("x-maxBytes" = limits::MAX_EMOJI_BYTES))]
        emoji: String,
    },
    /// A participant started typing. The fold ignores it.
    TypingStart {},
    /// A participant stopped typing. The fold ignores it.
    TypingStop {},
    /// A participant has read the conversation up to a message.
    MessagesRead {
        /// The last message that the participant has read. Absent or null means the newest message before this event.
        #[serde(default)]
        message_id: Option<MessageId>,
    },
    /// A message mentions a user. Follows the message's `MESSAGE_SENT`. The fold ignores it.
    MentionNotification {
        /// The message with the mention.
        message_id: MessageId,
        /// The mentioned user.
        user_id: UserId,
    },
}

/// A message, as its sender sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageSent {
    /// The message's id.
    pub message_id: MessageId,
    /// The text. Empty only if the message has attachments.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(with = "Option<String>", extend("x-maxLength" = limits::MAX_CONTENT_CHARS))]
    pub content: String,
    /// How clients show the message.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(with = "Option<MessageType>")]
    pub message_type: MessageType,
    /// Files that are stored elsewhere.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(with = "Option<Vec<Attachment>>", extend("x-maxItems" = limits::MAX_ATTACHMENTS))]
    pub attachments: Vec<Attachment>,
    /// The participants whom the content mentions.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(with = "Option<Vec<UserId>>", extend("x-maxItems" = limits::MAX_MENTIONS))]
    pub mentions: Vec<UserId>,
    /// The message that this one replies to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to_id: Option<MessageId>,
}

/// Reads null as the default value, because absent and null fields mean the same in events.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Whether a conversation belongs to two users or to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConversationKind {
    /// Exactly two participants. Two users have one direct conversation with each other.
    Direct,
    /// Two or more participants, with a title if the creator chose one.
    Group,
}

/// What a message mainly consists of. Clients choose by it how to show the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MessageType {
    /// A text, perhaps with attachments.
    #[default]
    Text,
    /// An image, such as a photo.
    Image,
    /// A video, such as a screen recording.
    Video,
    /// An audio recording.
    Audio,
    /// A file of any other type.
    File,
}

/// Writes the word that stands for it in events.
impl fmt::Display for ConversationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Writes the word that stands for it in events.
impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A file that is stored elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The file's https URL.
    #[schemars(extend("x-maxLength" = limits::MAX_URL_CHARS))]
    pub url: String,
    /// The file's name, as clients show it.
    #[schemars(extend("x-maxLength" = limits::MAX_NAME_CHARS))]
    pub name: String,
    /// The file's media type, such as `image/png`.
    #[schemars(extend("x-maxLength" = limits::MAX_NAME_CHARS))]
    pub mime_type: String,
    /// The file's size in bytes.
    pub size: u64,
}

impl EventData {
    /// The names of all types.
    pub const TYPE_NAMES: [&str; 10] = [
        "CONVERSATION_CREATED",
        "MESSAGE_SENT",
        "MESSAGE_EDITED",
        "MESSAGE_DELETED",
        "REACTION_ADDED",
        "REACTION_REMOVED",
        "TYPING_START",
        "TYPING_STOP",
        "MESSAGES_READ",
        "MENTION_NOTIFICATION",
    ];

    /// The name of the type in the envelope and in the header `ce_type`.
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

    /// Whether events of this type can change the state. The fold ignores the others.
    pub fn changes_state(&self) -> bool {
        !matches!(self, Self::TypingStart {} | Self::TypingStop {} | Self::MentionNotification { .. })
    }

    /// The message that the event names, if it names one.
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
