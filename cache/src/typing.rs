//! Who is typing, so that a repeated typing start appends nothing to the log.

use std::sync::LazyLock;
use std::time::Duration;

use domain::{ConversationId, UserId};
use redis::Script;

use crate::connection::{Cache, CacheError};
use crate::keys;

static TYPING: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/typing.lua")));

/// How long after a start another one is a repeat. Shorter than a start lasts, so that the others keep seeing a user
/// who goes on typing.
const REPEAT: Duration = Duration::from_secs(3);

impl Cache {
    /// Records that a user types; false if this repeats a recent start. The record expires after [`keys::TYPING_TTL`].
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn typing_start(&self, conversation: ConversationId, user: &UserId) -> Result<bool, CacheError> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut call = TYPING.prepare_invoke();
        call.key(self.keys().typing(conversation, user)).arg(millis(keys::TYPING_TTL)).arg(millis(REPEAT));
        Ok(call.invoke_async(&mut self.connection("typing_start")).await?)
    }

    /// Records that a user no longer types, so that the next start is no repeat.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn typing_stop(&self, conversation: ConversationId, user: &UserId) -> Result<(), CacheError> {
        let mut delete = redis::cmd("DEL");
        delete.arg(self.keys().typing(conversation, user));
        Ok(delete.query_async(&mut self.connection("typing_stop")).await?)
    }
}
