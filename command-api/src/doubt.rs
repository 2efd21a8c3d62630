//! Whether a key that isn't reserved was never used. Redis tells, as long as it has kept every reservation; what it lost
//! can be told from the read model, once the projector has passed everything that was reserved before. Until then a new
//! event may not be the first with its key: it is appended, and the fold decides. The same goes for as long as some process
//! can't reach Redis and uses keys without reserving them, which it says in Postgres first.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache::admission::Scope;
use cache::{Epoch, Reservation};
use domain::{Position, PositionVector};
use read_model::Unreserved;
use service::problem::Problem;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::CommandApi;
use crate::facts::{behind, postgres_down};

/// What was reserved so long ago is on the log, or never will be: an append takes half of it at most.
const UNDER_WAY: Duration = Duration::from_secs(10);
/// How far the clocks of Redis and of Kafka may be apart.
const SKEW: Duration = Duration::from_secs(60);
/// How long after a try to get out of doubt the next one comes.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Within this time of a look at what is known of its key, an event is on the log, or is in doubt. For as long those who
/// can't reserve keys wait after they have said so: whoever didn't see that yet was there before them.
const AT_ONCE: Duration = Duration::from_secs(1);
/// For how long it is enough to have said that keys aren't reserved.
const SAID: Duration = Duration::from_secs(1);

/// What is known about reservations.
#[derive(Default)]
pub(crate) struct Doubt {
    /// The epoch before which everything is in the read model, as well as what was used without a reservation.
    trusted: Mutex<Option<(String, Option<OffsetDateTime>)>>,
    /// When it was last tried to trust one.
    tried: Mutex<Option<Instant>>,
    /// Since when, and when last, this process said that it reserves nothing.
    said: Mutex<Option<(Instant, Instant)>>,
}

impl Doubt {
    fn trusts(&self, epoch: &str, unreserved: Option<Unreserved>) -> bool {
        let trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        trusted.as_ref().is_some_and(|(id, at)| id == epoch && *at == unreserved.map(|noted| noted.at))
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

    /// Since when it has been said without a pause that nothing is reserved, if that was said just now.
    fn said_since(&self) -> Option<Instant> {
        let said = *self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.and_then(|(since, last)| (last.elapsed() < SAID).then_some(since))
    }

    /// Notes that it was said: since when that is so without a pause.
    fn say(&self, before: Instant) -> Instant {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody trusts anything as long as what was said last is younger than twice that.
        let since =
            said.filter(|(_, last)| last.elapsed() < UNDER_WAY / 2).map_or_else(Instant::now, |(since, _)| since);
        *said = Some((since, before));
        since
    }
}

/// What was known of a key when it was looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    at: Instant,
    unreserved: Option<Unreserved>,
}

impl Look {
    /// A look that begins now.
    pub(crate) fn now() -> Self {
        Self { at: Instant::now(), unreserved: None }
    }

    /// The same with what it found of keys that were used without a reservation.
    pub(crate) fn with(self, unreserved: Option<Unreserved>) -> Self {
        Self { unreserved, ..self }
    }

    /// Whether somebody without Redis may have been faster since.
    pub(crate) fn is_over(&self) -> bool {
        self.at.elapsed() >= AT_ONCE
    }
}

impl CommandApi {
    /// Whether an event that was decided in this epoch may not be the first with its key; none: without Redis.
    pub(crate) async fn in_doubt(&self, epoch: Option<&Epoch>, look: Look) -> bool {
        let Some(epoch) = epoch else { return true };
        if self.0.doubt.trusts(&epoch.id, look.unreserved) {
            return false;
        }
        !is_old_enough(epoch, look.unreserved) || !self.0.doubt.may_try() || !self.trust(epoch, look.unreserved).await
    }

    /// Trusts an epoch, if that can be.
    async fn trust(&self, epoch: &Epoch, unreserved: Option<Unreserved>) -> bool {
        let is_past = self.is_past(epoch, unreserved).await;
        if is_past {
            let trusted = (epoch.id.clone(), unreserved.map(|noted| noted.at));
            *self.0.doubt.trusted.lock().unwrap_or_else(PoisonError::into_inner) = Some(trusted);
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
                    && let Ok(unreserved) = api.0.parts.read_model.unreserved().await
                    && is_old_enough(&epoch, unreserved)
                    && !api.0.doubt.trusts(&epoch.id, unreserved)
                {
                    api.trust(&epoch, unreserved).await;
                }
            }
        });
    }

    /// Whether nothing can have come before what is reserved in an epoch of this id.
    pub(crate) fn is_trusted(&self, epoch: Option<&str>, look: Look) -> bool {
        epoch.is_some_and(|epoch| self.0.doubt.trusts(epoch, look.unreserved))
    }

    /// Lets everybody know that a key is about to be used without a reservation, and waits until those who didn't know it
    /// are done.
    ///
    /// # Errors
    /// 503 when Postgres doesn't answer either.
    pub(crate) async fn say_unreserved(&self) -> Result<(), Problem> {
        let since = match self.0.doubt.said_since() {
            Some(since) => since,
            None => {
                let before = Instant::now();
                self.0.parts.read_model.note_unreserved().await.map_err(|error| postgres_down(&error))?;
                self.0.doubt.say(before)
            }
        };
        tokio::time::sleep_until(since + AT_ONCE).await;
        Ok(())
    }

    /// Whether everything that was reserved before an epoch, or not at all, is in the read model.
    async fn is_past(&self, epoch: &Epoch, unreserved: Option<Unreserved>) -> bool {
        // What the log took well after the epoch began was reserved in it. Of a young one nobody knows by the clock.
        let past = UNDER_WAY + SKEW;
        let end = if epoch.age > past + SKEW && unreserved.is_none() {
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
        Ok(self.applied(scope).await?.0)
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
        let (first, _) = self.applied(scope).await?;
        if let Some(first) = &first {
            // Something else may be reserved, or nothing.
            let _ = self.0.parts.cache.correct(scope, first).await;
        }
        Ok(first.filter(|first| first.position != Some(position)))
    }
}

/// Whether what was reserved before an epoch, or not at all, is on the log by now, or never will be.
fn is_old_enough(epoch: &Epoch, unreserved: Option<Unreserved>) -> bool {
    epoch.age >= UNDER_WAY && unreserved.is_none_or(|noted| noted.age >= UNDER_WAY)
}
