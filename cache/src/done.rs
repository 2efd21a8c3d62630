//! What was done and may not be folded yet, so that who does one thing after the other isn't decided upon from before the
//! first, and isn't told that what they just made isn't there. It is on the log: whoever knows it knows nothing that could
//! turn out to be otherwise.

use std::collections::HashMap;

use domain::facts::MessageFacts;
use domain::{ConversationId, Event, EventData, MessageId, Position, Timestamp};
use redis::Pipeline;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::admission::Scope;
use crate::connection::{Cache, CacheError};
use crate::keys;

/// The field with the time of a deletion; every other one is an emoji.
const DELETED_AT: &str = "deletedAt";

/// A conversation that was created, or a message that was sent, lately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Begun {
    /// Where the event is that began it.
    pub position: Position,
    /// The conversation, or where the message is.
    pub conversation_id: ConversationId,
    /// What is known of a message; none for a conversation.
    pub message: Option<MessageFacts>,
}

/// What was done to a message lately.
#[derive(Debug, Default)]
pub struct Lately(HashMap<String, String>);

impl Lately {
    /// The facts as they are with it.
    #[must_use]
    pub fn added_to(mut self, mut facts: MessageFacts) -> MessageFacts {
        let deleted_at = self.0.remove(DELETED_AT).and_then(|millis| Timestamp::from_millis(millis.parse().ok()?).ok());
        facts.deleted_at = facts.deleted_at.or(deleted_at);
        for emoji in self.0.into_keys() {
            if !facts.emoji.contains(&emoji) {
                facts.emoji.push(emoji);
            }
        }
        facts
    }
}

impl Cache {
    /// What was begun under this id; none when that was long ago, or never.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn begun(&self, id: Uuid) -> Result<Option<Begun>, CacheError> {
        let mut get = redis::cmd("GET");
        let begun: Option<String> = get.arg(self.keys().begun(id)).query_async(&mut self.connection()).await?;
        // From another version, perhaps: then it isn't known.
        Ok(begun.and_then(|begun| serde_json::from_str(&begun).ok()))
    }

    /// What was done to a message lately.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn lately(&self, message: MessageId) -> Result<Lately, CacheError> {
        let mut all = redis::cmd("HGETALL");
        Ok(Lately(all.arg(self.keys().done(message)).query_async(&mut self.connection()).await?))
    }

    /// Notes of an event that is on the log at a position: that, for its reservation; what it began; and what it did to
    /// its message, where commands have to know that.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn note(&self, event: &Event, position: Position, scope: Option<Scope<'_>>) -> Result<(), CacheError> {
        let keys = self.keys();
        let mut note = redis::pipe();
        if let Some(Scope { conversation, actor, key }) = scope {
            note.hset_nx(keys.reservation(conversation, actor, key), "position", position.to_string());
        }
        let conversation_id = event.conversation_id;
        match &event.data {
            EventData::ConversationCreated { .. } => {
                self.note_begun(&mut note, conversation_id.0, &Begun { position, conversation_id, message: None });
            }
            EventData::MessageSent(sent) => {
                let message = Some(MessageFacts::of_sent(conversation_id, event.actor_id.clone(), sent));
                self.note_begun(&mut note, sent.message_id.0, &Begun { position, conversation_id, message });
            }
            EventData::MessageDeleted { message_id } => {
                self.note_done(&mut note, *message_id, DELETED_AT, &event.occurred_at.as_millis().to_string());
            }
            EventData::ReactionAdded { message_id, emoji, .. } => self.note_done(&mut note, *message_id, emoji, ""),
            _ => {}
        }
        if note.is_empty() {
            return Ok(());
        }
        Ok(note.exec_async(&mut self.connection()).await?)
    }

    fn note_begun(&self, note: &mut Pipeline, id: Uuid, begun: &Begun) {
        // Nothing in it can't be written as JSON.
        let Ok(begun) = serde_json::to_string(begun) else { return };
        note.set_ex(self.keys().begun(id), begun, keys::DONE_TTL.as_secs());
    }

    fn note_done(&self, note: &mut Pipeline, message: MessageId, field: &str, value: &str) {
        let key = self.keys().done(message);
        // The first deletion is the one that counts.
        note.hset_nx(&key, field, value);
        note.expire(&key, keys::seconds(keys::DONE_TTL));
    }
}
