//! The projector: reads the log in batches, folds it into the read model, and then invalidates cached views.
//!
//! Rows and offsets commit together, with a compare-and-set on the offsets, so an event counts once however often it is
//! read. Leases share the partitions out among projectors; only the compare-and-set keeps two of them from writing the
//! same.
//!
//! The projector must never publish progress that isn't committed. A failure of Redis never holds a batch up.

mod as_of;
mod complete_log;
mod dead_letters;
mod execute;
mod folded_keys;
pub mod folding;
mod idle;
mod jobs;
mod lag;
mod progress;
mod projector;
mod rebuild;
mod repairs;
mod session;
mod stalls;
mod verify;
mod worker;

pub use folded_keys::FoldedKeys;
pub use jobs::{JobRunner, run_jobs};
pub use lag::{Lag, lag};
pub use progress::StepProgress;
pub use projector::Projector;
pub use read_model::{Difference, DifferenceKind, Differences, TableCounts};
pub use rebuild::{Rebuild, RebuildGoal, RebuildOutcome, RebuildStep, ResetProgress, go_back, rebuild, reset};
pub use stalls::{Stalls, held_reason};
pub use verify::{
    StaleView, Verification, VerifyOutcome, VerifyProgress, ViewComparison, compare_cached_views, verify,
};
pub use worker::run;

/// The limits of this crate, for `docs/limits.md`.
pub const LIMITS: &[&[domain::limit_rows::LimitRow]] = &[
    folding::BACKLOG_LIMITS,
    folding::BUDGET_LIMITS,
    folding::PUBLICATION_LIMITS,
    folded_keys::LIMIT_ROWS,
    dead_letters::LIMIT_ROWS,
    jobs::CARRY_OUT_LIMITS,
    jobs::RUNNER_LIMITS,
    rebuild::CATCH_UP_LIMITS,
    rebuild::COPY_LIMITS,
    rebuild::COURTESY_LIMITS,
    rebuild::SWAP_LIMITS,
    verify::VIEW_LIMITS,
];
