//! What readers see: the JSON of messages and conversations.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::event::{Attachment, ConversationKind, MessageSent, MessageType};
use crate::ids::{ConversationId, MessageId, UserId};
use crate::position::Position;
use crate::timestamp::Timestamp;

/// A message as readers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Message)]
pub struct MessageView {
    /// The message's id.
    pub id: MessageId,
    /// Where it is.
    pub conversation_id: ConversationId,
    /// Its place in the conversation, 1..n without holes. Assigned by the fold, so answers to commands and
    /// live deliveries don't have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, example = 3)]
    pub seq: Option<i64>,
    /// The position of its last change. Answers to commands don't have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub position: Option<Position>,
    /// Who wrote it.
    pub sender_id: UserId,
    /// The text; none once the message is deleted.
    #[schema(required, example = "hi @bob")]
    pub content: Option<String>,
    /// What kind of message it is.
    pub message_type: MessageType,
    /// Files that live elsewhere.
    pub attachments: Vec<Attachment>,
    /// Whom it mentions.
    pub mentions: Vec<UserId>,
    /// The message that it answers.
    #[schema(required)]
    pub reply_to_id: Option<MessageId>,
    /// Reactions by emoji, in the order in which the emoji first came.
    pub reactions: Vec<ReactionView>,
    /// When it was sent.
    pub created_at: Timestamp,
    /// When it was last edited.
    #[schema(required)]
    pub edited_at: Option<Timestamp>,
    /// When it was deleted.
    #[schema(required)]
    pub deleted_at: Option<Timestamp>,
}

impl MessageView {
    /// A message as it was sent, before anything happened to it.
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

/// Everyone who reacted to a message with one emoji.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Reactions)]
pub struct ReactionView {
    /// The emoji.
    #[schema(example = "👍")]
    pub emoji: String,
    /// The label given last, if any was.
    #[schema(required)]
    pub label: Option<String>,
    /// How many users.
    #[schema(minimum = 0, example = 1)]
    pub count: i64,
    /// The first of them, by when they reacted.
    pub user_ids: Vec<UserId>,
}

/// A conversation as one of its participants sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
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
    /// How many take part.
    pub participant_count: i64,
    /// The first of them, the creator at the head.
    pub participants: Vec<ParticipantView>,
    /// The newest message.
    #[schema(required)]
    pub last_message: Option<MessageView>,
    /// Messages of others, not deleted, after the reader's read mark.
    pub unread_count: i64,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last active: its creation or its newest message.
    pub updated_at: Timestamp,
    /// The position of the last change to it or to anything in it.
    pub position: Position,
}

/// How far a participant has read, by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReadMark)]
pub struct ReadMarkView {
    /// Where.
    pub conversation_id: ConversationId,
    /// Who.
    pub user_id: UserId,
    /// The `seq` up to which they have read.
    pub last_read_seq: i64,
    /// When that was.
    #[schema(required)]
    pub last_read_at: Option<Timestamp>,
    /// The position of the mark's last change.
    pub position: Position,
}

/// A participant, and how far they have read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Participant)]
pub struct ParticipantView {
    /// Who.
    pub user_id: UserId,
    /// The `seq` up to which they have read; 0 for nothing.
    pub last_read_seq: i64,
    /// When that was.
    #[schema(required)]
    pub last_read_at: Option<Timestamp>,
}
