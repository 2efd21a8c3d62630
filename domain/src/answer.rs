//! The `data` of the answer to a command: a pure function of its event, so that the same can be given again
//! from the log, after any time.

use serde_json::{Value, json};

use crate::event::{Event, EventData};
use crate::limits;
use crate::view::MessageView;

/// The answer's `data`; null for notifications, which no command asks for.
pub fn data(event: &Event) -> Value {
    let (at, conversation_id) = (event.occurred_at, event.conversation_id);
    match &event.data {
        EventData::ConversationCreated { kind, title, participant_ids } => json!({
            "id": conversation_id,
            "type": kind,
            "title": title,
            "participantCount": participant_ids.len(),
            "participantIds": participant_ids.iter().take(limits::PARTICIPANTS_IN_VIEW).collect::<Vec<_>>(),
        }),
        EventData::MessageSent(sent) => {
            json!(MessageView::sent(conversation_id, event.actor_id.clone(), sent.clone(), at))
        }
        EventData::MessageEdited { message_id, content, mentions } => json!({
            "id": message_id,
            "conversationId": conversation_id,
            "content": content,
            "mentions": mentions,
            "editedAt": at,
        }),
        EventData::MessageDeleted { message_id } => {
            json!({"id": message_id, "conversationId": conversation_id, "deletedAt": at})
        }
        EventData::ReactionAdded { message_id, emoji, label } => {
            json!({"messageId": message_id, "emoji": emoji, "label": label})
        }
        EventData::ReactionRemoved { message_id, emoji } => {
            json!({"messageId": message_id, "emoji": emoji, "label": null})
        }
        EventData::MessagesRead { message_id } => {
            json!({"conversationId": conversation_id, "messageId": message_id})
        }
        EventData::TypingStart {} | EventData::TypingStop {} => json!({"conversationId": conversation_id}),
        EventData::MentionNotification { .. } => Value::Null,
    }
}
