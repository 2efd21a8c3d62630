//! Admission: counts a command, reserves its idempotency key and records what it creates, in one atomic step that is
//! the same on every node. It must never count a command that the caller has not validated.

use std::sync::LazyLock;
use std::time::Duration;

use domain::{Event, EventData, UserId};
use redis::Script;

use crate::connection::{Cache, CacheError};
use crate::idempotency::{IdempotencyScope, Reservation, ReservationEpoch, made_at_ms};
use crate::keys::{self, Keys};
use crate::pending::PendingEntity;

static ADMIT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("scripts/although_full.lua"),
        include_str!("scripts/epoch.lua"),
        include_str!("scripts/admit.lua")
    ))
});
static ROLL_BACK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(include_str!("scripts/although_full.lua"), include_str!("scripts/roll_back.lua")))
});

/// How many commands of one kind a user may send in a window that starts with the first counted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The kind of command, as part of the Redis key.
    pub name: &'static str,
    /// The largest number of commands in a window, or of what they cost.
    pub max: u32,
    /// The length of the window.
    pub window: Duration,
}

/// What a command adds to one of its user's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Which limit it counts against.
    pub limit: Limit,
    /// How much of it the command takes: 1, or the number of people whom it invites.
    pub amount: u32,
}

/// What a command adds to its user's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Costs {
    /// What it adds to the limit of its kind, which its response shows.
    pub of_kind: Cost,
    /// What it adds to another limit.
    pub other: Option<Cost>,
}

impl Costs {
    /// One command.
    pub fn one(limit: Limit) -> Self {
        Self { of_kind: Cost { limit, amount: 1 }, other: None }
    }

    /// Each of them, that of the kind first.
    pub fn iter(&self) -> impl Iterator<Item = &Cost> {
        [Some(&self.of_kind), self.other.as_ref()].into_iter().flatten()
    }
}

/// How much of a limit a user has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitState {
    /// The largest number of commands in a window, or of what they cost.
    pub max: u32,
    /// How many are left in this window.
    pub remaining: u32,
    /// The time until the window ends.
    pub reset: Duration,
}

/// The event of a command that asks for admission.
#[derive(Debug, Clone, Copy)]
pub struct ReservationRequest<'a> {
    /// The event that the command appends.
    pub event: &'a Event,
    /// The event's bytes.
    pub bytes: &'a [u8],
    /// What the event creates, where that can be recorded before the event is on the log.
    pub pending: Option<&'a PendingEntity>,
}

/// The outcome of asking for admission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The command counts, and its key is reserved.
    Admitted(LimitState),
    /// The user is over the limit; nothing was counted or reserved.
    Limited(LimitState),
    /// The key was reserved before; nothing was counted.
    Reserved(Reservation),
}

impl Limit {
    pub(crate) fn state(&self, count: u32, reset: Duration) -> LimitState {
        LimitState { max: self.max, remaining: self.max.saturating_sub(count), reset }
    }
}

impl Cache {
    /// Counts a command against its user's limits, reserves its key for its event, records what the event creates, and
    /// ends the user's typing if the event is a message: all or nothing. For a command with a key it also returns the
    /// epoch of the reservation. Without a request it only counts, also while Redis is full. An admitted command's state
    /// is that of its first limit, a limited one's that of the limit which it would pass.
    ///
    /// # Errors
    /// When Redis doesn't answer. Redis may have counted the command all the same.
    pub async fn admit(
        &self,
        user: &UserId,
        costs: &Costs,
        request: Option<ReservationRequest<'_>>,
    ) -> Result<(Admission, Option<ReservationEpoch>), CacheError> {
        let keys = self.keys();
        let scope = request.and_then(|request| IdempotencyScope::of(request.event));
        let pending = request.and_then(|request| request.pending);
        let mut call = ADMIT.prepare_invoke();
        call.arg(costs.iter().count());
        for Cost { limit, amount } in costs.iter() {
            call.key(keys.limit(limit.name, user)).arg(limit.max).arg(keys::millis(limit.window)).arg(amount);
        }
        if let Some(pending) = pending {
            call.key(keys.pending_entity(&pending.dependency()));
        }
        call.arg(pending.map(PendingEntity::json).unwrap_or_default()).arg(keys::PENDING_TTL.as_secs());
        let ended_typing = request.and_then(|request| ended_typing(&keys, request.event));
        call.arg(i32::from(ended_typing.is_some()));
        if let Some(mark) = ended_typing {
            call.key(mark);
        }
        if let (Some(request), Some(scope)) = (request, scope) {
            call.key(scope.reservation(&keys)).key(keys.epoch()).key(keys.keys_ahead(scope.actor));
            call.arg(made_at_ms(scope.key).unwrap_or(0));
            call.arg(keys::millis(keys::EARLY_KEY))
                .arg(keys::millis(keys::FRESH_KEY))
                .arg(request.bytes)
                .arg(keys::RESERVATION_TTL.as_secs())
                .arg(keys::fresh_version());
        }
        let (outcome, counter, first, reset, epoch, age): (String, usize, redis::Value, i64, String, i64) =
            call.invoke_async(&mut self.connection("admit")).await?;
        let epoch = scope.map(|_| ReservationEpoch { id: epoch, age: keys::milliseconds(age) });
        let Some(limit) = costs.iter().nth(counter).map(|cost| cost.limit).filter(|_| outcome != "reserved") else {
            return Ok((Admission::Reserved(Reservation::parse(redis::from_redis_value(first)?)?), epoch));
        };
        let count = redis::from_redis_value(first)?;
        let state = limit.state(count, keys::milliseconds(reset));
        Ok((if outcome == "admitted" { Admission::Admitted(state) } else { Admission::Limited(state) }, epoch))
    }

    /// Takes an admission back, because Kafka certainly did not append its event. Returns whether it did: not if another
    /// attempt with the same key appends the event, too.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn roll_back(
        &self,
        user: &UserId,
        costs: &Costs,
        request: Option<ReservationRequest<'_>>,
    ) -> Result<bool, CacheError> {
        let keys = self.keys();
        let mut call = ROLL_BACK.prepare_invoke();
        call.arg(costs.iter().count());
        for Cost { limit, amount } in costs.iter() {
            call.key(keys.limit(limit.name, user)).arg(amount);
        }
        let pending = request.and_then(|request| request.pending);
        call.arg(i32::from(pending.is_some()));
        if let Some(pending) = pending {
            call.key(keys.pending_entity(&pending.dependency()));
        }
        if let Some(request) = request
            && let Some(scope) = IdempotencyScope::of(request.event)
        {
            call.key(scope.reservation(&keys)).arg(request.bytes);
        }
        Ok(call.invoke_async(&mut self.connection("roll_back")).await?)
    }
}

/// The mark that the author of a message types, which ends with the message; none for every other event.
fn ended_typing(keys: &Keys<'_>, event: &Event) -> Option<String> {
    matches!(event.data, EventData::MessageSent(_)).then(|| keys.typing(event.conversation_id, &event.actor_id))
}
