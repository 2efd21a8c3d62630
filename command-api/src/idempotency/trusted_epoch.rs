//! The reservation epoch that this process trusts.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cache::ReservationEpoch;
use read_model::KeyConditions;
use tokio::time::Instant;

/// The pause between two attempts to trust an epoch.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The trusted epoch: everything that was reserved before it, used without a reservation during the outage, or folded
/// before the generation, is in the read model. A key that is neither reserved nor in the read model is then unused.
#[derive(Default)]
pub(super) struct TrustedEpoch {
    trusted: Mutex<Option<Trusted>>,
    /// When this process last tried to trust an epoch.
    last_attempt: Mutex<Option<Instant>>,
}

/// An epoch's id, and the conditions under which the process trusts it.
#[derive(Clone)]
struct Trusted {
    epoch_id: String,
    conditions: KeyConditions,
}

impl TrustedEpoch {
    pub(super) fn is(&self, epoch_id: &str, conditions: KeyConditions) -> bool {
        let trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        trusted.as_ref().is_some_and(|trusted| {
            let outages = [trusted.conditions.outage, conditions.outage].map(|outage| outage.map(|outage| outage.at));
            trusted.epoch_id == epoch_id
                && trusted.conditions.generation == conditions.generation
                && outages[0] == outages[1]
        })
    }

    /// The conditions under which the process last trusted an epoch.
    pub(super) fn conditions(&self) -> KeyConditions {
        let trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        trusted.as_ref().map(|trusted| trusted.conditions).unwrap_or_default()
    }

    pub(super) fn set(&self, epoch: &ReservationEpoch, conditions: KeyConditions) {
        let trusted = Trusted { epoch_id: epoch.id.clone(), conditions };
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
