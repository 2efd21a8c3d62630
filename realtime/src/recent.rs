//! The events that were relayed just now, so that a copy of one is relayed once.

use std::collections::{HashSet, VecDeque};

use domain::EventId;

/// How many are remembered.
pub(crate) const REMEMBERED: usize = 65_536;

/// A set of the newest event ids.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    known: HashSet<EventId>,
    order: VecDeque<EventId>,
}

impl Recent {
    /// Whether the id is new; remembers it.
    pub(crate) fn is_new(&mut self, id: EventId) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > REMEMBERED
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
    fn a_copy_is_noticed_and_memory_is_bounded() {
        let mut recent = Recent::default();
        let id = |number| EventId(uuid::Uuid::from_u128(number));
        assert!(recent.is_new(id(0)));
        assert!(!recent.is_new(id(0)));
        for number in 1..=REMEMBERED as u128 {
            assert!(recent.is_new(id(number)));
        }
        assert_eq!(recent.known.len(), REMEMBERED);
        assert!(recent.is_new(id(0)), "the oldest is forgotten");
    }
}
