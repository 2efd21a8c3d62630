//! What Redis keeps of an event until it is folded: its reservation, and what it created.

use std::sync::LazyLock;
use std::time::Duration;

use domain::{Event, EventData};
use redis::Script;

use crate::connection::{Cache, CacheError};
use crate::idempotency::IdempotencyScope;
use crate::keys::{self, Dependency};

static EXPIRE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/expire.lua")));

/// The key of something that Redis needn't keep much longer, because its event is folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldedKey {
    key: String,
    ttl: Duration,
}

impl Cache {
    /// Ends what Redis keeps of events until they are folded: their reservations, and what they created. Both stay for a
    /// moment, for those who looked at the read model just before.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn expire_folded(&self, folded: &[FoldedKey]) -> Result<(), CacheError> {
        let mut call = EXPIRE.prepare_invoke();
        for FoldedKey { key, ttl } in folded {
            call.key(key).arg(keys::millis(*ttl));
        }
        Ok(call.invoke_async(&mut self.connection("expire_folded")).await?)
    }

    /// What Redis keeps of an event until it is folded.
    pub fn folded_keys(&self, event: &Event) -> impl Iterator<Item = FoldedKey> {
        let keys = self.keys();
        let reservation = IdempotencyScope::of(event).map(|scope| scope.reservation(&keys));
        let reservation = reservation.map(|key| FoldedKey { key, ttl: keys::FOLDED_RESERVATION_TTL });
        let created = match &event.data {
            EventData::ConversationCreated { .. } => Some(Dependency::Conversation(event.conversation_id)),
            EventData::MessageSent(sent) => Some(Dependency::Message(sent.message_id)),
            _ => None,
        };
        let pending = created.map(|created| keys.pending_entity(&created));
        let pending = pending.map(|key| FoldedKey { key, ttl: keys::FOLDED_PENDING_TTL });
        reservation.into_iter().chain(pending)
    }
}
