//! How many sockets a user may have on this node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use domain::UserId;

/// A user's sockets on one node at a time: a socket for each open page and device of a person, with much to spare.
pub(crate) const SEATS: usize = 100;

/// The users who have sockets, with how many.
#[derive(Clone, Default)]
pub(crate) struct Seats(Arc<Mutex<HashMap<UserId, usize>>>);

/// A socket's place among its user's; free again when dropped.
pub(crate) struct Seat {
    seats: Seats,
    user: UserId,
}

impl Seats {
    /// A place for one more socket of a user; none when they have [`SEATS`].
    pub(crate) fn take(&self, user: &UserId) -> Option<Seat> {
        let mut seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = seats.entry(user.clone()).or_default();
        if *taken == SEATS {
            return None;
        }
        *taken += 1;
        Some(Seat { seats: self.clone(), user: user.clone() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = seats.get_mut(&self.user) {
            *taken -= 1;
            if *taken == 0 {
                seats.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_socket_has_gone() {
        let [alice, bob] = ["alice", "bob"].map(|name| name.parse::<UserId>().unwrap());
        let seats = Seats::default();
        let mut taken: Vec<_> = (0..SEATS).map(|_| seats.take(&alice).unwrap()).collect();
        assert!(seats.take(&alice).is_none());
        assert!(seats.take(&bob).is_some(), "others have their own");
        taken.pop();
        assert!(seats.take(&alice).is_some());
        taken.clear();
        assert!(seats.0.lock().unwrap().is_empty(), "who has none is forgotten");
    }
}
