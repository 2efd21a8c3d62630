//! Repairs: rows of the read model that were made anew from the log, and are other ones than before. A client that knows
//! the old ones can't learn of it from positions, because the log has nothing new. Tokens therefore say which repairs
//! their answers include.

use serde::{Deserialize, Serialize};

use crate::ids::{ConversationId, UserId};

/// Whom a repair concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RepairScope {
    /// Everybody in a conversation.
    Conversation(ConversationId),
    /// A user who is in a conversation only before the repair, or only afterwards.
    User(UserId),
    /// All users, whatever they are in.
    Everybody,
}

/// A repair, as clients' tokens and the processes know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// Repairs are numbered from 1.
    pub number: i64,
    /// Whom it concerns.
    pub scope: RepairScope,
}

/// The repairs of the read model that every cache knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldRepairs {
    /// The number of the last one; 0 if there is none.
    pub number: i64,
    /// The last ones, in order; not always all.
    pub latest: Vec<Repair>,
}

impl ToldRepairs {
    /// The repairs after one; none if this doesn't list all of them.
    pub fn after(&self, number: i64) -> Option<&[Repair]> {
        let first = self.latest.partition_point(|repair| repair.number <= number);
        let expected = usize::try_from(self.number - number).unwrap_or(0);
        let later = &self.latest[first..];
        (later.len() == expected).then_some(later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repairs_after_one_are_all_of_them_or_unknown() {
        let latest: Vec<Repair> = (4..=6).map(|number| Repair { number, scope: RepairScope::Everybody }).collect();
        let told = ToldRepairs { number: 6, latest: latest.clone() };
        assert_eq!(told.after(6), Some(&[][..]));
        assert_eq!(told.after(4), Some(&latest[1..]));
        assert_eq!(told.after(3), Some(&latest[..]));
        assert_eq!(told.after(2), None);
        assert_eq!(ToldRepairs::default().after(0), Some(&[][..]));
    }
}
