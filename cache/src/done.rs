//! What was done to messages and may not be folded yet, so that who does one thing after the other isn't decided upon
//! from before the first. It is on the log: whoever knows it knows nothing that could turn out to be otherwise.

use std::collections::HashMap;

use domain::facts::MessageFacts;
use domain::{Event, EventData, Timestamp};

use crate::connection::{Cache, CacheError};
use crate::keys;

/// The field with the time of a deletion; every other one is an emoji.
const DELETED_AT: &str = "deletedAt";

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
    /// What was done to a message lately.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn lately(&self, message: domain::MessageId) -> Result<Lately, CacheError> {
        let mut all = redis::cmd("HGETALL");
        Ok(Lately(all.arg(self.keys().done(message)).query_async(&mut self.connection()).await?))
    }

    /// Notes what an event that is on the log did to its message, where commands have to know that.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn note_done(&self, event: &Event) -> Result<(), CacheError> {
        let (message, field, value) = match &event.data {
            EventData::MessageDeleted { message_id } => {
                (*message_id, DELETED_AT, event.occurred_at.as_millis().to_string())
            }
            EventData::ReactionAdded { message_id, emoji, .. } => (*message_id, emoji.as_str(), String::new()),
            _ => return Ok(()),
        };
        let key = self.keys().done(message);
        let mut note = redis::pipe();
        // The first deletion is the one that counts.
        note.atomic().hset_nx(&key, field, value).ignore();
        note.expire(&key, keys::seconds(keys::DONE_TTL)).ignore();
        Ok(note.query_async(&mut self.connection()).await?)
    }
}
