//! Rebuilding the read model from the log: either next to the one that is in use ([`rebuild`]), or in its place
//! ([`reset`]), for another topic.
//!
//! # The steps of a rebuild
//!
//! | Step | What happens |
//! |---|---|
//! | log | One snapshot of the live generation has its offsets. The log is read from its beginning up to exactly these, and its records are sorted by conversation. Meanwhile Postgres computes digests of the snapshot's rows. |
//! | copy | The buckets are folded on two threads, and its rows are copied into the tables of the next generation, which have no indexes yet. |
//! | indexes | Postgres makes the indexes. |
//! | comparison | Postgres computes the same digests of the next generation. Both must be equal. |
//! | catching up | Batches fold what has come since, as a projector does, until little is left. What has changed since is compared, too. |
//! | swap | The live generation stands still. The next one is folded to exactly its offsets, what changed since the last comparison is compared, and the next one becomes the live one. If that takes too long, the live one goes on, and the rebuild tries again. |
//!
//! Queries and projectors use the live generation meanwhile. Nothing of it is changed before the swap, so a rebuild that
//! fails, or is killed, leaves it as it was; the next one drops what is left.
//!
//! A *dry run* ends after the comparison; only to show rows that differ, the live generation stands still. With another version of the program it shows what that version would change.

mod catch_up;
mod copy;
mod courtesy;
mod differences;
mod next;
mod reset;
mod swap;

pub(crate) use catch_up::LIMIT_ROWS as CATCH_UP_LIMITS;
pub(crate) use copy::LIMIT_ROWS as COPY_LIMITS;
pub(crate) use courtesy::LIMIT_ROWS as COURTESY_LIMITS;
pub use next::{Rebuild, RebuildOutcome, RebuildStep, go_back, rebuild};
pub use reset::{ResetProgress, reset};
pub(crate) use swap::LIMIT_ROWS as SWAP_LIMITS;
pub use swap::RebuildGoal;
pub(crate) use swap::UnknownOutcome;
