//! How commands and queries read: they wait until the read model has reached a position, look in Redis, and otherwise
//! read Postgres and fill the cache.
//!
//! Redis only makes a read fast. A read must never fail, or answer with older data, because Redis is down.

// A request pays for each byte of its future, which is moved and boxed: what it rarely awaits is in a box of its own.
#![warn(clippy::large_futures)]

mod log_end;
mod offset_poll;
pub mod rate_limit;
mod request_cache;
mod view_comparison;
mod wait;

pub use log_end::LogEnd;
pub use request_cache::{CachedView, CountedView, RequestCache};
pub use view_comparison::{CompareError, ViewDifference, ViewFinding, compare_view};
pub use wait::{MAX_WAIT, PositionWait, ReachedIn, WaitError};

use read_model::ReadModelError;
use service::problem::Problem;

/// The 503 for a request that needs Postgres while Postgres doesn't answer. Logs the reason, which clients never see.
pub fn postgres_unavailable(error: &ReadModelError) -> Problem {
    tracing::warn!(%error, "a read from Postgres failed; the client is told to retry");
    Problem::dependency_unavailable()
}

/// The limits of this crate, for `docs/limits.md`.
pub const LIMITS: &[&[domain::limit_rows::LimitRow]] = &[wait::LIMIT_ROWS, log_end::LIMIT_ROWS];
