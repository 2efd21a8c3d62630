//! The `data` of the answer to a command: a pure function of its event, so that the same can be given again
//! from the log, after any time.

use serde::Serialize;
use utoipa::ToSchema;

use crate::event::{ConversationKind, Event, EventData};
use crate::ids::{ConversationId, MessageId, UserId};
use crate::limits;
use crate::timestamp::Timestamp;
use crate::view::MessageView;

/// The `data`, by what was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ResponseData {
    /// A conversation was begun.
    CreatedConversation(CreatedConversation),
    /// A message was sent.
    SentMessage(Box<MessageView>),
    /// A message was edited.
    EditedMessage(EditedMessage),
    /// A message was deleted.
    DeletedMessage(DeletedMessage),
    /// A reaction was added or taken back.
    ReactionResult(ReactionResult),
    /// Something was read.
    ReadMarkSet(ReadMarkSet),
    /// Somebody is typing, or has stopped.
    TypingAccepted(TypingAccepted),
}

/// A conversation that was begun, or that was there already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedConversation {
    /// The conversation's id.
    pub id: ConversationId,
    /// Direct or group.
    #[serde(rename = "type")]
    pub kind: ConversationKind,
    /// The title, if it has one.
    #[schema(required)]
    pub title: Option<String>,
    /// How many take part.
    pub participant_count: usize,
    /// The first 50 of them, the creator at the head.
    pub participant_ids: Vec<UserId>,
}

/// A message's new content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EditedMessage {
    /// The message.
    pub id: MessageId,
    /// Where it is.
    pub conversation_id: ConversationId,
    /// The new content, whole.
    pub content: String,
    /// Whom it mentions.
    pub mentions: Vec<UserId>,
    /// When it was edited.
    pub edited_at: Timestamp,
}

/// That a message is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeletedMessage {
    /// The message.
    pub id: MessageId,
    /// Where it is.
    pub conversation_id: ConversationId,
    /// When this was asked for; the message itself keeps the time of its first deletion.
    pub deleted_at: Timestamp,
}

/// A reaction that was added or taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReactionResult {
    /// The message.
    pub message_id: MessageId,
    /// One emoji.
    #[schema(example = "👍")]
    pub emoji: String,
    /// The label that was given with it.
    #[schema(required)]
    pub label: Option<String>,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReadMarkSet {
    /// Where.
    pub conversation_id: ConversationId,
    /// Up to this message; null: everything so far.
    #[schema(required)]
    pub message_id: Option<MessageId>,
}

/// Where somebody is typing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TypingAccepted {
    /// Where.
    pub conversation_id: ConversationId,
}

/// The answer's `data`; none for notifications, which no command asks for.
pub fn data(event: &Event) -> Option<ResponseData> {
    let (at, conversation_id) = (event.occurred_at, event.conversation_id);
    Some(match event.data.clone() {
        EventData::ConversationCreated { kind, title, mut participant_ids } => {
            let participant_count = participant_ids.len();
            participant_ids.truncate(limits::PARTICIPANTS_IN_VIEW);
            ResponseData::CreatedConversation(CreatedConversation {
                id: conversation_id,
                kind,
                title,
                participant_count,
                participant_ids,
            })
        }
        EventData::MessageSent(sent) => {
            ResponseData::SentMessage(Box::new(MessageView::sent(conversation_id, event.actor_id.clone(), sent, at)))
        }
        EventData::MessageEdited { message_id: id, content, mentions } => {
            ResponseData::EditedMessage(EditedMessage { id, conversation_id, content, mentions, edited_at: at })
        }
        EventData::MessageDeleted { message_id: id } => {
            ResponseData::DeletedMessage(DeletedMessage { id, conversation_id, deleted_at: at })
        }
        EventData::ReactionAdded { message_id, emoji, label } => {
            ResponseData::ReactionResult(ReactionResult { message_id, emoji, label })
        }
        EventData::ReactionRemoved { message_id, emoji } => {
            ResponseData::ReactionResult(ReactionResult { message_id, emoji, label: None })
        }
        EventData::MessagesRead { message_id } => {
            ResponseData::ReadMarkSet(ReadMarkSet { conversation_id, message_id })
        }
        EventData::TypingStart {} | EventData::TypingStop {} => {
            ResponseData::TypingAccepted(TypingAccepted { conversation_id })
        }
        EventData::MentionNotification { .. } => return None,
    })
}
