//! Who is typing, so that a start that repeats appends nothing.

use std::time::Duration;

use domain::{ConversationId, UserId};

use crate::connection::{Cache, CacheError};
use crate::keys;

/// A start that repeats within this time adds nothing.
const QUIET: Duration = Duration::from_secs(3);

impl Cache {
    /// Notes that a user types; false when they said so within the last 3 s. It ends by itself after 5 s.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn typing_start(&self, conversation: ConversationId, user: &UserId) -> Result<bool, CacheError> {
        let key = self.keys().typing(conversation, user);
        let mut left = redis::cmd("PTTL");
        let left: i64 = left.arg(&key).query_async(&mut self.connection()).await?;
        let quiet_until = keys::TYPING_TTL.saturating_sub(QUIET).as_millis();
        if u128::try_from(left).is_ok_and(|left| left > quiet_until) {
            return Ok(false);
        }
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(1).arg("PX").arg(u64::try_from(keys::TYPING_TTL.as_millis()).unwrap_or(u64::MAX));
        set.query_async::<()>(&mut self.connection()).await?;
        Ok(true)
    }

    /// Notes that a user no longer types.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn typing_stop(&self, conversation: ConversationId, user: &UserId) -> Result<(), CacheError> {
        let mut delete = redis::cmd("DEL");
        delete.arg(self.keys().typing(conversation, user));
        Ok(delete.query_async(&mut self.connection()).await?)
    }
}
