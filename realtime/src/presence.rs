//! Presence: who has a socket, told to those who share a small conversation.
//!
//! One task makes all changes of this node's users, one after the other, so that a user who goes and comes back is
//! never told to be offline last. Each change is told here at once, and to the other nodes through Redis. A node that
//! dies is noticed by the others: they tell what it can't any more. `lastSeenAt` is when somebody's last socket ended;
//! where they are online, when they last came to a node, or left one; null for who was never seen.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cache::CacheError;
use cache::keys::NODE_TTL;
use cache::presence::PresenceChange;
use domain::{ConversationId, PositionVector, Timestamp, UserId};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::Shared;
use crate::connect::now;
use crate::deliver::SOCIABLE;

/// How long a user may be without a socket before that is told: pages reload, networks change. A connection that
/// dies silently is noticed after 10 s; with this it stays within the 15 s that are promised.
const GRACE: Duration = Duration::from_secs(4);
/// How often changes are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often this node vouches for itself, and looks for nodes that don't any more.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// How many users are asked for or renewed in one go.
const PAGE: usize = 500;
/// The most users to ask about at once.
const ASKED: usize = 100;
/// The most conversations whose people are told of one user's change.
const TOLD: usize = 2_000;
/// How long to wait for the projector to know of an acquaintance of a moment ago.
const ACQUAINTANCE: Duration = Duration::from_secs(2);
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

/// The users for whom this node gave its word, and what Redis may not know of that.
#[derive(Default)]
struct Vouched {
    online: HashSet<UserId>,
    /// Whether Redis failed to take a change.
    doubtful: bool,
    /// Whose word it failed to take back: when they were last seen.
    left: HashMap<UserId, Timestamp>,
}

/// Tells of changes, and vouches for this node, until the shutdown. Its users then have [`GRACE`] to come back
/// elsewhere: after that the other nodes tell that they are gone.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut vouched = Vouched::default();
    let mut beaten: Option<Instant> = None;
    while shared.shutdown.run_until_cancelled(look.tick()).await.is_some() {
        if beaten.is_none_or(|beaten| beaten.elapsed() >= BEAT_EVERY) {
            beaten = Some(Instant::now());
            beat(&shared, &mut vouched).await;
        }
        arrivals(&shared, &mut vouched).await;
        departures(&shared, &mut vouched).await;
    }
    let _ = shared.cache.presence_heartbeat(shared.node, after(now(), GRACE)).await;
}

/// Tells what other nodes tell, until the shutdown.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let mut changes = shared.cache.follow_presence();
    while let Some(Some(change)) = shared.shutdown.run_until_cancelled(changes.recv()).await {
        if change.node != shared.node {
            tell_here(&shared, &change);
        }
    }
}

/// Takes the word of dead nodes back, until the shutdown. Several nodes may do so at once: who is told twice is told
/// the same.
pub(crate) async fn sweep(shared: Arc<Shared>) {
    let mut look = tokio::time::interval(BEAT_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while shared.shutdown.run_until_cancelled(look.tick()).await.is_some() {
        for (node, until) in shared.cache.expired_nodes(now()).await.unwrap_or_default() {
            // This one was only slow; its next word says so.
            if node != shared.node {
                bury(&shared, node, until).await;
            }
        }
    }
}

async fn bury(shared: &Shared, node: Uuid, until: Timestamp) {
    loop {
        let Ok(users) = shared.cache.sample_node_users(node, PAGE).await else { return };
        if users.is_empty() {
            tracing::info!(%node, "a realtime node is gone; its users were told of");
            let _ = shared.cache.forget_node(node).await;
            return;
        }
        for user in users {
            if take_back(shared, user, node, until).await.is_err() {
                return;
            }
        }
    }
}

/// Takes a node's word for a user back who isn't here, and tells so.
async fn take_back(shared: &Shared, user: UserId, node: Uuid, seen: Timestamp) -> Result<(), CacheError> {
    if let Some(seen) = shared.cache.mark_offline(&user, node, seen).await? {
        let conversations = small_conversations(shared, &user).await;
        tell(shared, user, false, seen, conversations).await;
    }
    Ok(())
}

/// Vouches for this node, and sees to it that Redis has its word for those who are here, and for nobody else.
async fn beat(shared: &Shared, vouched: &mut Vouched) {
    let beaten = match shared.cache.presence_heartbeat(shared.node, after(now(), NODE_TTL)).await {
        Ok(known) if known == vouched.online.len() && !vouched.doubtful => Ok(()),
        Ok(_) => reconcile(shared, vouched).await,
        Err(error) => Err(error),
    };
    if let Err(error) = beaten {
        tracing::debug!(%error, "presence is not kept while Redis is down");
    }
}

/// Tells Redis, and whoever could not be told without it, what it missed.
async fn reconcile(shared: &Shared, vouched: &mut Vouched) -> Result<(), CacheError> {
    let known = shared.cache.node_users(shared.node).await?;
    for user in known.difference(&vouched.online) {
        let seen = vouched.left.get(user).copied().unwrap_or_else(now);
        take_back(shared, user.clone(), shared.node, seen).await?;
    }
    for user in vouched.online.extract_if(|user| !known.contains(user)) {
        shared.presence.arrived(&user);
    }
    vouched.left.clear();
    vouched.doubtful = false;
    Ok(())
}

async fn arrivals(shared: &Shared, vouched: &mut Vouched) {
    let mut arrived = shared.presence.take_arrived();
    // Also who has left again already: until [`GRACE`] is over they are here, and when they left is this node's to tell.
    arrived.retain(|user| !vouched.online.contains(user));
    for page in arrived.chunks(PAGE) {
        let at = now();
        // Somebody who came from another node was online all along. Without Redis, this node alone decides.
        let were = shared.cache.mark_online(page, shared.node, at).await;
        vouched.doubtful |= were.is_err();
        let were = were.unwrap_or_default();
        for (index, user) in page.iter().enumerate() {
            vouched.online.insert(user.clone());
            if !were.get(index).copied().unwrap_or(false) {
                tell(shared, user.clone(), true, at, shared.rooms.small_conversations_of(user)).await;
            }
        }
    }
}

async fn departures(shared: &Shared, vouched: &mut Vouched) {
    // Once Redis doesn't answer it isn't asked for each user; then this node alone decides.
    let mut redis_answers = true;
    for (user, seen) in shared.presence.take_left() {
        if shared.rooms.is_here(&user) {
            continue;
        }
        let conversations = shared.rooms.small_conversations_of(&user);
        if vouched.online.remove(&user) {
            let mut gone = Some(seen);
            if redis_answers {
                match shared.cache.mark_offline(&user, shared.node, seen).await {
                    Ok(last) => gone = last,
                    Err(_) => redis_answers = false,
                }
            }
            if !redis_answers {
                vouched.doubtful = true;
                vouched.left.insert(user.clone(), seen);
            }
            if let Some(seen) = gone {
                tell(shared, user.clone(), false, seen, conversations).await;
            }
        }
        shared.rooms.forget(&user);
    }
}

/// Tells everybody, here and on other nodes, of a change.
async fn tell(shared: &Shared, user: UserId, online: bool, seen: Timestamp, mut conversations: Vec<ConversationId>) {
    conversations.truncate(TOLD);
    let change = PresenceChange { node: shared.node, user, online, seen, conversations };
    tell_here(shared, &change);
    if let Err(error) = shared.cache.publish_presence(&change).await {
        tracing::debug!(%error, "other nodes are not told of presence while Redis is down");
    }
}

fn tell_here(shared: &Shared, change: &PresenceChange) {
    let status = status(change.online);
    let payload = json!({"userId": change.user, "status": status, "lastSeenAt": change.seen});
    shared.send_all(&shared.rooms.peers(&change.conversations, &change.user), "presence:update", &payload, None);
}

fn status(online: bool) -> &'static str {
    if online { "online" } else { "offline" }
}

fn after(at: Timestamp, time: Duration) -> Timestamp {
    let millis = at.as_millis().saturating_add(i64::try_from(time.as_millis()).unwrap_or(0));
    Timestamp::from_millis(millis).unwrap_or(at)
}

/// The small conversations of a user who isn't here; none when that can't be told.
async fn small_conversations(shared: &Shared, user: &UserId) -> Vec<ConversationId> {
    let memberships = shared.memberships.of(user, &PositionVector::default()).await.unwrap_or_default();
    let small = memberships.into_iter().filter(|membership| membership.participant_count <= SOCIABLE);
    small.map(|membership| membership.conversation_id).collect()
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
    let mut acquainted = Vec::with_capacity(users.len());
    for user in &users {
        acquainted.push(user == caller || shares(shared, &mine, user).await?);
    }
    // Somebody may be an acquaintance of a moment ago: this node has told the caller so, but the projector nobody yet.
    if acquainted.contains(&false) && shared.memberships.reach(&shared.processed(), ACQUAINTANCE).await {
        for (user, acquainted) in users.iter().zip(&mut acquainted).filter(|(_, acquainted)| !**acquainted) {
            *acquainted = shares(shared, &mine, user).await?;
        }
    }
    let known: Vec<UserId> =
        users.into_iter().zip(acquainted).filter_map(|(user, known)| known.then_some(user)).collect();
    let at = now();
    let found = shared.cache.presence_of(&known, at).await.ok()?;
    let entry = |presence: &cache::presence::Presence| {
        // Redis hears of those who came here a moment later.
        let here = shared.rooms.is_here(&presence.user);
        let seen = if here { Some(at) } else { presence.last_seen };
        json!({"userId": presence.user, "status": status(here || presence.online), "lastSeenAt": seen})
    };
    Some(found.iter().map(entry).collect())
}

fn users(asked: &Value) -> Option<Vec<UserId>> {
    let ids = asked["userIds"].as_array().filter(|ids| ids.len() <= ASKED)?;
    let mut seen = HashSet::new();
    let users = ids.iter().map(|id| id.as_str()?.parse::<UserId>().ok()).collect::<Option<Vec<_>>>()?;
    Some(users.into_iter().filter(|user| seen.insert(user.clone())).collect())
}

/// Whether a user is in one of these conversations, as far as the projector has come; none when that can't be told.
async fn shares(shared: &Shared, mine: &HashSet<ConversationId>, user: &UserId) -> Option<bool> {
    if let Some(shares) = shared.rooms.is_in_any(user, mine) {
        return Some(shares);
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
