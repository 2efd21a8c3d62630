//! Idempotency: which event used an idempotency key first.
//!
//! The fold decides that permanently: the first event on the log with a key counts, and every later one is dropped. This
//! module finds out early enough to answer the client. It must never answer that a key is unused while an event with
//! that key may be on its way to the log.
//!
//! # The timeline of a command with a key
//!
//! | When | What happens |
//! |---|---|
//! | look up | [`Idempotency::look_up`] reads the reservation in Redis. If there is none, or none of an acknowledged event, it asks the read model, which also reports its generation and the last announced outage of Redis. |
//! | reserve | `Cache::admit` reserves the key for the whole event, atomically, and returns the reservation epoch. |
//! | append | Kafka acknowledges the event. A contender in another process finds the reservation and appends the same bytes; the fold drops the copy. |
//! | confirm | Where [`Idempotency::needs_confirmation`] says so, [`Idempotency::confirm`] waits until the projector has folded the event, and answers with the event that came first. If that takes too long, a retry waits for the same position (`Cache::note_appended`), and appends nothing. |
//! | record | `Cache::record_outcome` replaces the event in the reservation by its position and its request's hash. A retry reads the event from the log. |
//! | fold | Once the event is folded, the read model knows the key. The projector lets the reservation end soon (`Cache::expire_folded`). |
//!
//! # Without Postgres
//!
//! Redis alone can't know that a key without a reservation is unused: the reservation may have ended. It can if the key
//! is a UUID of version 7, as the client library makes them, of the last two minutes: a reservation lasts longer
//! ([`keys::FRESH_KEY`](cache::keys::FRESH_KEY)). The time in a key is the client's, whose clock may be wrong. A key that
//! is used more than a minute before its time therefore leaves a mark on its user until that time has passed, and while
//! the mark is there, none of the user's keys up to it counts as unused. A Redis that loses its data loses reservations,
//! so no key counts whose time is before the epoch. It also loses the marks: the one case that is left is a clock that
//! was ahead before, and the fold drops what comes of it. All other keys get 503 until Postgres is back.
//!
//! A reserved event whose append nobody acknowledged is appended again only while it is young. It may be folded, and
//! the relay of a node forgets folded events.
//!
//! # The races that this closes
//!
//! *Redis lost reservations.* Redis then begins a new [`ReservationEpoch`], and a key without a reservation may have been
//! used before it. The command API confirms each command in the read model until it trusts the epoch. It does so once
//! two things hold: the epoch is [`APPEND_ENDS_AFTER`] old, so every earlier append has ended; and the projector has
//! passed the log's end of that time.
//!
//! *Kafka refuses one attempt of two.* A appends the event of `k`, and its client gives up and retries at B, which finds
//! the reservation and appends the same bytes. Then Kafka certainly refuses A's copy, but B's may be on the log: B has
//! noted in the reservation that it shares it (`Cache::share_reservation`), so A doesn't free the key.
//!
//! *Somebody rebuilt the read model.* It no longer knows keys whose reservations have ended. The command API notices the
//! new generation with the next key, and confirms until the projector has passed the present end of the log.
//!
//! *One process can't reach Redis.* An example, with processes A (with Redis) and B (without) and the key `k`:
//!
//! 1. B announces the outage in Postgres ([`Idempotency::announce_outage`]) and waits [`LOOKUP_VALID`].
//! 2. B uses `k` without a reservation, and confirms it in the read model.
//! 3. A looks `k` up. If A looked before the announcement, its event is acknowledged before B's wait ends, or the look-up
//!    is no longer valid ([`KeyLookup::has_expired`]) and A confirms, too. If A looked after it, A sees the outage and
//!    confirms until the outage is [`APPEND_ENDS_AFTER`] old.

mod outage_announcement;
mod trusted_epoch;

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use cache::{AcknowledgedRequest, Cache, IdempotencyScope, Reservation, ReservationEpoch};
use domain::{Event, Position, PositionVector, envelope};
use event_log::LogConsumer;
use read_model::{KeyConditions, KeyUse, ReadModel, RedisOutage};
use read_path::{LogEnd, PositionWait, postgres_unavailable};
use service::problem::Problem;
use tokio::time::Instant;

use self::outage_announcement::OutageAnnouncement;
use self::trusted_epoch::{RETRY_INTERVAL, TrustedEpoch};
use crate::append::APPEND_ENDS_AFTER;

/// How far the clocks of Redis and Kafka may differ.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// How old an event is at most that a process appends again without Postgres: it can't see whether the event is folded.
/// The relay remembers a folded event for half a minute and would deliver a later copy again, with an older state. The
/// append itself takes at most [`APPEND_ENDS_AFTER`].
const APPENDED_AGAIN_FOR: Duration = Duration::from_secs(15);
/// How long a look-up counts. A process that announces an outage waits for as long before it uses a key.
pub(crate) const LOOKUP_VALID: Duration = Duration::from_secs(1);

/// The generation of a read model that nobody has rebuilt.
const FIRST_GENERATION: i64 = 1;

/// A look-up of a key: when it began, and what the read model said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyLookup {
    began: Instant,
    conditions: KeyConditions,
}

impl KeyLookup {
    /// A look-up that begins now and has seen nothing.
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), conditions: KeyConditions::default() }
    }

    /// Whether a process without Redis may have used the key since.
    pub(crate) fn has_expired(&self) -> bool {
        self.began.elapsed() >= LOOKUP_VALID
    }
}

/// An earlier use of a key.
#[derive(Debug, Clone)]
pub(crate) enum EarlierUse {
    /// By an event that is on the log: certainly the first with the key.
    Logged {
        position: Position,
        /// What Redis knows of its request.
        request: Option<AcknowledgedRequest>,
    },
    /// By an event that is reserved and may not be on the log.
    Reserved {
        bytes: Vec<u8>,
        /// Whether this is certainly the first use of the key.
        is_first: bool,
    },
}

impl EarlierUse {
    /// The use that a reservation shows.
    pub(crate) fn of(reservation: Reservation, is_first: bool) -> Self {
        match reservation {
            Reservation::Acknowledged(request) => Self::Logged { position: request.position, request: Some(request) },
            Reservation::Event(bytes) => Self::Reserved { bytes, is_first },
        }
    }
}

/// An event that is on the log.
#[derive(Debug, Clone)]
pub(crate) struct LoggedEvent {
    pub(crate) event: Event,
    pub(crate) position: Position,
}

/// The result of looking a key up.
pub(crate) struct KeyState {
    pub(crate) lookup: KeyLookup,
    pub(crate) earlier_use: Option<EarlierUse>,
}

/// Finds out which event used a key first.
pub(crate) struct Idempotency {
    cache: Cache,
    read_model: ReadModel,
    log: Arc<LogConsumer>,
    log_end: Arc<LogEnd>,
    wait: PositionWait,
    partitions: usize,
    trusted: TrustedEpoch,
    announcement: OutageAnnouncement,
}

impl Idempotency {
    /// Also begins to trust epochs in the background, so that the first command with a key needn't wait. Needs a tokio
    /// runtime.
    pub(crate) fn new(
        cache: Cache,
        read_model: ReadModel,
        log: Arc<LogConsumer>,
        log_end: Arc<LogEnd>,
        wait: PositionWait,
        partitions: usize,
    ) -> Arc<Self> {
        let (trusted, announcement) = (TrustedEpoch::default(), OutageAnnouncement::default());
        let idempotency = Arc::new(Self { cache, read_model, log, log_end, wait, partitions, trusted, announcement });
        tokio::spawn(trust_in_background(Arc::downgrade(&idempotency)));
        idempotency
    }

    /// Looks a key up: in Redis, else among the folded events.
    ///
    /// # Errors
    /// 503 when Postgres has to be asked and doesn't answer.
    pub(crate) async fn look_up(&self, scope: IdempotencyScope<'_>) -> Result<KeyState, Problem> {
        let mut lookup = KeyLookup::begin();
        let (reserved, epoch) = self.cache.reservation(scope).await.unwrap_or_default();
        if let Some(Reservation::Acknowledged(request)) = reserved {
            let earlier_use = Some(EarlierUse::Logged { position: request.position, request: Some(request) });
            return Ok(KeyState { lookup, earlier_use });
        }
        let is_trusted = |conditions| epoch.as_ref().is_some_and(|epoch| self.trusted.is(epoch, conditions));
        let first = match self.read_model.key_use(scope.conversation, scope.actor, scope.key).await {
            Ok(KeyUse { first, conditions }) => {
                lookup.conditions = conditions;
                first
            }
            Err(error) => {
                // What this process last saw counts: while Postgres is gone, nobody can announce or rebuild anything.
                lookup.conditions = self.trusted.conditions();
                let is_known = is_trusted(lookup.conditions)
                    && match &reserved {
                        Some(Reservation::Event(bytes)) => may_be_appended_again(bytes),
                        Some(Reservation::Acknowledged(_)) => true,
                        None => self.is_fresh(scope).await,
                    };
                if !is_known {
                    return Err(postgres_unavailable(&error));
                }
                None
            }
        };
        let reserved = reserved.map(|reservation| EarlierUse::of(reservation, is_trusted(lookup.conditions)));
        let first = first.map(|position| EarlierUse::Logged { position, request: None });
        Ok(KeyState { lookup, earlier_use: first.or(reserved) })
    }

    /// Whether a key is so young that it is unused if it isn't reserved.
    async fn is_fresh(&self, scope: IdempotencyScope<'_>) -> bool {
        self.cache.is_fresh_key(scope).await.unwrap_or(false)
    }

    /// Reads an event again from the log.
    ///
    /// # Errors
    /// 503 when Kafka doesn't answer, 500 when the log has no event there.
    pub(crate) async fn event_at(&self, position: Position) -> Result<Event, Problem> {
        let record = self.log.read_at(position).await.map_err(|error| {
            tracing::warn!(%error, %position, "reading an event from the log failed; the client is told to retry");
            Problem::unavailable("unavailable", "the log is unavailable; try again", 1)
        })?;
        let event = record.map(|record| envelope::decode(&record.value));
        event.and_then(Result::ok).ok_or_else(|| {
            tracing::error!(%position, "the log has no event where a key was used; the client gets 500");
            Problem::internal()
        })
    }

    /// The first use of a key among everything that is on the log now. All of its uses are on the partition of the
    /// conversation.
    ///
    /// # Errors
    /// 503 when the fold doesn't pass the end of that partition in time.
    pub(crate) async fn first_on_log(&self, scope: IdempotencyScope<'_>) -> Result<Option<LoggedEvent>, Problem> {
        let end = self.log_end.read().await.ok_or_else(Problem::projection_behind)?;
        let partition = event_log::partition_of(scope.conversation, self.partitions);
        self.wait.reach(&end.restricted_to(partition)).await?;
        let Some(position) = self.first_folded(scope).await? else { return Ok(None) };
        Ok(Some(LoggedEvent { event: self.event_at(position).await?, position }))
    }

    /// The first use of a key among the folded events.
    async fn first_folded(&self, scope: IdempotencyScope<'_>) -> Result<Option<Position>, Problem> {
        let known = self.read_model.key_use(scope.conversation, scope.actor, scope.key).await;
        Ok(known.map_err(|error| postgres_unavailable(&error))?.first)
    }

    /// Whether an event that was reserved in this epoch may not be the first with its key. Without an epoch, Redis is
    /// down and the answer is yes.
    pub(crate) async fn needs_confirmation(&self, epoch: Option<&ReservationEpoch>, lookup: KeyLookup) -> bool {
        let Some(epoch) = epoch else { return true };
        if self.trusted.is(&epoch.id, lookup.conditions) {
            return false;
        }
        let may_trust = is_old_enough(epoch, lookup.conditions.outage) && self.trusted.claim_attempt();
        !(may_trust && self.try_trust(epoch, lookup.conditions).await)
    }

    /// Waits until the fold has passed an appended event. Returns the event that used the key first, unless it is that
    /// one.
    ///
    /// # Errors
    /// 503 `append_unknown` when the fold doesn't pass the event in time.
    pub(crate) async fn confirm(
        &self,
        scope: IdempotencyScope<'_>,
        appended: &Event,
        position: Position,
    ) -> Result<Option<LoggedEvent>, Problem> {
        self.wait.reach(&PositionVector::up_to(position)).await.map_err(|_| {
            Problem::append_unknown(
                "it isn't known yet whether this key was used before; try again with the same Idempotency-Key",
            )
        })?;
        let another = match self.first_folded(scope).await?.filter(|first| *first != position) {
            Some(first) => Some(LoggedEvent { event: self.event_at(first).await?, position: first }),
            None => None,
        };
        // Redis may have reserved the key for another event, or not at all.
        let (first, position) = another.as_ref().map_or((appended, position), |it| (&it.event, it.position));
        let _ = self.cache.replace_reservation(first, position).await;
        Ok(another)
    }

    /// Announces to all processes that this one is about to use a key without a reservation. Waits until look-ups that
    /// began before the announcement no longer count.
    ///
    /// # Errors
    /// 503 when Postgres doesn't answer either.
    pub(crate) async fn announce_outage(&self) -> Result<(), Problem> {
        let since = match self.announcement.valid_since() {
            Some(since) => since,
            None => {
                let sent = Instant::now();
                self.read_model.announce_redis_outage().await.map_err(|error| postgres_unavailable(&error))?;
                self.announcement.record(sent)
            }
        };
        tokio::time::sleep_until(since + LOOKUP_VALID).await;
        Ok(())
    }

    /// Trusts an epoch if the read model includes everything that was reserved before it, used during an outage, or
    /// folded before a rebuild.
    async fn try_trust(&self, epoch: &ReservationEpoch, conditions: KeyConditions) -> bool {
        // What the log took well after the epoch began was reserved in it. A young epoch says nothing by the clock.
        let margin = APPEND_ENDS_AFTER + CLOCK_SKEW;
        // A process that begins while the read model is being rebuilt has trusted no generation yet.
        let known = self.trusted.conditions().generation.or(Some(FIRST_GENERATION));
        let is_same_generation = conditions.generation.is_none() || conditions.generation == known;
        let end = if epoch.age > margin + CLOCK_SKEW && conditions.outage.is_none() && is_same_generation {
            let margin = i64::try_from(margin.as_millis()).unwrap_or(0);
            self.log.offsets_at(epoch.began_ms().saturating_add(margin)).await.ok()
        } else {
            self.log_end.read().await
        };
        let Some(end) = end else { return false };
        let included = self.wait.reach(&end).await.is_ok();
        if included {
            self.trusted.set(epoch, conditions);
        }
        included
    }
}

/// Whether a reserved event is so young that the relay would recognize a copy of it.
fn may_be_appended_again(reserved: &[u8]) -> bool {
    envelope::decode(reserved).is_ok_and(|event| {
        let decided = SystemTime::from(event.occurred_at.to_date_time());
        // Another process's clock may be ahead.
        decided.elapsed().unwrap_or_default() < APPENDED_AGAIN_FOR
    })
}

/// Whether all appends from before an epoch, and from before an outage's end, have ended.
fn is_old_enough(epoch: &ReservationEpoch, outage: Option<RedisOutage>) -> bool {
    epoch.age >= APPEND_ENDS_AFTER && outage.is_none_or(|outage| outage.age >= APPEND_ENDS_AFTER)
}

/// Begins epochs and trusts them, also while no command with a key arrives.
async fn trust_in_background(idempotency: Weak<Idempotency>) {
    let mut interval = tokio::time::interval(RETRY_INTERVAL);
    loop {
        interval.tick().await;
        let Some(idempotency) = idempotency.upgrade() else { return };
        if let Ok(epoch) = idempotency.cache.epoch().await
            && let Ok(conditions) = idempotency.read_model.key_conditions().await
            && is_old_enough(&epoch, conditions.outage)
            && !idempotency.trusted.is(&epoch.id, conditions)
        {
            idempotency.try_trust(&epoch, conditions).await;
        }
    }
}
