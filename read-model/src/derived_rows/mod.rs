//! The rows that are folded from the log, as texts: those that Postgres has, and those that a state demands. A
//! comparison needs no more, and a row that somebody damaged is a text, too.
//!
//! Each value is the text that Postgres makes of it, with times in UTC. An example: the read mark of a member has the
//! values `0193…`, `alice`, `0`, `7`, `2026-11-23 09:00:00.123+00` and so on, in the order of
//! [`DerivedTable::columns`].

mod demanded;
mod stored;
mod table;

pub use demanded::{demanded_applied, demanded_rows};
pub use stored::StoredRows;
pub use table::{DerivedRow, DerivedTable};

pub(crate) use stored::LIMIT_ROWS;
