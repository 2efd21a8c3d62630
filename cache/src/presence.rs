//! Presence across nodes: each realtime node records its online users and keeps itself alive with heartbeats.
//!
//! When a node's heartbeats stop, the other nodes expire it: they mark its users offline in its place. Presence is a
//! hint for people. It must never decide who may read or write.

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

static MARK_ONLINE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/mark_online.lua")));
static MARK_OFFLINE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/mark_offline.lua")));

/// How many received changes may wait. Presence may be lost, so further ones are dropped.
const QUEUED_CHANGES: usize = 10_000;
/// The pause before the node subscribes again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Whether a user is online, and when they were last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The user's id.
    pub user: UserId,
    /// Whether the user has a socket on any node.
    pub online: bool,
    /// When the user last came to a node, or their last socket on one ended; none if never seen.
    pub last_seen: Option<Timestamp>,
}

/// A change of a user's presence, as one node publishes it to the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresenceChange {
    /// The node that publishes the change.
    pub node: Uuid,
    /// The user whose presence changed.
    pub user: UserId,
    /// Whether the user is online now.
    pub online: bool,
    /// When the user came, or their last socket ended.
    pub seen: Timestamp,
    /// The conversations whose participants may see it.
    pub conversations: Vec<ConversationId>,
}

impl Cache {
    /// Keeps a node alive until `until`. Returns how many online users Redis has for it: fewer than the node has if
    /// Redis lost some.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn presence_heartbeat(&self, node: Uuid, until: Timestamp) -> Result<usize, CacheError> {
        let keys = self.keys();
        let mut heartbeat = redis::pipe();
        heartbeat.zadd(keys.nodes(), node.to_string(), until.as_millis()).ignore();
        heartbeat.scard(keys.node_users(node));
        let (known,): (usize,) = heartbeat.query_async(&mut self.connection("presence_heartbeat")).await?;
        Ok(known)
    }

    /// Marks users as online on this node. Returns for each whether they were online already, on any node.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn mark_online(&self, users: &[UserId], node: Uuid, now: Timestamp) -> Result<Vec<bool>, CacheError> {
        let keys = self.keys();
        let mut calls = redis::pipe();
        // Redis may not have the script, and a pipeline doesn't load it by itself.
        calls.load_script(&MARK_ONLINE).ignore();
        for user in users {
            let mut call = MARK_ONLINE.prepare_invoke();
            call.key(keys.presence(user)).key(keys.last_seen(user)).key(keys.nodes()).key(keys.node_users(node));
            call.arg(node.to_string()).arg(now.as_millis()).arg(keys::LAST_SEEN_TTL.as_secs()).arg(user.as_str());
            calls.invoke_script(&call);
        }
        Ok(calls.query_async(&mut self.connection("mark_online")).await?)
    }

    /// Marks a user as offline on a node that last saw them at `seen`. If no other live node has the user online,
    /// returns when any node last saw them.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn mark_offline(
        &self,
        user: &UserId,
        node: Uuid,
        seen: Timestamp,
    ) -> Result<Option<Timestamp>, CacheError> {
        let keys = self.keys();
        let now = seen.as_millis();
        let mut call = MARK_OFFLINE.prepare_invoke();
        call.key(keys.presence(user)).key(keys.last_seen(user)).key(keys.nodes()).key(keys.node_users(node));
        call.arg(node.to_string()).arg(now).arg(keys::LAST_SEEN_TTL.as_secs()).arg(user.as_str());
        let last: Option<i64> = call.invoke_async(&mut self.connection("mark_offline")).await?;
        Ok(last.map(|millis| Timestamp::from_millis(millis).unwrap_or(seen)))
    }

    /// The nodes whose heartbeats have stopped, with the time at which each expired.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn expired_nodes(&self, now: Timestamp) -> Result<Vec<(Uuid, Timestamp)>, CacheError> {
        let mut expired = redis::cmd("ZRANGEBYSCORE");
        expired.arg(self.keys().nodes()).arg("-inf").arg(now.as_millis()).arg("WITHSCORES");
        let found: Vec<(String, i64)> = expired.query_async(&mut self.connection("expired_nodes")).await?;
        let node = |(node, until): (String, i64)| Some((node.parse().ok()?, Timestamp::from_millis(until).ok()?));
        Ok(found.into_iter().filter_map(node).collect())
    }

    /// Some of the users who are online on a node.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn sample_node_users(&self, node: Uuid, max: usize) -> Result<Vec<UserId>, CacheError> {
        let mut some = redis::cmd("SRANDMEMBER");
        some.arg(self.keys().node_users(node)).arg(max);
        let names: Vec<String> = some.query_async(&mut self.connection("node_users")).await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// All users who are online on a node.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn node_users(&self, node: Uuid) -> Result<HashSet<UserId>, CacheError> {
        let mut all = redis::cmd("SMEMBERS");
        all.arg(self.keys().node_users(node));
        let names: Vec<String> = all.query_async(&mut self.connection("node_users")).await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Removes a node that has no online users left.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn forget_node(&self, node: Uuid) -> Result<(), CacheError> {
        let mut forget = redis::cmd("ZREM");
        forget.arg(self.keys().nodes()).arg(node.to_string());
        Ok(forget.query_async(&mut self.connection("forget_node")).await?)
    }

    /// The presence of these users, in the same order.
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
        let mut found = read.query_async::<Vec<redis::Value>>(&mut self.connection("presence_of")).await?.into_iter();
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

    /// Publishes a change to all nodes.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn publish_presence(&self, change: &PresenceChange) -> Result<(), CacheError> {
        // Plain data with text keys always has a JSON form.
        let text = serde_json::to_string(change).unwrap_or_default();
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(self.keys().presence_channel()).arg(text);
        Ok(publish.query_async(&mut self.connection("publish_presence")).await?)
    }

    /// Follows the changes that nodes publish, until the receiver is dropped.
    pub fn follow_presence(&self) -> mpsc::Receiver<PresenceChange> {
        let (sender, changes) = mpsc::channel(QUEUED_CHANGES);
        let cache = self.clone();
        tokio::spawn(async move {
            while !sender.is_closed() {
                if let Err(error) = cache.listen_for_presence(&sender).await {
                    tracing::debug!(%error, "following presence failed; retrying");
                }
                tokio::select! {
                    () = tokio::time::sleep(RETRY_PAUSE) => {}
                    () = sender.closed() => {}
                }
            }
        });
        changes
    }

    async fn listen_for_presence(&self, sender: &mpsc::Sender<PresenceChange>) -> Result<(), CacheError> {
        let mut subscription = self.client()?.get_async_pubsub().await?;
        subscription.subscribe(self.keys().presence_channel()).await?;
        let mut publications = subscription.on_message();
        loop {
            tokio::select! {
                publication = publications.next() => {
                    let Some(publication) = publication else { return Ok(()) };
                    if let Ok(change) = serde_json::from_slice(publication.get_payload_bytes())
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
