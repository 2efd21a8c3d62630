//! The users who came to this node, or left it, since the heartbeat task last looked.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::{Timestamp, UserId};
use tokio::time::Instant;

/// How long a user may be without a socket before they are offline: pages reload, networks change. The node notices a
/// dead connection after 10 s at most, so with the grace it keeps the promised 15 s.
pub(super) const GRACE: Duration = Duration::from_secs(4);

/// The pending changes. They hold a user once, however often the user comes and goes.
#[derive(Default)]
pub(crate) struct UserChanges(Mutex<Changes>);

#[derive(Default)]
struct Changes {
    arrived: HashSet<UserId>,
    left: HashMap<UserId, Leaving>,
}

/// A user without a socket: when their grace ends, and when their last socket ended.
struct Leaving {
    grace_ends: Instant,
    last_seen: Timestamp,
}

impl UserChanges {
    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a user's socket is in its rooms.
    pub(crate) fn user_arrived(&self, user: &UserId) {
        let mut changes = self.lock();
        changes.left.remove(user);
        changes.arrived.insert(user.clone());
    }

    /// Records that a user's last socket on this node has ended.
    pub(crate) fn user_left(&self, user: &UserId, last_seen: Timestamp) {
        let leaving = Leaving { grace_ends: Instant::now() + GRACE, last_seen };
        self.lock().left.insert(user.clone(), leaving);
    }

    /// Takes the users who arrived.
    pub(super) fn take_arrived(&self) -> Vec<UserId> {
        self.lock().arrived.drain().collect()
    }

    /// Takes the users who left and didn't come back within [`GRACE`], with the time when each was last seen.
    pub(super) fn take_left(&self) -> Vec<(UserId, Timestamp)> {
        let now = Instant::now();
        let mut changes = self.lock();
        let ended = changes.left.extract_if(|_, leaving| leaving.grace_ends <= now);
        ended.map(|(user, leaving)| (user, leaving.last_seen)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn a_user_who_comes_back_within_the_grace_has_not_left() {
        let changes = UserChanges::default();
        let [alice, bob] = ["alice", "bob"].map(|name| name.parse::<UserId>().unwrap());
        changes.user_left(&alice, clock::now());
        changes.user_left(&bob, clock::now());
        tokio::time::advance(GRACE / 2).await;
        assert!(changes.take_left().is_empty());
        changes.user_arrived(&alice);
        tokio::time::advance(GRACE).await;
        assert_eq!(changes.take_left().into_iter().map(|(user, _)| user).collect::<Vec<_>>(), [bob]);
        assert_eq!(changes.take_arrived(), [alice]);
    }
}
