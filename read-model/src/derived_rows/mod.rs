//! The rows that are folded from the log: those that a state demands, and those that Postgres has. A comparison takes both
//! as texts, because a row that somebody damaged is a text, too.
//!
//! Each value is then the text that Postgres makes of it, with times in UTC. An example: the read mark of a member has the
//! values `0193…`, `alice`, `0`, `7`, `2026-11-23 09:00:00.123+00` and so on, in the order of
//! [`DerivedTable::columns`].

mod demanded;
mod difference;
mod parked_records;
mod stored;
mod stored_conversation;
mod table;

pub use demanded::{DemandedRow, demanded_applied, demanded_rows};
pub use difference::{Difference, DifferenceKind, Differences, TableCounts};
pub use parked_records::ParkedRecords;
pub use stored::StoredRows;
pub use stored_conversation::StoredConversation;
pub use table::{DerivedRow, DerivedTable};

pub(crate) use demanded::Value;
pub(crate) use difference::LIMIT_ROWS as DIFFERENCE_LIMITS;
pub(crate) use stored::LIMIT_ROWS;
pub(crate) use stored_conversation::LIMIT_ROWS as CONVERSATION_LIMITS;
