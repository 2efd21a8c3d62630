//! Who is in a conversation. That never changes, so what is here is right whenever it is here.

use domain::{ConversationId, UserId};

use crate::connection::{Cache, CacheError};
use crate::keys;

impl Cache {
    /// Whether a user is in a conversation; none when Redis doesn't know the conversation.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn is_participant(
        &self,
        conversation: ConversationId,
        user: &UserId,
    ) -> Result<Option<bool>, CacheError> {
        let key = self.keys().participants(conversation);
        let mut both = redis::pipe();
        both.sismember(&key, user.as_str()).exists(&key);
        let (member, known): (bool, bool) = both.query_async(&mut self.connection()).await?;
        Ok(known.then_some(member))
    }

    /// Everyone in a conversation, in no order; none when Redis doesn't know the conversation.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn participants(&self, conversation: ConversationId) -> Result<Option<Vec<UserId>>, CacheError> {
        let mut members = redis::cmd("SMEMBERS");
        members.arg(self.keys().participants(conversation));
        let names: Vec<String> = members.query_async(&mut self.connection()).await?;
        let users: Vec<UserId> = names.iter().filter_map(|name| name.parse().ok()).collect();
        Ok((!users.is_empty()).then_some(users))
    }

    /// Stores who is in a conversation, whole.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn fill_participants(&self, conversation: ConversationId, users: &[UserId]) -> Result<(), CacheError> {
        let key = self.keys().participants(conversation);
        let names: Vec<&str> = users.iter().map(UserId::as_str).collect();
        let mut fill = redis::pipe();
        // At once, so that nobody ever sees a part of them.
        fill.atomic().sadd(&key, names).ignore();
        fill.expire(&key, i64::try_from(keys::PARTICIPANTS_TTL.as_secs()).unwrap_or(i64::MAX)).ignore();
        Ok(fill.query_async(&mut self.connection()).await?)
    }
}
