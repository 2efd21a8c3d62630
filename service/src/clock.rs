//! The wall clock, in the domain's [`Timestamp`]s. Timeouts within one process use tokio's monotonic clock instead.

use std::time::{Duration, SystemTime};

use domain::Timestamp;

/// The current time.
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or_default());
    // No clock is beyond the year 9999.
    now.or_else(|_| Timestamp::from_millis(0)).unwrap_or_else(|_| unreachable!("1970 is a valid timestamp"))
}

/// `time` before `at`.
pub fn before(at: Timestamp, time: Duration) -> Timestamp {
    let millis = at.as_millis().saturating_sub(i64::try_from(time.as_millis()).unwrap_or(0));
    Timestamp::from_millis(millis).unwrap_or(at)
}

/// The time from now until `at`; zero if `at` has passed.
pub fn until(at: Timestamp) -> Duration {
    from_millis(at.as_millis().saturating_sub(now().as_millis()))
}

/// The time since a moment in Unix milliseconds; zero if it is in the future.
pub fn since_millis(moment: i64) -> Duration {
    from_millis(now().as_millis().saturating_sub(moment))
}

fn from_millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
