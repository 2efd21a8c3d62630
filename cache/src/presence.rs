//! Who is online: each node gives its word for its own users, and renews it while it lives.

use std::sync::LazyLock;

use domain::{Timestamp, UserId};
use redis::Script;
use uuid::Uuid;

use crate::connection::{Cache, CacheError};
use crate::keys;

static LEAVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/leave.lua")));

/// Whether a user is online, and when they were last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Who.
    pub user: UserId,
    /// Whether a socket of theirs lives on any node.
    pub online: bool,
    /// When their last socket ended, or a node last gave its word for them; none when never seen.
    pub last_seen: Option<Timestamp>,
}

impl Cache {
    /// Gives this node's word that these users are online, for [`keys::PRESENCE_TTL`] from now.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn presence_beat(&self, users: &[UserId], node: Uuid, now: Timestamp) -> Result<(), CacheError> {
        if users.is_empty() {
            return Ok(());
        }
        let keys = self.keys();
        let ttl = i64::try_from(keys::PRESENCE_TTL.as_millis()).unwrap_or(i64::MAX);
        let mut beat = redis::pipe();
        for user in users {
            let key = keys.presence(user);
            beat.zadd(&key, node.to_string(), now.as_millis() + ttl).ignore();
            beat.pexpire(&key, ttl).ignore();
            beat.set_ex(keys.last_seen(user), now.as_millis(), keys::LAST_SEEN_TTL.as_secs()).ignore();
        }
        Ok(beat.query_async(&mut self.connection()).await?)
    }

    /// Takes this node's word for a user back; true when no other node gives its own.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn presence_leave(&self, user: &UserId, node: Uuid, now: Timestamp) -> Result<bool, CacheError> {
        let keys = self.keys();
        let mut call = LEAVE.prepare_invoke();
        call.key(keys.presence(user)).key(keys.last_seen(user));
        call.arg(node.to_string()).arg(now.as_millis()).arg(keys::LAST_SEEN_TTL.as_secs());
        Ok(call.invoke_async(&mut self.connection()).await?)
    }

    /// Whether these users are online, in the order asked.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn presence_of(&self, users: &[UserId], now: Timestamp) -> Result<Vec<Presence>, CacheError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.keys();
        let mut read = redis::pipe();
        for user in users {
            read.zcount(keys.presence(user), now.as_millis(), "+inf").get(keys.last_seen(user));
        }
        let found: Vec<redis::Value> = read.query_async(&mut self.connection()).await?;
        let mut found = found.into_iter();
        let mut presences = Vec::with_capacity(users.len());
        for user in users {
            let (online, seen) = (found.next().unwrap_or(redis::Value::Nil), found.next().unwrap_or(redis::Value::Nil));
            let online: Option<i64> = redis::from_redis_value(online)?;
            let seen: Option<i64> = redis::from_redis_value(seen)?;
            presences.push(Presence {
                user: user.clone(),
                online: online.unwrap_or(0) > 0,
                last_seen: seen.and_then(|millis| Timestamp::from_millis(millis).ok()),
            });
        }
        Ok(presences)
    }
}
