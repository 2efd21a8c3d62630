//! Records this node's online users in Redis, and publishes when its users come and go.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use cache::presence::PresenceChange;
use cache::{Cache, CacheError};
use domain::{Timestamp, UserId};
use service::clock;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::publisher::PresencePublisher;
use super::user_changes::UserChanges;
use crate::rooms::Rooms;

/// How often the task handles changes.
const CHANGES_INTERVAL: Duration = Duration::from_millis(100);
/// How often it compares this node's users with those that Redis has.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How many users are marked in one call.
const USERS_PER_CALL: usize = 500;

/// The users whom this node has marked online, and what Redis may have missed of that.
#[derive(Default)]
struct RecordedUsers {
    online: HashSet<UserId>,
    /// Whether a change failed to reach Redis.
    out_of_sync: bool,
    /// The users whom the task failed to mark offline, with the time when each was last seen.
    unrecorded_left: HashMap<UserId, Instant>,
}

/// Handles the changes of this node's users, in one task.
pub(crate) struct PresenceRecorder {
    cache: Cache,
    rooms: Arc<Rooms>,
    changes: Arc<UserChanges>,
    publisher: Arc<PresencePublisher>,
    /// This node's id.
    node: Uuid,
    recorded: RecordedUsers,
    /// The last change of each user that is yet to be published: whether they are online, and since when.
    unpublished: HashMap<UserId, (bool, Timestamp)>,
    /// Whether Redis has answered in this round. After it failed once, the task decides alone until the next round.
    redis_answers: bool,
}

impl PresenceRecorder {
    /// Handles the changes of the users in these rooms.
    pub(crate) fn new(
        cache: Cache,
        rooms: Arc<Rooms>,
        changes: Arc<UserChanges>,
        publisher: Arc<PresencePublisher>,
        node: Uuid,
    ) -> Self {
        let (recorded, unpublished) = (RecordedUsers::default(), HashMap::new());
        Self { cache, rooms, changes, publisher, node, recorded, unpublished, redis_answers: true }
    }

    /// Runs until the shutdown.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut interval = tokio::time::interval(CHANGES_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last_check: Option<Instant> = None;
        while shutdown.run_until_cancelled(interval.tick()).await.is_some() {
            if last_check.is_none_or(|last| last.elapsed() >= CHECK_INTERVAL) {
                last_check = Some(Instant::now());
                if let Err(error) = self.check_users().await {
                    tracing::debug!(%error, "checking this node's online users failed; retrying in two seconds");
                }
            }
            self.handle_changes().await;
        }
    }

    /// Corrects this node's users in Redis if they differ from those who are here.
    async fn check_users(&mut self) -> Result<(), CacheError> {
        let known = self.cache.count_node_users(self.node).await?;
        if known == self.recorded.online.len() && !self.recorded.out_of_sync {
            return Ok(());
        }
        self.restore_users().await
    }

    /// Makes this node's users in Redis equal to those who are here, and publishes the changes that Redis missed.
    async fn restore_users(&mut self) -> Result<(), CacheError> {
        let known = self.cache.node_users(self.node).await?;
        let left = known.difference(&self.recorded.online);
        let left: Vec<_> = left
            .map(|user| {
                let seen = self.recorded.unrecorded_left.get(user).copied().unwrap_or_else(Instant::now);
                (user.clone(), seen)
            })
            .collect();
        for users in left.chunks(USERS_PER_CALL) {
            self.publisher.mark_offline(users, self.node).await?;
        }
        // These users count as newly arrived, and `record_arrived` marks them online again.
        for user in self.recorded.online.extract_if(|user| !known.contains(user)) {
            self.changes.user_arrived(&user);
        }
        self.recorded.unrecorded_left.clear();
        self.recorded.out_of_sync = false;
        Ok(())
    }

    /// Records and publishes what has changed. A user who has come and left since is published once.
    async fn handle_changes(&mut self) {
        self.redis_answers = true;
        let arrived = self.changes.take_arrived();
        self.record_arrived(arrived).await;
        let mut left = self.changes.take_left();
        left.retain(|(user, _)| !self.rooms.has_socket(user));
        self.record_left(&left).await;
        let rooms = self.rooms.clone();
        let changes = self.unpublished.drain().map(|(user, (online, seen))| {
            let conversations = rooms.presence_conversations_of(&user);
            PresenceChange { user, online, seen, conversations }
        });
        self.publisher.publish(changes).await;
        for (user, _) in left {
            self.rooms.forget(&user);
        }
    }

    async fn record_arrived(&mut self, mut arrived: Vec<UserId>) {
        // Includes users who have left again already: until their grace ends they are here, and this node publishes
        // when they left.
        arrived.retain(|user| !self.recorded.online.contains(user));
        for users in arrived.chunks(USERS_PER_CALL) {
            // A user who came from another node was online all along. Without Redis, this node decides alone.
            let marked = if self.redis_answers { self.cache.mark_online(users, self.node).await.ok() } else { None };
            self.note_answer(marked.is_some());
            let at = marked.as_ref().map_or_else(clock::now, |marked| marked.at);
            let were_online = marked.map(|marked| marked.were_online).unwrap_or_default();
            for (index, user) in users.iter().enumerate() {
                self.recorded.online.insert(user.clone());
                if !were_online.get(index).copied().unwrap_or(false) {
                    self.note_change(user, true, at);
                }
            }
        }
    }

    async fn record_left(&mut self, left: &[(UserId, Instant)]) {
        let left: Vec<_> = left.iter().filter(|(user, _)| self.recorded.online.remove(user)).cloned().collect();
        for users in left.chunks(USERS_PER_CALL) {
            let seen_ago: Vec<_> = users.iter().map(|(user, seen)| (user.clone(), seen.elapsed())).collect();
            let offline_since =
                if self.redis_answers { self.cache.mark_offline(&seen_ago, self.node).await.ok() } else { None };
            self.note_answer(offline_since.is_some());
            for (index, (user, seen)) in users.iter().enumerate() {
                let since = match &offline_since {
                    Some(all) => all.get(index).copied().flatten(),
                    None => {
                        self.recorded.unrecorded_left.insert(user.clone(), *seen);
                        Some(clock::before(clock::now(), seen.elapsed()))
                    }
                };
                if let Some(since) = since {
                    self.note_change(user, false, since);
                }
            }
        }
    }

    fn note_answer(&mut self, answered: bool) {
        self.redis_answers &= answered;
        self.recorded.out_of_sync |= !answered;
    }

    fn note_change(&mut self, user: &UserId, online: bool, seen: Timestamp) {
        self.unpublished.insert(user.clone(), (online, seen));
    }
}
