//! The `data` of the response to a command. It must depend on the command's event alone: a retry, however late, gets
//! the same `data` from the event on the log.

use serde::Serialize;
use utoipa::ToSchema;

use crate::event::{ConversationKind, Event, EventData};
use crate::ids::{ConversationId, MessageId, UserId};
use crate::limits;
use crate::timestamp::Timestamp;
use crate::view::MessageView;

/// The `data` of a response, by the kind of command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ResponseData {
    /// The command created a conversation.
    CreatedConversation(CreatedConversation),
    /// The command sent a message.
    SentMessage(Box<MessageView>),
    /// The command edited a message.
    EditedMessage(EditedMessage),
    /// The command deleted a message.
    DeletedMessage(DeletedMessage),
    /// The command added or removed a reaction.
    ReactionResult(ReactionResult),
    /// The command moved the caller's read mark.
    ReadMarkSet(ReadMarkSet),
    /// The command announced that the caller started or stopped typing.
    TypingAccepted(TypingAccepted),
}

/// The conversation that you created. If you already had a direct conversation with this user, that one.
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
    /// The number of participants.
    pub participant_count: usize,
    /// The first 50 participants, the creator first.
    pub participant_ids: Vec<UserId>,
}

/// The new content of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EditedMessage {
    /// The message's id.
    pub id: MessageId,
    /// The conversation of the message.
    pub conversation_id: ConversationId,
    /// The new content. It replaces the old content.
    pub content: String,
    /// The participants whom the new content mentions.
    pub mentions: Vec<UserId>,
    /// When you edited the message.
    pub edited_at: Timestamp,
}

/// The deletion of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeletedMessage {
    /// The message's id.
    pub id: MessageId,
    /// The conversation of the message.
    pub conversation_id: ConversationId,
    /// The time of this deletion. A message that was already deleted keeps the time of its first deletion.
    pub deleted_at: Timestamp,
}

/// The reaction that you added or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReactionResult {
    /// The message with the reaction.
    pub message_id: MessageId,
    /// The emoji of the reaction.
    #[schema(example = "👍")]
    pub emoji: String,
    /// The label that you sent with the emoji.
    #[schema(required)]
    pub label: Option<String>,
}

/// How far you have read a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReadMarkSet {
    /// The conversation that you have read.
    pub conversation_id: ConversationId,
    /// The last message that you have read. Null means the newest message.
    #[schema(required)]
    pub message_id: Option<MessageId>,
}

/// The conversation in which you started or stopped typing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TypingAccepted {
    /// The conversation's id.
    pub conversation_id: ConversationId,
}

/// The `data` of the response to the command that caused this event. None for mention notifications, which have no
/// command of their own.
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
