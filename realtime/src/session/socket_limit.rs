//! How many sockets a user may have on this node, and what they share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use domain::UserId;

use super::query_limit::QueryLimit;

/// The most sockets of one user: one for each open page and device of a person, with much to spare.
const SOCKETS_PER_USER: usize = 100;

domain::limit_rows! {
    Sockets, "sockets of a user on one node", Count SOCKETS_PER_USER, "a `connect_error` with the message `too_many_sockets`; another socket has to end first", "the other users' sockets";
}

/// The users who have sockets. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct SocketLimit(Arc<Mutex<HashMap<UserId, UserSockets>>>);

/// What the sockets of a user share.
struct UserSockets {
    count: usize,
    queries: Arc<QueryLimit>,
}

/// Counts one socket against its user's limit until it is dropped.
pub(super) struct SocketPermit {
    limit: SocketLimit,
    user: UserId,
    /// The limit of the user's presence queries.
    pub(super) queries: Arc<QueryLimit>,
}

impl SocketLimit {
    /// A permit for one more socket of a user; none if they have [`SOCKETS_PER_USER`].
    pub(super) fn acquire(&self, user: &UserId) -> Option<SocketPermit> {
        let mut sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || UserSockets { count: 0, queries: Arc::new(QueryLimit::new()) };
        let user_sockets = sockets.entry(user.clone()).or_insert_with(new);
        if user_sockets.count == SOCKETS_PER_USER {
            return None;
        }
        user_sockets.count += 1;
        Some(SocketPermit { limit: self.clone(), user: user.clone(), queries: user_sockets.queries.clone() })
    }
}

impl Drop for SocketPermit {
    fn drop(&mut self) {
        let mut sockets = self.limit.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(user_sockets) = sockets.get_mut(&self.user) {
            user_sockets.count -= 1;
            if user_sockets.count == 0 {
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
