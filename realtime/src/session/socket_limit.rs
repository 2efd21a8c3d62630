//! How many sockets a user may have on this node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use domain::UserId;

/// The most sockets of one user: one for each open page and device of a person, with much to spare.
const SOCKETS_PER_USER: usize = 100;

/// The number of sockets of each user who has any. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct SocketLimit(Arc<Mutex<HashMap<UserId, usize>>>);

/// Counts one socket against its user's limit until it is dropped.
pub(super) struct SocketPermit {
    limit: SocketLimit,
    user: UserId,
}

impl SocketLimit {
    /// A permit for one more socket of a user; none if they have [`SOCKETS_PER_USER`].
    pub(super) fn acquire(&self, user: &UserId) -> Option<SocketPermit> {
        let mut sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sockets.entry(user.clone()).or_default();
        if *count == SOCKETS_PER_USER {
            return None;
        }
        *count += 1;
        Some(SocketPermit { limit: self.clone(), user: user.clone() })
    }
}

impl Drop for SocketPermit {
    fn drop(&mut self) {
        let mut sockets = self.limit.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sockets.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                sockets.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_ends_makes_room_for_another_of_its_user() {
        let [alice, bob] = ["alice", "bob"].map(|name| name.parse::<UserId>().unwrap());
        let limit = SocketLimit::default();
        let mut permits: Vec<_> = (0..SOCKETS_PER_USER).map(|_| limit.acquire(&alice).unwrap()).collect();
        assert!(limit.acquire(&alice).is_none());
        assert!(limit.acquire(&bob).is_some(), "each user has their own limit");
        permits.pop();
        assert!(limit.acquire(&alice).is_some());
        permits.clear();
        assert!(limit.0.lock().unwrap().is_empty(), "users without sockets take no memory");
    }
}
