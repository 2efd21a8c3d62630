//! The reservation epoch that this process trusts.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cache::ReservationEpoch;
use read_model::RedisOutage;
use time::OffsetDateTime;
use tokio::time::Instant;

/// The pause between two attempts to trust an epoch.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The trusted epoch: everything that was reserved before it, or used without a reservation during the outage, is in
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
