//! The ids of the newest events. With them the relay recognizes a second record of the same event, and drops it.

use std::collections::{HashSet, VecDeque};

use domain::EventId;

/// How many event ids the relay remembers.
pub(super) const REMEMBERED_EVENTS: usize = 65_536;

/// The set of the newest event ids, up to [`REMEMBERED_EVENTS`].
#[derive(Debug, Default)]
pub(super) struct RecentEventIds {
    known: HashSet<EventId>,
    /// The same ids, oldest first.
    order: VecDeque<EventId>,
}

impl RecentEventIds {
    /// Remembers an event id. Returns whether it is new.
    pub(super) fn insert(&mut self, id: EventId) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > REMEMBERED_EVENTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_a_duplicate_and_forgets_the_oldest() {
        let mut recent = RecentEventIds::default();
        let id = |number| EventId(uuid::Uuid::from_u128(number));
        assert!(recent.insert(id(0)));
        assert!(!recent.insert(id(0)));
        for number in 1..=REMEMBERED_EVENTS as u128 {
            assert!(recent.insert(id(number)));
        }
        assert_eq!(recent.known.len(), REMEMBERED_EVENTS);
        assert!(recent.insert(id(0)), "the set has forgotten the oldest id");
    }
}
