//! Counts requests that change nothing against their users' limits, the same on every node.

use std::sync::LazyLock;

use domain::UserId;
use redis::Script;

use crate::admission::{Admission, Limit};
use crate::connection::{Cache, CacheError};
use crate::keys::{self, Keys};

static COUNT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("scripts/although_full.lua"),
        include_str!("scripts/count.lua"),
        "return count_request(KEYS[1], ARGV[1], ARGV[2])"
    ))
});

/// What the script returns: the count, the milliseconds until the window ends, and 1 if the request is refused.
pub(crate) type ScriptCount = (u32, i64, u8);

/// A limit that a request counts against, and the user who sends the request.
#[derive(Debug, Clone, Copy)]
pub struct RequestCounter<'a> {
    /// Who sends the request.
    pub user: &'a UserId,
    /// How many such requests that user may send.
    pub limit: &'a Limit,
}

impl RequestCounter<'_> {
    /// The counter's key.
    pub(crate) fn key(&self, keys: &Keys<'_>) -> String {
        keys.limit(self.limit.name, self.user)
    }

    /// The length of the window in milliseconds.
    pub(crate) fn window_ms(&self) -> u64 {
        u64::try_from(self.limit.window.as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn admission(&self, (count, reset_ms, refused): ScriptCount) -> Admission {
        let state = self.limit.state(count, keys::milliseconds(reset_ms));
        if refused == 0 { Admission::Admitted(state) } else { Admission::Limited(state) }
    }
}

impl Cache {
    /// Counts a request against its user's limit, unless the user has reached it.
    ///
    /// # Errors
    /// When Redis doesn't answer. Redis may have counted the request all the same.
    pub async fn count_request(&self, counter: RequestCounter<'_>) -> Result<Admission, CacheError> {
        let mut call = COUNT.prepare_invoke();
        call.key(counter.key(&self.keys())).arg(counter.limit.max).arg(counter.window_ms());
        Ok(counter.admission(call.invoke_async(&mut self.evictable_connection("count_request")).await?))
    }
}
