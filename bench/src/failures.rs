//! The failures of a run. Each is counted, and any makes the exit code 1.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How often each failure happened.
#[derive(Default)]
pub(crate) struct Failures(Mutex<BTreeMap<String, u64>>);

impl Failures {
    /// Counts a failure; with 0 it does nothing.
    pub(crate) fn add(&self, failure: impl Into<String>, count: u64) {
        if count > 0 {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(failure.into()).or_default() += count;
        }
    }

    /// Each failure with its count.
    pub(crate) fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
