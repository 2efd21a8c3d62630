//! Who is online: each node gives its word for its own users, and vouches for itself while it lives. A node that dies
//! without taking its word back is noticed by the others, who do that for it.

use std::collections::HashSet;
use std::sync::LazyLock;
use std::time::Duration;

use domain::{ConversationId, Timestamp, UserId};
use futures_util::StreamExt;
use redis::Script;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::connection::{Cache, CacheError};
use crate::keys;

static ARRIVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/arrive.lua")));
static LEAVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/leave.lua")));

/// How many changes may wait for whoever follows them; more are dropped, for presence may be.
const WAITING: usize = 10_000;
/// The pause before the announcements are listened to again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Whether a user is online, and when they were last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Who.
    pub user: UserId,
    /// Whether a socket of theirs lives on any node.
    pub online: bool,
    /// When they last came to a node, or their last socket on one ended; none when never seen.
    pub last_seen: Option<Timestamp>,
}

/// A change of a user's presence, as one node tells it to the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresenceChange {
    /// The node that tells.
    pub node: Uuid,
    /// Whose presence changed.
    pub user: UserId,
    /// Whether they are online now.
    pub online: bool,
    /// When they came, or their last socket ended.
    pub seen: Timestamp,
    /// The conversations whose people may know.
    pub conversations: Vec<ConversationId>,
}

impl Cache {
    /// Vouches for a node until a moment. Gives how many users Redis has its word for: fewer than it has, when Redis
    /// lost them.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn presence_beat(&self, node: Uuid, until: Timestamp) -> Result<usize, CacheError> {
        let keys = self.keys();
        let mut beat = redis::pipe();
        beat.zadd(keys.nodes(), node.to_string(), until.as_millis()).ignore();
        beat.scard(keys.node_users(node));
        let (known,): (usize,) = beat.query_async(&mut self.connection()).await?;
        Ok(known)
    }

    /// Gives this node's word that users are online; for each, whether they were already, on any node.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn presence_arrive(&self, users: &[UserId], node: Uuid, now: Timestamp) -> Result<Vec<bool>, CacheError> {
        // A pipeline can't load the script by itself where Redis doesn't have it.
        ARRIVE.load_async(&mut self.connection()).await?;
        let keys = self.keys();
        let mut calls = redis::pipe();
        for user in users {
            let mut call = ARRIVE.prepare_invoke();
            call.key(keys.presence(user)).key(keys.last_seen(user)).key(keys.nodes()).key(keys.node_users(node));
            call.arg(node.to_string()).arg(now.as_millis()).arg(keys::LAST_SEEN_TTL.as_secs()).arg(user.as_str());
            calls.invoke_script(&call);
        }
        Ok(calls.query_async(&mut self.connection()).await?)
    }

    /// Takes a node's word for a user back, whom it last saw at this moment. Where no other node that lives has given its
    /// own: when any node last saw them.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn presence_leave(
        &self,
        user: &UserId,
        node: Uuid,
        seen: Timestamp,
    ) -> Result<Option<Timestamp>, CacheError> {
        let keys = self.keys();
        let now = seen.as_millis();
        let mut call = LEAVE.prepare_invoke();
        call.key(keys.presence(user)).key(keys.last_seen(user)).key(keys.nodes()).key(keys.node_users(node));
        call.arg(node.to_string()).arg(now).arg(keys::LAST_SEEN_TTL.as_secs()).arg(user.as_str());
        let last: Option<i64> = call.invoke_async(&mut self.connection()).await?;
        Ok(last.map(|millis| Timestamp::from_millis(millis).unwrap_or(seen)))
    }

    /// Nodes that no longer vouch for themselves, with the moment until which they did.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn presence_dead(&self, now: Timestamp) -> Result<Vec<(Uuid, Timestamp)>, CacheError> {
        let mut dead = redis::cmd("ZRANGEBYSCORE");
        dead.arg(self.keys().nodes()).arg("-inf").arg(now.as_millis()).arg("WITHSCORES");
        let found: Vec<(String, i64)> = dead.query_async(&mut self.connection()).await?;
        let node = |(node, until): (String, i64)| Some((node.parse().ok()?, Timestamp::from_millis(until).ok()?));
        Ok(found.into_iter().filter_map(node).collect())
    }

    /// Some of the users for whom a node gave its word.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn presence_some_users(&self, node: Uuid, most: usize) -> Result<Vec<UserId>, CacheError> {
        let mut some = redis::cmd("SRANDMEMBER");
        some.arg(self.keys().node_users(node)).arg(most);
        let names: Vec<String> = some.query_async(&mut self.connection()).await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// All users for whom a node gave its word.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn presence_users(&self, node: Uuid) -> Result<HashSet<UserId>, CacheError> {
        let mut all = redis::cmd("SMEMBERS");
        all.arg(self.keys().node_users(node));
        let names: Vec<String> = all.query_async(&mut self.connection()).await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Forgets a node that has no users any more.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn presence_forget(&self, node: Uuid) -> Result<(), CacheError> {
        let mut forget = redis::cmd("ZREM");
        forget.arg(self.keys().nodes()).arg(node.to_string());
        Ok(forget.query_async(&mut self.connection()).await?)
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
        read.cmd("ZRANGEBYSCORE").arg(keys.nodes()).arg(now.as_millis()).arg("+inf");
        for user in users {
            read.smembers(keys.presence(user)).get(keys.last_seen(user));
        }
        let mut found = read.query_async::<Vec<redis::Value>>(&mut self.connection()).await?.into_iter();
        let mut next = || found.next().unwrap_or(redis::Value::Nil);
        let alive: Vec<String> = redis::from_redis_value(next())?;
        let mut presences = Vec::with_capacity(users.len());
        for user in users {
            let nodes: Vec<String> = redis::from_redis_value(next())?;
            let seen: Option<i64> = redis::from_redis_value(next())?;
            presences.push(Presence {
                user: user.clone(),
                online: nodes.iter().any(|node| alive.contains(node)),
                last_seen: seen.and_then(|millis| Timestamp::from_millis(millis).ok()),
            });
        }
        Ok(presences)
    }

    /// Tells all nodes of a change.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn publish_presence(&self, change: &PresenceChange) -> Result<(), CacheError> {
        // Plain data with text keys has a JSON form; it can't fail.
        let text = serde_json::to_string(change).unwrap_or_default();
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(self.keys().presence_channel()).arg(text);
        Ok(publish.query_async(&mut self.connection()).await?)
    }

    /// Follows the changes that nodes tell, until the receiver is dropped.
    pub fn follow_presence(&self) -> mpsc::Receiver<PresenceChange> {
        let (sender, changes) = mpsc::channel(WAITING);
        let cache = self.clone();
        tokio::spawn(async move {
            while !sender.is_closed() {
                if let Err(error) = cache.listen_for_presence(&sender).await {
                    tracing::debug!(%error, "the announcements of presence are out of reach");
                }
                tokio::select! {
                    () = tokio::time::sleep(AGAIN_AFTER) => {}
                    () = sender.closed() => {}
                }
            }
        });
        changes
    }

    async fn listen_for_presence(&self, sender: &mpsc::Sender<PresenceChange>) -> Result<(), CacheError> {
        let mut subscription = self.client().get_async_pubsub().await?;
        subscription.subscribe(self.keys().presence_channel()).await?;
        let mut announcements = subscription.on_message();
        loop {
            tokio::select! {
                announcement = announcements.next() => {
                    let Some(announcement) = announcement else { return Ok(()) };
                    if let Ok(change) = serde_json::from_slice(announcement.get_payload_bytes())
                        && sender.try_send(change).is_err()
                    {
                        metrics::counter!("presence_changes_dropped_total").increment(1);
                    }
                }
                () = sender.closed() => return Ok(()),
            }
        }
    }
}
