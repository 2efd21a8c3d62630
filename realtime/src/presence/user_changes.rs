//! The users who came to this node, or left it, since the heartbeat task last looked.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::UserId;
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
    /// The users without a socket, with the time when their last one ended.
    left: HashMap<UserId, Instant>,
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
    pub(crate) fn user_left(&self, user: &UserId) {
        self.lock().left.insert(user.clone(), Instant::now());
    }

    /// Takes the users who arrived.
    pub(super) fn take_arrived(&self) -> Vec<UserId> {
        self.lock().arrived.drain().collect()
    }

    /// Takes the users who left and didn't come back within [`GRACE`], with the time when each was last seen.
    pub(super) fn take_left(&self) -> Vec<(UserId, Instant)> {
        self.lock().left.extract_if(|_, seen| seen.elapsed() >= GRACE).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_user_who_comes_back_within_the_grace_has_not_left() {
        let changes = UserChanges::default();
        let [alice, bob] = ["alice", "bob"].map(|name| name.parse::<UserId>().unwrap());
        changes.user_left(&alice);
        changes.user_left(&bob);
        tokio::time::advance(GRACE / 2).await;
        assert!(changes.take_left().is_empty());
        changes.user_arrived(&alice);
        tokio::time::advance(GRACE).await;
        assert_eq!(changes.take_left().into_iter().map(|(user, _)| user).collect::<Vec<_>>(), [bob]);
        assert_eq!(changes.take_arrived(), [alice]);
    }
}
