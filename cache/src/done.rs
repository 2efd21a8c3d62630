//! What was done and may not be folded yet, so that who does one thing after the other isn't decided upon from before the
//! first, and isn't told that what they just made isn't there.

use std::collections::HashMap;

use domain::facts::MessageFacts;
use domain::{ConversationId, Event, EventData, MessageId, Position, Timestamp, UserId};
use serde::{Deserialize, Serialize};

use crate::admission::Scope;
use crate::connection::{Cache, CacheError};
use crate::keys::{self, Head};

/// The field with the time of a deletion; every other one is an emoji.
const DELETED_AT: &str = "deletedAt";

/// A conversation or message that was begun lately. Noted when its event is on the log; that of a request without a key
/// already on its way there, which costs no round trip: nobody knows a message's id then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Begun {
    /// A conversation.
    Conversation {
        /// Which.
        id: ConversationId,
        /// Where it is on the log.
        partition: i32,
        /// Everyone in it: as long as the read model doesn't know another with its id.
        participant_ids: Vec<UserId>,
    },
    /// A message.
    Message {
        /// Where its conversation is on the log.
        partition: i32,
        /// What is known of it.
        facts: MessageFacts,
    },
}

impl Begun {
    /// What an event of this partition begins, if it begins something.
    pub fn by(event: &Event, partition: i32) -> Option<Self> {
        match &event.data {
            EventData::ConversationCreated { participant_ids, .. } => {
                let (id, participant_ids) = (event.conversation_id, participant_ids.clone());
                Some(Self::Conversation { id, partition, participant_ids })
            }
            EventData::MessageSent(sent) => {
                let facts = MessageFacts::of_sent(event.conversation_id, event.actor_id.clone(), sent);
                Some(Self::Message { partition, facts })
            }
            _ => None,
        }
    }

    pub(crate) fn head(&self) -> Head {
        match self {
            Self::Conversation { id, .. } => Head::Conversation(*id),
            Self::Message { facts, .. } => Head::Message(facts.id),
        }
    }

    pub(crate) fn json(&self) -> String {
        // Nothing in it can't be written as JSON.
        serde_json::to_string(self).unwrap_or_default()
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
