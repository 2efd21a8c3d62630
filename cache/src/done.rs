//! What was done and may not be folded yet, so that who does one thing after the other isn't decided upon from before the
//! first, and isn't told that what they just made isn't there.

use std::collections::HashMap;

use domain::facts::MessageFacts;
use domain::{ConversationId, Event, EventData, MessageId, Position, Timestamp};
use serde::{Deserialize, Serialize};

use crate::admission::Scope;
use crate::connection::{Cache, CacheError};
use crate::keys::{self, Head};

/// The field with the time of a deletion; every other one is an emoji.
const DELETED_AT: &str = "deletedAt";

/// A conversation or message that was begun lately. Noted when its event is on the log; that of a request without a key
/// already on its way there, which costs no round trip: nobody knows a message's id then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Begun {
    /// The partition of its conversation.
    pub partition: i32,
    /// The conversation, or where the message is.
    pub conversation_id: ConversationId,
    /// What is known of a message; none for a conversation.
    pub message: Option<MessageFacts>,
}

impl Begun {
    /// What an event of this partition begins, if it begins something.
    pub fn by(event: &Event, partition: i32) -> Option<Self> {
        let conversation_id = event.conversation_id;
        let message = match &event.data {
            EventData::ConversationCreated { .. } => None,
            EventData::MessageSent(sent) => Some(MessageFacts::of_sent(conversation_id, event.actor_id.clone(), sent)),
            _ => return None,
        };
        Some(Self { partition, conversation_id, message })
    }

    pub(crate) fn json(&self) -> String {
        // Nothing in it can't be written as JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(crate) fn head(&self) -> Head {
        self.message.as_ref().map_or(Head::Conversation(self.conversation_id), |message| Head::Message(message.id))
    }
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
    /// What is known of a conversation or message that was begun lately.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn begun(&self, what: &Head) -> Result<Option<Begun>, CacheError> {
        let mut get = redis::cmd("GET");
        let begun: Option<String> = get.arg(self.keys().begun(what)).query_async(&mut self.connection()).await?;
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

    /// Notes of an event that is on the log at a position: that, for its reservation; what it began, where that isn't
    /// noted yet; and what it did to its message, where commands have to know that.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn note(&self, event: &Event, position: Position) -> Result<(), CacheError> {
        let keys = self.keys();
        let mut note = redis::pipe();
        if let Some(Scope { conversation, actor, key }) = Scope::of(event) {
            note.hset_nx(keys.reservation(conversation, actor, key), "position", position.to_string());
            if let Some(begun) = Begun::by(event, position.partition) {
                note.set_ex(keys.begun(&begun.head()), begun.json(), keys::DONE_TTL.as_secs());
            }
        }
        let done = match &event.data {
            EventData::MessageDeleted { message_id } => {
                Some((*message_id, DELETED_AT, event.occurred_at.as_millis().to_string()))
            }
            EventData::ReactionAdded { message_id, emoji, .. } => Some((*message_id, emoji.as_str(), String::new())),
            _ => None,
        };
        if let Some((message, field, value)) = done {
            let key = keys.done(message);
            // The first deletion is the one that counts.
            note.hset_nx(&key, field, value);
            note.expire(&key, keys::seconds(keys::DONE_TTL));
        }
        if note.is_empty() {
            return Ok(());
        }
        Ok(note.exec_async(&mut self.connection()).await?)
    }
}
