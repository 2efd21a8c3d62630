//! Presence across nodes: each realtime node records its online users and keeps itself alive with heartbeats.
//!
//! When a node's heartbeats stop, the other nodes expire it: they mark its users offline in its place. Presence is a
//! hint for people. It must never decide who may read or write.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;
use std::time::Duration;

use domain::{ConversationId, Timestamp, UserId};
use redis::{Script, Value};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use uuid::Uuid;

use crate::connection::{Cache, CacheError};
use crate::keys;
use crate::nodes::NodeCounts;
use crate::subscription::Subscription;

static HEARTBEAT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/heartbeat.lua")));
static MARK_ONLINE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/mark_online.lua")));
static MARK_OFFLINE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/mark_offline.lua")));

/// How many bytes a publication has at most, unless a single change has more.
const PUBLICATION_BYTES: usize = 256 << 10;
/// How many received publications may wait. Presence may be lost, so further ones are dropped.
const QUEUED_PUBLICATIONS: usize = 64;

domain::limit_rows! {
    Memory, "publications of presence of other nodes that wait", Count QUEUED_PUBLICATIONS, "the node drops further ones", "memory";
    Memory, "a publication of presence", Bytes PUBLICATION_BYTES, "the other changes follow in the next one", "memory";
}
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

/// A change of a user's presence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresenceChange {
    /// The user whose presence changed.
    pub user: UserId,
    /// Whether the user is online now.
    pub online: bool,
    /// When the user came, or their last socket ended.
    pub seen: Timestamp,
    /// The conversations whose participants may see it.
    pub conversations: Vec<ConversationId>,
}

/// Changes that one node publishes to the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresencePublication {
    /// The node that publishes the changes.
    pub node: Uuid,
    /// The changes, at most one for each user.
    pub changes: Vec<PresenceChange>,
}

/// Collects changes until there are enough for a publication.
pub struct PublicationBuilder {
    publication: PresencePublication,
    bytes: usize,
}

impl PublicationBuilder {
    /// A publication of this node, without changes yet.
    pub fn new(node: Uuid) -> Self {
        Self { publication: PresencePublication { node, changes: Vec::new() }, bytes: 0 }
    }

    /// Adds a change. Returns the changes before it as a publication if it doesn't fit any more.
    pub fn add(&mut self, change: PresenceChange) -> Option<PresencePublication> {
        const FIXED_BYTES: usize = 128;
        const CONVERSATION_BYTES: usize = 39;
        let bytes = FIXED_BYTES + change.user.as_str().len() + change.conversations.len() * CONVERSATION_BYTES;
        let full = if self.bytes > 0 && self.bytes + bytes > PUBLICATION_BYTES { self.take() } else { None };
        self.bytes += bytes;
        self.publication.changes.push(change);
        full
    }

    /// The changes so far; none if there are none.
    pub fn take(&mut self) -> Option<PresencePublication> {
        self.bytes = 0;
        let changes = std::mem::take(&mut self.publication.changes);
        (!changes.is_empty()).then_some(PresencePublication { node: self.publication.node, changes })
    }
}

/// What Redis knew of users who are online on a node now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedOnline {
    /// For each user, whether they were online already, on any node.
    pub were_online: Vec<bool>,
    /// The time, by Redis' clock.
    pub at: Timestamp,
}

impl Cache {
    /// Keeps a node alive for so long, by Redis' clock, and says how much it serves.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn presence_heartbeat(
        &self,
        node: Uuid,
        lives_for: Duration,
        counts: NodeCounts,
    ) -> Result<(), CacheError> {
        let keys = self.keys();
        let mut call = HEARTBEAT.prepare_invoke();
        call.key(keys.nodes()).key(keys.node_counts(node)).arg(node.to_string()).arg(millis(lives_for));
        call.arg(format!("{} {}", counts.sockets, counts.rooms));
        call.invoke_async::<i64>(&mut self.connection("presence_heartbeat")).await?;
        Ok(())
    }

    /// How many online users Redis has for a node: fewer than the node has if Redis lost some.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn count_node_users(&self, node: Uuid) -> Result<usize, CacheError> {
        let mut count = redis::cmd("SCARD");
        count.arg(self.keys().node_users(node));
        Ok(count.query_async(&mut self.connection("count_node_users")).await?)
    }

    /// Marks users as online on this node.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn mark_online(&self, users: &[UserId], node: Uuid) -> Result<MarkedOnline, CacheError> {
        let keys = self.keys();
        let mut calls = redis::pipe();
        // Redis may not have the script, and a pipeline doesn't load it by itself.
        calls.load_script(&MARK_ONLINE).ignore();
        calls.cmd("TIME");
        for user in users {
            let mut call = MARK_ONLINE.prepare_invoke();
            call.key(keys.presence(user)).key(keys.last_seen(user)).key(keys.nodes()).key(keys.node_users(node));
            call.arg(node.to_string()).arg(keys::LAST_SEEN_TTL.as_secs()).arg(user.as_str());
            calls.invoke_script(&call);
        }
        let mut replies = calls.query_async::<Vec<Value>>(&mut self.connection("mark_online")).await?.into_iter();
        let at = timestamp(time_millis(replies.next().unwrap_or(Value::Nil))?)?;
        let were_online = replies.map(redis::from_redis_value).collect::<Result<_, _>>()?;
        Ok(MarkedOnline { were_online, at })
    }

    /// Marks users as offline on a node, each with how long ago it last saw them. For each user whom no other live node
    /// has online, returns when any node last saw them.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn mark_offline(
        &self,
        users: &[(UserId, Duration)],
        node: Uuid,
    ) -> Result<Vec<Option<Timestamp>>, CacheError> {
        let keys = self.keys();
        let mut calls = redis::pipe();
        calls.load_script(&MARK_OFFLINE).ignore();
        for (user, seen_ago) in users {
            let mut call = MARK_OFFLINE.prepare_invoke();
            call.key(keys.presence(user)).key(keys.last_seen(user)).key(keys.nodes()).key(keys.node_users(node));
            call.arg(node.to_string()).arg(millis(*seen_ago)).arg(keys::LAST_SEEN_TTL.as_secs()).arg(user.as_str());
            calls.invoke_script(&call);
        }
        let last: Vec<Option<i64>> = calls.query_async(&mut self.connection("mark_offline")).await?;
        last.into_iter().map(|millis| millis.map(timestamp).transpose()).collect()
    }

    /// The nodes whose heartbeats have stopped, with how long ago each expired.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn expired_nodes(&self) -> Result<Vec<(Uuid, Duration)>, CacheError> {
        let mut read = redis::pipe();
        read.cmd("TIME").cmd("ZRANGE").arg(self.keys().nodes()).arg(0).arg(-1).arg("WITHSCORES");
        let (now, nodes): (Value, Vec<(String, i64)>) = read.query_async(&mut self.connection("expired_nodes")).await?;
        let now = time_millis(now)?;
        let expired = nodes.into_iter().filter(|(_, until)| *until <= now);
        let node = |(node, until): (String, i64)| {
            Some((node.parse().ok()?, Duration::from_millis(u64::try_from(now - until).ok()?)))
        };
        Ok(expired.filter_map(node).collect())
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
    pub async fn presence_of(&self, users: &[UserId]) -> Result<Vec<Presence>, CacheError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.keys();
        let mut read = redis::pipe();
        read.cmd("TIME").cmd("ZRANGE").arg(keys.nodes()).arg(0).arg(-1).arg("WITHSCORES");
        for user in users {
            read.smembers(keys.presence(user)).get(keys.last_seen(user));
        }
        let mut found = read.query_async::<Vec<Value>>(&mut self.connection("presence_of")).await?.into_iter();
        let mut next = || found.next().unwrap_or(Value::Nil);
        let now = time_millis(next())?;
        let nodes_until: HashMap<String, i64> = redis::from_redis_value(next())?;
        let is_alive = |node: &String| nodes_until.get(node).is_some_and(|until| *until > now);
        let mut presences = Vec::with_capacity(users.len());
        for user in users {
            let nodes: Vec<String> = redis::from_redis_value(next())?;
            let seen: Option<i64> = redis::from_redis_value(next())?;
            presences.push(Presence {
                user: user.clone(),
                online: nodes.iter().any(is_alive),
                last_seen: seen.map(timestamp).transpose()?,
            });
        }
        Ok(presences)
    }

    /// Publishes changes to all nodes.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn publish_presence(&self, publication: &PresencePublication) -> Result<(), CacheError> {
        // Plain data with text keys always has a JSON form.
        let text = serde_json::to_string(publication).unwrap_or_default();
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(self.keys().presence_channel()).arg(text);
        Ok(publish.query_async(&mut self.connection("publish_presence")).await?)
    }

    /// Follows what nodes publish, until the receiver is dropped.
    pub fn follow_presence(&self) -> mpsc::Receiver<PresencePublication> {
        let (sender, publications) = mpsc::channel(QUEUED_PUBLICATIONS);
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
        publications
    }

    async fn listen_for_presence(&self, sender: &mpsc::Sender<PresencePublication>) -> Result<(), CacheError> {
        let channel = self.keys().presence_channel();
        let mut subscription = Subscription::open(self.subscribable()?, &channel).await?;
        loop {
            tokio::select! {
                message = subscription.next() => {
                    if let Ok(publication) = serde_json::from_slice(message?.get_payload_bytes())
                        && let Err(TrySendError::Full(publication)) = sender.try_send(publication)
                    {
                        metrics::counter!("presence_changes_dropped_total").increment(publication.changes.len() as u64);
                    }
                }
                () = sender.closed() => return Ok(()),
            }
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn timestamp(millis: i64) -> Result<Timestamp, CacheError> {
    let not_a_time = |_| redis::RedisError::from((redis::ErrorKind::Client, "Redis has no valid time"));
    Ok(Timestamp::from_millis(millis).map_err(not_a_time)?)
}

/// The reply to `TIME` in Unix milliseconds.
fn time_millis(reply: Value) -> Result<i64, CacheError> {
    let (seconds, micros): (i64, i64) = redis::from_redis_value(reply)?;
    Ok(seconds * 1_000 + micros / 1_000)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn a_publication_takes_changes_up_to_its_size_and_one_of_any_size() {
        let change = |conversations| PresenceChange {
            user: UserId::from_str("alice").unwrap(),
            online: true,
            seen: Timestamp::from_millis(0).unwrap(),
            conversations: vec![ConversationId(Uuid::nil()); conversations],
        };
        let mut builder = PublicationBuilder::new(Uuid::nil());
        assert_eq!(builder.take(), None);
        assert_eq!(builder.add(change(100_000)), None);
        assert_eq!(builder.add(change(1)).unwrap().changes.len(), 1);
        let mut publications: Vec<_> = (0..10_000).filter_map(|_| builder.add(change(10))).collect();
        publications.extend(builder.take());
        assert_eq!(publications.iter().map(|it| it.changes.len()).sum::<usize>(), 10_001);
        assert!(publications.len() < 50);
        assert!(publications.iter().all(|it| serde_json::to_vec(it).unwrap().len() <= PUBLICATION_BYTES));
    }
}
