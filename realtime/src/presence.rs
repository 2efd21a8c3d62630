//! Presence: who has a socket, told to those who share a small conversation.
//!
//! One task makes all changes, one after the other, so that a user who goes and comes back is never told to be
//! offline last. `lastSeenAt` of somebody online is when a node last vouched for them, seconds ago at most;
//! else when their last socket ended, and null for who was never seen.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::{ConversationId, PositionVector, Timestamp, UserId};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Shared;
use crate::connect::now;

/// How long a user may be without a socket before that is told: pages reload, networks change. A connection that
/// dies silently is noticed after 10 s; with this it stays within the 15 s that are promised.
const GRACE: Duration = Duration::from_secs(4);
/// How often changes are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often this node renews its word for its users; a third of how long the word counts.
const BEAT_EVERY: Duration = Duration::from_secs(3);
/// How many users are asked for or renewed in one go.
const PAGE: usize = 500;
/// The most users to ask about at once.
const ASKED: usize = 100;
/// How long the answer to a question may take.
const ANSWER: Duration = Duration::from_secs(3);

/// What happened since the last look. Holds a user once, however often they come and go.
#[derive(Default)]
pub(crate) struct Presence(Mutex<Changes>);

#[derive(Default)]
struct Changes {
    arrived: HashSet<UserId>,
    left: HashMap<UserId, (Instant, Timestamp)>,
}

impl Presence {
    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A user's socket is in its rooms.
    pub(crate) fn arrived(&self, user: &UserId) {
        let mut changes = self.lock();
        changes.left.remove(user);
        changes.arrived.insert(user.clone());
    }

    /// A user's last socket here has gone.
    pub(crate) fn left(&self, user: &UserId, seen: Timestamp) {
        self.lock().left.insert(user.clone(), (Instant::now() + GRACE, seen));
    }

    fn take_arrived(&self) -> Vec<UserId> {
        self.lock().arrived.drain().collect()
    }

    /// Those who left and didn't come back for [`GRACE`].
    fn take_left(&self) -> Vec<(UserId, Timestamp)> {
        let now = Instant::now();
        let over = |_: &UserId, (until, _): &mut (Instant, Timestamp)| *until <= now;
        self.lock().left.extract_if(over).map(|(user, (_, seen))| (user, seen)).collect()
    }
}

/// Tells of changes, and renews this node's word for its users, until the shutdown; then takes the word back.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut online = HashSet::new();
    let mut beaten = Instant::now();
    while shared.shutdown.run_until_cancelled(look.tick()).await.is_some() {
        arrivals(&shared, &mut online).await;
        departures(&shared, &mut online).await;
        if beaten.elapsed() >= BEAT_EVERY {
            beaten = Instant::now();
            beat(&shared, &online.iter().cloned().collect::<Vec<_>>()).await;
        }
    }
    for user in &online {
        if shared.cache.presence_leave(user, shared.node, now()).await.is_err() {
            break;
        }
    }
}

async fn beat(shared: &Shared, users: &[UserId]) {
    for page in users.chunks(PAGE) {
        if let Err(error) = shared.cache.presence_beat(page, shared.node, now()).await {
            tracing::debug!(%error, "presence is not kept while Redis is down");
            return;
        }
    }
}

async fn arrivals(shared: &Shared, online: &mut HashSet<UserId>) {
    let mut arrived = shared.presence.take_arrived();
    arrived.retain(|user| !online.contains(user) && shared.rooms.is_here(user));
    for page in arrived.chunks(PAGE) {
        let at = now();
        // Somebody who came from another node was online all along.
        let before = shared.cache.presence_of(page, at).await.unwrap_or_default();
        let were: HashSet<&UserId> = before.iter().filter(|it| it.online).map(|it| &it.user).collect();
        beat(shared, page).await;
        for user in page {
            online.insert(user.clone());
            if !were.contains(user) {
                tell(shared, user, "online", at);
            }
        }
    }
}

async fn departures(shared: &Shared, online: &mut HashSet<UserId>) {
    // Once Redis doesn't answer it isn't asked for each user; then this node alone decides.
    let mut redis_answers = true;
    for (user, seen) in shared.presence.take_left() {
        if shared.rooms.is_here(&user) {
            continue;
        }
        if online.remove(&user) {
            let mut gone = true;
            if redis_answers {
                match shared.cache.presence_leave(&user, shared.node, seen).await {
                    Ok(last) => gone = last,
                    Err(_) => redis_answers = false,
                }
            }
            if gone {
                tell(shared, &user, "offline", seen);
            }
        }
        shared.rooms.forget(&user);
    }
}

fn tell(shared: &Shared, user: &UserId, status: &str, seen: Timestamp) {
    let payload = json!({"userId": user, "status": status, "lastSeenAt": seen});
    shared.send_all(&shared.rooms.peers(user), "presence:update", &payload, None);
}

/// Answers `presence:get {userIds}`: those with whom the caller shares a conversation.
pub(crate) async fn get(shared: &Shared, caller: &UserId, asked: &Value) -> Value {
    let Some(users) = users(asked) else {
        return error("invalid_user_ids", &format!("userIds must be an array of at most {ASKED} user ids"));
    };
    match tokio::time::timeout(ANSWER, find(shared, caller, users)).await {
        Ok(Some(answer)) => answer,
        _ => error("unavailable", "presence is out of reach; ask again"),
    }
}

/// What a question is answered when there is no answer.
pub(crate) fn error(code: &str, detail: &str) -> Value {
    json!({"error": {"code": code, "detail": detail}})
}

async fn find(shared: &Shared, caller: &UserId, users: Vec<UserId>) -> Option<Value> {
    let mine = shared.rooms.conversations_of(caller)?;
    let mut known = Vec::with_capacity(users.len());
    for user in users {
        if user == *caller || shares(shared, &mine, &user).await? {
            known.push(user);
        }
    }
    let found = shared.cache.presence_of(&known, now()).await.ok()?;
    let entry = |presence: &cache::presence::Presence| {
        let status = if presence.online { "online" } else { "offline" };
        json!({"userId": presence.user, "status": status, "lastSeenAt": presence.last_seen})
    };
    Some(found.iter().map(entry).collect())
}

fn users(asked: &Value) -> Option<Vec<UserId>> {
    let ids = asked["userIds"].as_array().filter(|ids| ids.len() <= ASKED)?;
    let mut seen = HashSet::new();
    let users = ids.iter().map(|id| id.as_str()?.parse::<UserId>().ok()).collect::<Option<Vec<_>>>()?;
    Some(users.into_iter().filter(|user| seen.insert(user.clone())).collect())
}

/// Whether a user is in one of these conversations; none when that can't be told. Memberships may be a moment
/// old: the worst is that a new acquaintance is left out of one answer.
async fn shares(shared: &Shared, mine: &HashSet<ConversationId>, user: &UserId) -> Option<bool> {
    if let Some(theirs) = shared.rooms.conversations_of(user) {
        return Some(!mine.is_disjoint(&theirs));
    }
    let theirs = shared.memberships.of(user, &PositionVector::default()).await.ok()?;
    Some(theirs.iter().any(|membership| mine.contains(&membership.conversation_id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_list_of_user_ids_is_a_question() {
        assert_eq!(users(&json!({"userIds": ["a", "b", "a"]})).map(|users| users.len()), Some(2));
        let many: Vec<String> = (0..=ASKED).map(|number| number.to_string()).collect();
        for bad in [json!(null), json!({}), json!({"userIds": "a"}), json!({"userIds": [1]}), json!({"userIds": many})]
        {
            assert_eq!(users(&bad), None, "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_in_time_never_left() {
        let presence = Presence::default();
        let [alice, bob] = ["alice", "bob"].map(|name| name.parse::<UserId>().unwrap());
        presence.left(&alice, now());
        presence.left(&bob, now());
        tokio::time::advance(GRACE / 2).await;
        assert!(presence.take_left().is_empty());
        presence.arrived(&alice);
        tokio::time::advance(GRACE).await;
        assert_eq!(presence.take_left().into_iter().map(|(user, _)| user).collect::<Vec<_>>(), [bob]);
        assert_eq!(presence.take_arrived(), [alice]);
    }
}
