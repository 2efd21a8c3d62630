//! How far a rebuild or a verification is, in words.

use crate::rebuild::RebuildStep;
use crate::verify::VerifyProgress;

/// A step of long work, and how much of it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepProgress {
    /// Such as `reading the log`.
    pub name: &'static str,
    /// What it counts, such as `records`.
    pub unit: &'static str,
    /// How many are done.
    pub done: u64,
    /// How many there are. Where that isn't known, as many as are done.
    pub total: u64,
}

impl StepProgress {
    fn new(name: &'static str, unit: &'static str, done: u64, total: u64) -> Self {
        Self { name, unit, done, total }
    }

    /// The comparison of so many cached views.
    pub fn of_views(compared: u64) -> Self {
        Self::new("comparing cached views with the rows", "views", compared, compared)
    }
}

impl From<RebuildStep> for StepProgress {
    fn from(step: RebuildStep) -> Self {
        match step {
            RebuildStep::Log(log) => Self::new("reading the log", "records", log.done, log.total),
            RebuildStep::Copying { done, total } => Self::new("folding and copying", "parts", done, total),
            RebuildStep::Indexing { done, total } => Self::new("making indexes", "indexes", done, total),
            RebuildStep::Comparing => Self::new("comparing with the rows in use", "steps", 0, 1),
            RebuildStep::CatchingUp => Self::new("folding what has come meanwhile", "steps", 0, 1),
            RebuildStep::Swapping => Self::new("replacing the rows in use", "steps", 0, 1),
        }
    }
}

impl From<VerifyProgress> for StepProgress {
    fn from(progress: VerifyProgress) -> Self {
        match progress {
            VerifyProgress::Rows(rows) => Self::new("reading the rows of the read model", "rows", rows, rows),
            VerifyProgress::Log(log) => Self::new("reading the log", "records", log.done, log.total),
            VerifyProgress::Comparison { done, total } => {
                Self::new("comparing the rows with the log", "parts", done, total)
            }
        }
    }
}
