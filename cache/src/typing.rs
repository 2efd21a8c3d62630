//! Who is typing, so that a repeated start, and a stop of somebody who doesn't type, append nothing to the log.

use std::sync::LazyLock;
use std::time::Duration;

use domain::{ConversationId, UserId};
use redis::Script;

use crate::admission::{Limit, LimitState};
use crate::connection::{Cache, CacheError};
use crate::keys;

static TYPING: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(include_str!("scripts/although_full.lua"), include_str!("scripts/typing.lua")))
});

/// How long after a start another one is a repeat. Shorter than a start lasts, so that the others keep seeing a user
/// who goes on typing.
const REPEAT: Duration = Duration::from_secs(3);

/// The outcome of a typing start or stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypingAdmission {
    /// It counts, and changes what the others see.
    Counted(LimitState),
    /// It repeats a recent start, or stops what has ended: the others see it already.
    Unchanged,
    /// The user is over the limit; nothing changed.
    Limited(LimitState),
}

impl Cache {
    /// Counts a typing start and records that the user types, until [`keys::TYPING_TTL`] has passed.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn typing_start(
        &self,
        conversation: ConversationId,
        user: &UserId,
        limit: &Limit,
    ) -> Result<TypingAdmission, CacheError> {
        self.admit_typing(conversation, user, limit, Some(keys::TYPING_TTL)).await
    }

    /// Counts a typing stop and records that the user no longer types, so that the next start is no repeat.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn typing_stop(
        &self,
        conversation: ConversationId,
        user: &UserId,
        limit: &Limit,
    ) -> Result<TypingAdmission, CacheError> {
        self.admit_typing(conversation, user, limit, None).await
    }

    /// Forgets that a user types, without counting.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn forget_typing(&self, conversation: ConversationId, user: &UserId) -> Result<(), CacheError> {
        let mut delete = redis::cmd("DEL");
        delete.arg(self.keys().typing(conversation, user));
        Ok(delete.query_async(&mut self.connection("forget_typing")).await?)
    }

    async fn admit_typing(
        &self,
        conversation: ConversationId,
        user: &UserId,
        limit: &Limit,
        lasts: Option<Duration>,
    ) -> Result<TypingAdmission, CacheError> {
        let keys = self.keys();
        let mut call = TYPING.prepare_invoke();
        call.key(keys.typing(conversation, user)).key(keys.limit(limit.name, user));
        call.arg(limit.max).arg(keys::millis(limit.window));
        if let Some(lasts) = lasts {
            call.arg(keys::millis(lasts)).arg(keys::millis(REPEAT));
        }
        let (outcome, count, reset): (String, u32, i64) = call.invoke_async(&mut self.connection("typing")).await?;
        let state = limit.state(count, keys::milliseconds(reset));
        Ok(match outcome.as_str() {
            "counted" => TypingAdmission::Counted(state),
            "limited" => TypingAdmission::Limited(state),
            _ => TypingAdmission::Unchanged,
        })
    }
}
