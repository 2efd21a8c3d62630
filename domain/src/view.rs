//! Views: messages, conversations and read marks as the API returns them. Their JSON is part of the API, so a field
//! must never change its name, type or meaning.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::event::{Attachment, ConversationKind, MessageSent, MessageType};
use crate::ids::{ConversationId, MessageId, UserId};
use crate::position::Position;
use crate::timestamp::Timestamp;

/// A message as participants see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Message")]
#[schema(as = Message)]
pub struct MessageView {
    /// The message's id.
    pub id: MessageId,
    /// The conversation of the message.
    pub conversation_id: ConversationId,
    /// The message's number in the conversation: 1, 2, 3 and so on, without gaps. Absent in responses to commands and
    /// in realtime events, because the server assigns it later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 1))]
    #[schema(nullable = false, minimum = 1, example = 3)]
    pub seq: Option<i64>,
    /// The position of the message's last change. Absent in responses to commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Position")]
    #[schema(nullable = false)]
    pub position: Option<Position>,
    /// The author.
    pub sender_id: UserId,
    /// The text. Null if the message is deleted.
    #[schema(required, example = "hi @bob")]
    pub content: Option<String>,
    /// How clients show the message.
    pub message_type: MessageType,
    /// Files that are stored elsewhere.
    pub attachments: Vec<Attachment>,
    /// The participants whom the message mentions.
    pub mentions: Vec<UserId>,
    /// The message that this one replies to.
    #[schema(required)]
    pub reply_to_id: Option<MessageId>,
    /// The reactions by emoji, in the order in which the emoji were first added.
    pub reactions: Vec<ReactionView>,
    /// When the author sent the message.
    pub created_at: Timestamp,
    /// When the author last edited the message.
    #[schema(required)]
    pub edited_at: Option<Timestamp>,
    /// When the author deleted the message.
    #[schema(required)]
    pub deleted_at: Option<Timestamp>,
}

impl MessageView {
    /// A message right after it is sent.
    pub fn sent(conversation_id: ConversationId, sender_id: UserId, sent: MessageSent, at: Timestamp) -> Self {
        Self {
            id: sent.message_id,
            conversation_id,
            seq: None,
            position: None,
            sender_id,
            content: Some(sent.content),
            message_type: sent.message_type,
            attachments: sent.attachments,
            mentions: sent.mentions,
            reply_to_id: sent.reply_to_id,
            reactions: Vec::new(),
            created_at: at,
            edited_at: None,
            deleted_at: None,
        }
    }
}

/// The reactions to a message with one emoji.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Reactions")]
#[schema(as = Reactions)]
pub struct ReactionView {
    /// One emoji, as a string of one grapheme cluster.
    #[schema(example = "👍")]
    pub emoji: String,
    /// The last label that a user added with the emoji.
    #[schema(required)]
    pub label: Option<String>,
    /// The number of users who reacted with the emoji.
    #[schema(minimum = 0, example = 1)]
    pub count: i64,
    /// The first 20 of these users, in the order of their reactions.
    pub user_ids: Vec<UserId>,
}

/// A conversation, as the caller sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Conversation")]
#[schema(as = Conversation)]
pub struct ConversationView {
    /// The conversation's id.
    pub id: ConversationId,
    /// Direct or group.
    #[serde(rename = "type")]
    pub kind: ConversationKind,
    /// The title, if it has one.
    #[schema(required, example = "Lunch")]
    pub title: Option<String>,
    /// The number of participants.
    pub participant_count: i64,
    /// The first 50 participants, the creator first. If you read a single conversation, the page of participants that
    /// you requested.
    pub participants: Vec<ParticipantView>,
    /// The newest message.
    #[schema(required)]
    pub last_message: Option<MessageView>,
    /// The number of other users' messages after the caller's read mark, without deleted ones.
    pub unread_count: i64,
    /// When the conversation was created.
    pub created_at: Timestamp,
    /// When the conversation was last active: the latest of the times of its creation and its messages.
    pub updated_at: Timestamp,
    /// The position of the last change to the conversation, its messages or its read marks.
    pub position: Position,
}

/// How far a participant has read a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReadMark)]
pub struct ReadMarkView {
    /// The conversation's id.
    pub conversation_id: ConversationId,
    /// The participant's user id.
    pub user_id: UserId,
    /// The `seq` of the last message that the participant has read.
    pub last_read_seq: i64,
    /// When the participant read it. Null if the participant has read nothing.
    #[schema(required)]
    pub last_read_at: Option<Timestamp>,
    /// The position of the read mark's last change.
    pub position: Position,
}

/// A participant of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Participant")]
#[schema(as = Participant)]
pub struct ParticipantView {
    /// The participant's user id.
    pub user_id: UserId,
    /// The `seq` of the last message that the participant has read; 0 if none.
    pub last_read_seq: i64,
    /// When the participant read it. Null if the participant has read nothing.
    #[schema(required)]
    pub last_read_at: Option<Timestamp>,
}
