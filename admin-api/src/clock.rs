//! The wall clock, in the domain's [`Timestamp`]s.

use std::time::{SystemTime, UNIX_EPOCH};

use domain::Timestamp;

/// The current time in Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// A time in Unix milliseconds; none if it is beyond the year 9999.
pub(crate) fn timestamp(millis: i64) -> Option<Timestamp> {
    Timestamp::from_millis(millis).ok()
}
