//! Keeps this node and its online users in Redis, and publishes when its users come and go.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use cache::keys::NODE_TTL;
use cache::{Cache, CacheError};
use domain::{Timestamp, UserId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::publisher::PresencePublisher;
use super::user_changes::{GRACE, UserChanges};
use crate::clock;
use crate::rooms::Rooms;

/// How often the task handles changes.
const CHANGES_INTERVAL: Duration = Duration::from_millis(100);
/// How often this node sends a heartbeat, and looks for nodes whose heartbeats have stopped.
pub(super) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// How many users are marked online in one call.
const USERS_PER_PAGE: usize = 500;

/// The users whom this node has marked online, and what Redis may have missed of that.
#[derive(Default)]
struct RecordedUsers {
    online: HashSet<UserId>,
    /// Whether a change failed to reach Redis.
    out_of_sync: bool,
    /// The users whom the task failed to mark offline, with the time when each was last seen.
    unrecorded_left: HashMap<UserId, Timestamp>,
}

/// Sends this node's heartbeats and handles its users' changes, in one task.
pub(crate) struct Heartbeat {
    cache: Cache,
    rooms: Arc<Rooms>,
    changes: Arc<UserChanges>,
    publisher: Arc<PresencePublisher>,
    /// This node's id.
    node: Uuid,
    recorded: RecordedUsers,
}

impl Heartbeat {
    /// Handles the changes of the users in these rooms.
    pub(crate) fn new(
        cache: Cache,
        rooms: Arc<Rooms>,
        changes: Arc<UserChanges>,
        publisher: Arc<PresencePublisher>,
        node: Uuid,
    ) -> Self {
        Self { cache, rooms, changes, publisher, node, recorded: RecordedUsers::default() }
    }

    /// Runs until the shutdown. The node's users then have [`GRACE`] to come back on other nodes, before those mark
    /// them offline.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut interval = tokio::time::interval(CHANGES_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last_heartbeat: Option<Instant> = None;
        while shutdown.run_until_cancelled(interval.tick()).await.is_some() {
            if last_heartbeat.is_none_or(|last| last.elapsed() >= HEARTBEAT_INTERVAL) {
                last_heartbeat = Some(Instant::now());
                self.heartbeat().await;
            }
            self.handle_arrived().await;
            self.handle_left().await;
        }
        let _ = self.cache.presence_heartbeat(self.node, clock::after(clock::now(), GRACE)).await;
    }

    /// Extends this node's life in Redis, and corrects this node's users there if they differ.
    async fn heartbeat(&mut self) {
        let until = clock::after(clock::now(), NODE_TTL);
        let result = match self.cache.presence_heartbeat(self.node, until).await {
            Ok(known) if known == self.recorded.online.len() && !self.recorded.out_of_sync => Ok(()),
            Ok(_) => self.restore_users().await,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tracing::debug!(%error, "the presence heartbeat failed; retrying in two seconds");
        }
    }

    /// Makes this node's users in Redis equal to those who are here, and publishes the changes that Redis missed.
    async fn restore_users(&mut self) -> Result<(), CacheError> {
        let known = self.cache.node_users(self.node).await?;
        for user in known.difference(&self.recorded.online) {
            let seen = self.recorded.unrecorded_left.get(user).copied().unwrap_or_else(clock::now);
            self.publisher.mark_offline(user.clone(), self.node, seen).await?;
        }
        // These users count as newly arrived, and `handle_arrived` marks them online again.
        for user in self.recorded.online.extract_if(|user| !known.contains(user)) {
            self.changes.user_arrived(&user);
        }
        self.recorded.unrecorded_left.clear();
        self.recorded.out_of_sync = false;
        Ok(())
    }

    async fn handle_arrived(&mut self) {
        let mut arrived = self.changes.take_arrived();
        // Includes users who have left again already: until their grace ends they are here, and this node publishes
        // when they left.
        arrived.retain(|user| !self.recorded.online.contains(user));
        for page in arrived.chunks(USERS_PER_PAGE) {
            let now = clock::now();
            // A user who came from another node was online all along. Without Redis, this node decides alone.
            let were_online = self.cache.mark_online(page, self.node, now).await;
            self.recorded.out_of_sync |= were_online.is_err();
            let were_online = were_online.unwrap_or_default();
            for (index, user) in page.iter().enumerate() {
                self.recorded.online.insert(user.clone());
                if !were_online.get(index).copied().unwrap_or(false) {
                    let conversations = self.rooms.presence_conversations_of(user);
                    self.publisher.publish(user.clone(), true, now, conversations).await;
                }
            }
        }
    }

    async fn handle_left(&mut self) {
        // After Redis failed once, the task doesn't ask it for every other user: this node decides alone.
        let mut redis_answers = true;
        for (user, seen) in self.changes.take_left() {
            if self.rooms.has_socket(&user) {
                continue;
            }
            let conversations = self.rooms.presence_conversations_of(&user);
            if self.recorded.online.remove(&user) {
                let mut offline_since = Some(seen);
                if redis_answers {
                    match self.cache.mark_offline(&user, self.node, seen).await {
                        Ok(last_seen) => offline_since = last_seen,
                        Err(_) => redis_answers = false,
                    }
                }
                if !redis_answers {
                    self.recorded.out_of_sync = true;
                    self.recorded.unrecorded_left.insert(user.clone(), seen);
                }
                if let Some(seen) = offline_since {
                    self.publisher.publish(user.clone(), false, seen, conversations).await;
                }
            }
            self.rooms.forget(&user);
        }
    }
}
