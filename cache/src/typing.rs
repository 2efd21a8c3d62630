//! Who is typing, so that a start that repeats appends nothing.

use std::sync::LazyLock;
use std::time::Duration;

use domain::{ConversationId, UserId};
use redis::Script;

use crate::connection::{Cache, CacheError};
use crate::keys;

static TYPING: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/typing.lua")));

/// How long after a start another adds nothing. Shorter than a start lasts, so that whoever goes on typing is heard of
/// again in time.
const QUIET: Duration = Duration::from_secs(3);

impl Cache {
    /// Notes that a user types; false when they said so just now. It ends by itself after [`keys::TYPING_TTL`].
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn typing_start(&self, conversation: ConversationId, user: &UserId) -> Result<bool, CacheError> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut call = TYPING.prepare_invoke();
        call.key(self.keys().typing(conversation, user)).arg(millis(keys::TYPING_TTL)).arg(millis(QUIET));
        Ok(call.invoke_async(&mut self.connection()).await?)
    }

    /// Notes that a user no longer types: the next start counts.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn typing_stop(&self, conversation: ConversationId, user: &UserId) -> Result<(), CacheError> {
        let mut delete = redis::cmd("DEL");
        delete.arg(self.keys().typing(conversation, user));
        Ok(delete.query_async(&mut self.connection()).await?)
    }
}
