//! What differs between the live generation and the next one, in words.

use read_model::{Differences, DifferingConversations, DifferingRow};

/// The differences that these rows show. What the next generation has counts as demanded.
pub(super) fn describe(rows: &[DifferingRow], conversations: &DifferingConversations) -> Differences {
    let mut differences = Differences::default();
    for DifferingRow { live, next } in rows {
        match (live, next) {
            (Some(live), Some(next)) => differences.add_changed(next, live),
            (Some(live), None) => differences.add_added(live),
            (None, Some(next)) => differences.add_missing(next),
            (None, None) => {}
        }
    }
    differences.conversations = conversations.conversations().len() as u64;
    differences
}
