//! Verifying the read model: folds the log again, conversation by conversation, and compares every row with Postgres; then
//! compares the cached views with Postgres ([`compare_cached_views`]).
//!
//! | Step | What happens |
//! |---|---|
//! | rows | One snapshot of Postgres has the offsets up to which the read model is folded, the dead letters, and all rows. The rows are sorted into buckets, by the hash of their conversation. The snapshot ends. |
//! | log | Meanwhile the log is read from its beginning up to exactly these offsets. Its records are sorted in the same way. |
//! | comparison | Each bucket of the log is folded. The rows that the fold demands are compared with the bucket's rows from Postgres, in both directions. |
//!
//! The offsets and the rows are of one state of the database, and the log below the offsets never changes. So whatever
//! differs is a difference, however busy the system is: nothing needs to be looked at twice.
//!
//! Memory is bounded: [`replay::Buckets`] keeps the rest in a temporary file, and divides a bucket that is too large.
//! Only a single conversation must fit into memory, with what is folded of it.
//!
//! # Dead letters
//!
//! A record that the projector parked isn't folded, although this version may be able to read it. An operator's discard
//! is only a note: a rebuild by a version that can read the record folds it. So a discarded record counts if the read
//! model has its event among the applied ones.

mod cached_views;
mod comparison;
mod row_codec;
mod run;

pub(crate) use cached_views::LIMIT_ROWS as VIEW_LIMITS;
pub use cached_views::{StaleView, ViewComparison, compare_cached_views};
pub use run::{Verification, VerifyOutcome, VerifyProgress, verify};
