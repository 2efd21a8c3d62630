//! Whether a key that isn't reserved was never used. Redis tells, as long as it has kept every reservation; what it lost
//! can be told from the read model, once the projector has passed everything that was reserved before. Until then a new
//! event may not be the first with its key: it is appended, and the fold decides.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache::admission::Scope;
use cache::{Epoch, Reservation};
use domain::{Position, PositionVector};
use service::problem::Problem;
use tokio::time::Instant;

use crate::CommandApi;
use crate::facts::behind;

/// What was reserved so long ago is on the log, or never will be: an append takes half of it at most.
const UNDER_WAY: Duration = Duration::from_secs(10);
/// How far the clocks of Redis and of Kafka may be apart.
const SKEW: Duration = Duration::from_secs(60);
/// How long after a try to get out of doubt the next one comes.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What is known about reservations.
#[derive(Default)]
pub(crate) struct Doubt {
    /// The epoch before which everything is in the read model.
    trusted: Mutex<Option<String>>,
    /// When it was last tried to trust one.
    tried: Mutex<Option<Instant>>,
}

impl Doubt {
    fn trusts(&self, epoch: &str) -> bool {
        self.trusted.lock().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(epoch)
    }

    /// Whether it is time for another try; then it is this caller's.
    fn may_try(&self) -> bool {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let due = tried.is_none_or(|tried| tried.elapsed() >= AGAIN_AFTER);
        if due {
            *tried = Some(Instant::now());
        }
        due
    }
}

impl CommandApi {
    /// Whether an event that was decided in this epoch may not be the first with its key; none: without Redis.
    pub(crate) async fn in_doubt(&self, epoch: Option<&Epoch>) -> bool {
        let Some(epoch) = epoch else { return true };
        if self.is_trusted(Some(&epoch.id)) {
            return false;
        }
        epoch.age < UNDER_WAY || !self.0.doubt.may_try() || !self.trust(epoch).await
    }

    /// Trusts an epoch, if that can be.
    async fn trust(&self, epoch: &Epoch) -> bool {
        let is_past = self.is_past(epoch).await;
        if is_past {
            *self.0.doubt.trusted.lock().unwrap_or_else(PoisonError::into_inner) = Some(epoch.id.clone());
        }
        is_past
    }

    /// Lets epochs begin, and trusts them, also while no command with a key comes: the first one shouldn't have to wait.
    pub(crate) fn trust_in_time(&self) {
        let shared = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let mut every = tokio::time::interval(AGAIN_AFTER);
            loop {
                every.tick().await;
                let Some(shared) = shared.upgrade() else { return };
                let api = Self(shared);
                if let Ok(epoch) = api.0.parts.cache.epoch().await
                    && epoch.age >= UNDER_WAY
                    && !api.is_trusted(Some(&epoch.id))
                {
                    api.trust(&epoch).await;
                }
            }
        });
    }

    /// Whether nothing can have come before what is reserved in an epoch of this id.
    pub(crate) fn is_trusted(&self, epoch: Option<&str>) -> bool {
        epoch.is_some_and(|epoch| self.0.doubt.trusts(epoch))
    }

    /// Whether everything that was reserved before an epoch is in the read model.
    async fn is_past(&self, epoch: &Epoch) -> bool {
        // What the log took well after the epoch began was reserved in it. Of a young one nobody knows by the clock.
        let past = UNDER_WAY + SKEW;
        let end = if epoch.age > past + SKEW {
            let past = i64::try_from(past.as_millis()).unwrap_or(0);
            self.0.parts.log.offsets_at(epoch.began_ms().saturating_add(past)).await.ok()
        } else {
            self.0.barrier.log_end().await
        };
        match end {
            Some(end) => self.at_least(&end).await.is_ok(),
            None => false,
        }
    }

    /// What came first with a key, of everything that is on the log now.
    ///
    /// # Errors
    /// 503 when the fold doesn't get there in time.
    pub(crate) async fn applied_so_far(&self, scope: Scope<'_>) -> Result<Option<Reservation>, Problem> {
        let end = self.0.barrier.log_end().await.ok_or_else(behind)?;
        self.at_least(&end).await?;
        self.applied(scope).await
    }

    /// What came first with the key of an event that was appended at a position, as the fold decides; none: that event.
    ///
    /// # Errors
    /// 503 when the fold hasn't decided in time.
    pub(crate) async fn before(&self, scope: Scope<'_>, position: Position) -> Result<Option<Reservation>, Problem> {
        self.at_least(&PositionVector::up_to(position)).await.map_err(|_| {
            let detail = "it isn't known yet whether this key was used before; try again with the same Idempotency-Key";
            Problem::unavailable("append_unknown", detail, 1)
        })?;
        let first = self.applied(scope).await?.filter(|first| first.position != Some(position));
        if let Some(first) = &first {
            let _ = self.0.parts.cache.correct(scope, first).await;
        }
        Ok(first)
    }
}
