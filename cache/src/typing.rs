//! Who said just now that they type, so that a start that repeats appends nothing.

use domain::{ConversationId, UserId};

use crate::connection::{Cache, CacheError};
use crate::keys;

impl Cache {
    /// Notes that a user types; false when they said so just now, within [`keys::TYPING_TTL`].
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn typing_start(&self, conversation: ConversationId, user: &UserId) -> Result<bool, CacheError> {
        let mut set = redis::cmd("SET");
        let millis = u64::try_from(keys::TYPING_TTL.as_millis()).unwrap_or(u64::MAX);
        set.arg(self.keys().typing(conversation, user)).arg(1).arg("NX").arg("PX").arg(millis);
        let was_set: Option<String> = set.query_async(&mut self.connection()).await?;
        Ok(was_set.is_some())
    }

    /// Forgets that a user said that they type: the next start counts.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn typing_stop(&self, conversation: ConversationId, user: &UserId) -> Result<(), CacheError> {
        let mut delete = redis::cmd("DEL");
        delete.arg(self.keys().typing(conversation, user));
        Ok(delete.query_async(&mut self.connection()).await?)
    }
}
