//! What commands have just created or changed, for the moment until the projector has folded it.
//!
//! A user's second command sees the effect of the first, and a client that was told of its new message doesn't get a
//! 404 for it. Nothing here outlives [`keys::PENDING_TTL`], and nothing here ever overrides the read model.

use std::collections::HashMap;

use domain::facts::MessageFacts;
use domain::{ConversationId, Event, EventData, MessageId, Position, Timestamp, UserId};
use serde::{Deserialize, Serialize};

use crate::connection::{Cache, CacheError};
use crate::idempotency::Reservation;
use crate::keys::{self, Dependency};

/// The hash field that holds the time of a deletion. Every other field is an emoji.
const DELETED_AT: &str = "deletedAt";

/// A conversation or message that the projector may not have folded yet.
///
/// A command without a key records it while it is admitted, before the event is on the log: that costs no round trip,
/// and nobody knows the fresh id yet. A command with a key records it once Kafka has acknowledged the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum PendingEntity {
    /// A conversation that a user has created.
    Conversation {
        /// The conversation's id.
        id: ConversationId,
        /// The partition of its events.
        partition: i32,
        /// Its participants. They count only while the read model has no conversation with this id.
        participant_ids: Vec<UserId>,
    },
    /// A message that a user has sent.
    Message {
        /// The partition of its conversation's events.
        partition: i32,
        /// What commands need to know of it.
        facts: MessageFacts,
    },
}

impl PendingEntity {
    /// The entity that an event on this partition creates, if it creates one.
    pub fn created_by(event: &Event, partition: i32) -> Option<Self> {
        match &event.data {
            EventData::ConversationCreated { participant_ids, .. } => {
                let (id, participant_ids) = (event.conversation_id, participant_ids.clone());
                Some(Self::Conversation { id, partition, participant_ids })
            }
            EventData::MessageSent(sent) => {
                let facts = MessageFacts::from_sent(event.conversation_id, event.actor_id.clone(), sent);
                Some(Self::Message { partition, facts })
            }
            _ => None,
        }
    }

    pub(crate) fn dependency(&self) -> Dependency {
        match self {
            Self::Conversation { id, .. } => Dependency::Conversation(*id),
            Self::Message { facts, .. } => Dependency::Message(facts.id),
        }
    }

    /// A new message takes little: Redis has thousands of them at a time. Nothing has happened to it yet, and its key
    /// has its id.
    pub(crate) fn json(&self) -> String {
        let json = match self {
            Self::Message { partition, facts } => {
                let MessageFacts { conversation_id, sender_id, has_attachments, .. } = facts;
                serde_json::to_string(&(partition, conversation_id, sender_id, has_attachments))
            }
            Self::Conversation { .. } => serde_json::to_string(self),
        };
        // Plain data with text keys always has a JSON form.
        json.unwrap_or_default()
    }

    /// Reads what [`Self::json`] made of the entity with this key. None for any other form.
    fn parse(dependency: &Dependency, json: &str) -> Option<Self> {
        let Dependency::Message(id) = dependency else { return serde_json::from_str(json).ok() };
        let (partition, conversation_id, sender_id, has_attachments) = serde_json::from_str(json).ok()?;
        let (deleted_at, emoji) = (None, Vec::new());
        let facts = MessageFacts { id: *id, conversation_id, sender_id, has_attachments, deleted_at, emoji };
        Some(Self::Message { partition, facts })
    }
}

/// What commands have just done to a message.
#[derive(Debug, Default)]
pub struct PendingChanges(HashMap<String, String>);

impl PendingChanges {
    /// The facts with these changes applied.
    #[must_use]
    pub fn apply_to(mut self, mut facts: MessageFacts) -> MessageFacts {
        let deleted_at = self.0.remove(DELETED_AT).and_then(|millis| Timestamp::from_millis(millis.parse().ok()?).ok());
        facts.deleted_at = facts.deleted_at.or(deleted_at);
        for emoji in self.0.into_keys() {
            if !facts.has_had(&emoji) {
                facts.emoji.push(emoji);
            }
        }
        facts
    }
}

impl Cache {
    /// Reads a conversation or message that was just created.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn pending_entity(&self, dependency: &Dependency) -> Result<Option<PendingEntity>, CacheError> {
        let mut get = redis::cmd("GET");
        let pending: Option<String> =
            get.arg(self.keys().pending_entity(dependency)).query_async(&mut self.connection("pending_entity")).await?;
        // A value that another version of this program wrote may have another form. It counts as absent.
        Ok(pending.and_then(|pending| PendingEntity::parse(dependency, &pending)))
    }

    /// Reads what commands have just done to a message.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn pending_changes(&self, message: MessageId) -> Result<PendingChanges, CacheError> {
        let mut all = redis::cmd("HGETALL");
        Ok(PendingChanges(
            all.arg(self.keys().pending_changes(message)).query_async(&mut self.connection("pending_changes")).await?,
        ))
    }

    /// Records the outcome of an event that Kafka has acknowledged: its position, for its reservation; the entity that
    /// it created, unless the admission has recorded that; and what it did to a message, where commands need to know.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn record_outcome(&self, event: &Event, position: Position) -> Result<(), CacheError> {
        let keys = self.keys();
        let mut record = redis::pipe();
        if event.request.is_some() {
            Reservation::acknowledge(&mut record, &keys, event, position);
            if let Some(pending) = PendingEntity::created_by(event, position.partition) {
                let key = keys.pending_entity(&pending.dependency());
                record.set_ex(key, pending.json(), keys::PENDING_TTL.as_secs());
            }
        }
        let change = match &event.data {
            EventData::MessageDeleted { message_id } => {
                Some((*message_id, DELETED_AT, event.occurred_at.as_millis().to_string()))
            }
            EventData::ReactionAdded { message_id, emoji, .. } => Some((*message_id, emoji.as_str(), String::new())),
            _ => None,
        };
        if let Some((message, field, value)) = change {
            let key = keys.pending_changes(message);
            // The first deletion is the one that counts.
            record.hset_nx(&key, field, value);
            record.expire(&key, keys::seconds(keys::PENDING_TTL));
        }
        if record.is_empty() {
            return Ok(());
        }
        Ok(record.exec_async(&mut self.connection("record_outcome")).await?)
    }
}

#[cfg(test)]
mod tests {
    use domain::event::{MessageSent, MessageType};
    use domain::{EventId, UserId};
    use uuid::Uuid;

    use super::*;

    fn event(data: EventData) -> Event {
        Event {
            event_id: EventId(Uuid::nil()),
            occurred_at: Timestamp::from_millis(0).unwrap(),
            conversation_id: ConversationId(Uuid::from_u128(1)),
            actor_id: "alice".parse().unwrap(),
            request: None,
            data,
        }
    }

    #[test]
    fn a_pending_entity_comes_back_from_its_json_and_a_message_takes_little() {
        let participant_ids: Vec<UserId> = ["alice", "bob"].map(|user| user.parse().unwrap()).into();
        let kind = domain::event::ConversationKind::Direct;
        let created = event(EventData::ConversationCreated { kind, title: None, participant_ids });
        let sent = event(EventData::MessageSent(MessageSent {
            message_id: MessageId(Uuid::from_u128(2)),
            content: "hi".to_owned(),
            message_type: MessageType::Text,
            attachments: Vec::new(),
            mentions: Vec::new(),
            reply_to_id: None,
        }));
        for event in [created, sent] {
            let pending = PendingEntity::created_by(&event, 3).unwrap();
            let json = pending.json();
            assert_eq!(PendingEntity::parse(&pending.dependency(), &json), Some(pending), "{json}");
            assert!(json.len() < 150, "{json}");
        }
    }
}
