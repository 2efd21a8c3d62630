//! The participants of a conversation, in this process and in Redis.
//!
//! Participants never change, except by a repair, after which projectors and processes forget them. A copy in the process
//! needs no Redis at all.

use std::sync::Arc;

use domain::{ConversationId, UserId};

use crate::connection::{Cache, CacheError};
use crate::keys;
pub use crate::local_cache::Participants;

impl Cache {
    /// Whether a user is in a conversation; none where neither the process nor Redis knows its participants.
    ///
    /// # Errors
    /// When Redis has to be asked and doesn't answer.
    pub async fn is_participant(
        &self,
        conversation: ConversationId,
        user: &UserId,
    ) -> Result<Option<bool>, CacheError> {
        Ok(self.participants(conversation).await?.map(|users| users.contains(user)))
    }

    /// All participants of a conversation; none where neither the process nor Redis knows them.
    ///
    /// # Errors
    /// When Redis has to be asked and doesn't answer.
    pub async fn participants(&self, conversation: ConversationId) -> Result<Option<Arc<Participants>>, CacheError> {
        if let Some(users) = self.local().get(conversation) {
            return Ok(Some(users));
        }
        let mut members = redis::cmd("SMEMBERS");
        members.arg(self.keys().participants(conversation));
        let names: Vec<String> = members.query_async(&mut self.evictable_connection("participants")).await?;
        let users: Participants = names.iter().filter_map(|name| name.parse().ok()).collect();
        Ok((!users.is_empty()).then(|| self.keep(conversation, users)))
    }

    /// Stores all participants of a conversation.
    ///
    /// # Errors
    /// When Redis doesn't answer. The process keeps them all the same.
    pub async fn put_participants(&self, conversation: ConversationId, users: &[UserId]) -> Result<(), CacheError> {
        self.keep(conversation, users.iter().cloned().collect());
        let key = self.keys().participants(conversation);
        let names: Vec<&str> = users.iter().map(UserId::as_str).collect();
        let mut put = redis::pipe();
        // Atomic, so that no reader ever sees a part of the set.
        put.atomic().sadd(&key, names).ignore();
        put.expire(&key, keys::seconds(keys::PARTICIPANTS_TTL)).ignore();
        Ok(put.query_async(&mut self.evictable_connection("put_participants")).await?)
    }

    /// Forgets the participants of a conversation that Redis has.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn forget_participants(&self, conversation: ConversationId) -> Result<(), CacheError> {
        let mut delete = redis::cmd("DEL");
        delete.arg(self.keys().participants(conversation));
        Ok(delete.query_async(&mut self.evictable_connection("forget_participants")).await?)
    }

    fn keep(&self, conversation: ConversationId, users: Participants) -> Arc<Participants> {
        let users = Arc::new(users);
        self.local().insert(conversation, users.clone());
        users
    }
}
