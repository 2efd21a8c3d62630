//! When this process last announced that it can't reach Redis.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::append::APPEND_ENDS_AFTER;

/// How long an outage announcement stays valid for the process that made it.
const ANNOUNCEMENT_VALID: Duration = Duration::from_secs(1);

/// The outage announcements of this process.
#[derive(Default)]
pub(super) struct OutageAnnouncement(Mutex<Option<Announcements>>);

#[derive(Clone, Copy)]
struct Announcements {
    /// Since when announcements have followed each other without a gap.
    since: Instant,
    last: Instant,
}

impl OutageAnnouncement {
    /// Since when the outage has been announced without a gap, if the last announcement is still valid.
    pub(super) fn valid_since(&self) -> Option<Instant> {
        let announced = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        (announced.last.elapsed() < ANNOUNCEMENT_VALID).then_some(announced.since)
    }

    /// Records an announcement that was sent at `sent`. Returns since when there has been no gap.
    pub(super) fn record(&self, sent: Instant) -> Instant {
        let mut announced = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // No process trusts an epoch while the last announcement is younger than twice this gap.
        let unbroken = announced.filter(|it| it.last.elapsed() < APPEND_ENDS_AFTER / 2);
        let since = unbroken.map_or_else(Instant::now, |it| it.since);
        *announced = Some(Announcements { since, last: sent });
        since
    }
}
