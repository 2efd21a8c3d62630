//! The wall clock, in the domain's [`Timestamp`]s. Timeouts within one process use tokio's monotonic clock instead.

use std::time::{Duration, SystemTime};

use domain::Timestamp;
use time::OffsetDateTime;

/// The current time.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::from_date_time(OffsetDateTime::from(SystemTime::now()));
    // No clock is beyond the year 9999.
    now.or_else(|_| Timestamp::from_millis(0)).unwrap_or_else(|_| unreachable!("1970 is a valid timestamp"))
}

/// `time` before `at`.
pub(crate) fn before(at: Timestamp, time: Duration) -> Timestamp {
    let millis = at.as_millis().saturating_sub(i64::try_from(time.as_millis()).unwrap_or(0));
    Timestamp::from_millis(millis).unwrap_or(at)
}

/// The time from now until `at`; zero if `at` has passed.
pub(crate) fn until(at: Timestamp) -> Duration {
    from_millis(at.as_millis().saturating_sub(now().as_millis()))
}

/// The time since a moment in Unix milliseconds; zero if it is in the future.
pub(crate) fn since_millis(moment: i64) -> Duration {
    from_millis(now().as_millis().saturating_sub(moment))
}

fn from_millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
