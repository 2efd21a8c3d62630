//! What this process knows about reservations: the epoch that it trusts, and the outage that it has announced.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cache::ReservationEpoch;
use read_model::RedisOutage;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{APPEND_ENDS_AFTER, RETRY_INTERVAL};

/// How long an outage announcement stays valid for the process that made it.
const ANNOUNCEMENT_VALID: Duration = Duration::from_secs(1);

/// The trusted epoch: everything that was reserved before it, or used without a reservation before the outage, is in
/// the read model. A key that is neither reserved nor in the read model is then unused.
#[derive(Default)]
pub(super) struct TrustedEpoch {
    /// The epoch's id and the time of the last outage, if there was one.
    trusted: Mutex<Option<(String, Option<OffsetDateTime>)>>,
    /// When this process last tried to trust an epoch.
    last_attempt: Mutex<Option<Instant>>,
}

impl TrustedEpoch {
    pub(super) fn is(&self, epoch_id: &str, outage: Option<RedisOutage>) -> bool {
        let trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        trusted.as_ref().is_some_and(|(id, at)| id == epoch_id && *at == outage.map(|outage| outage.at))
    }

    pub(super) fn set(&self, epoch: &ReservationEpoch, outage: Option<RedisOutage>) {
        let trusted = (epoch.id.clone(), outage.map(|outage| outage.at));
        *self.trusted.lock().unwrap_or_else(PoisonError::into_inner) = Some(trusted);
    }

    /// Whether another attempt is due. If so, it is this caller's.
    pub(super) fn claim_attempt(&self) -> bool {
        let mut last = self.last_attempt.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= RETRY_INTERVAL);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

/// The outage announcements of this process.
#[derive(Default)]
pub(super) struct OutageAnnouncement(Mutex<Option<Announced>>);

#[derive(Clone, Copy)]
struct Announced {
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
        *announced = Some(Announced { since, last: sent });
        since
    }
}
