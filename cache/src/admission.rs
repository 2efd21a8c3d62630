//! Admission: counts a command, reserves its idempotency key and records what it creates, in one atomic step that is
//! the same on every node. It must never count a command that the caller has not validated.

use std::sync::LazyLock;
use std::time::Duration;

use domain::{Event, UserId};
use redis::Script;

use crate::connection::{Cache, CacheError};
use crate::idempotency::{IdempotencyScope, Reservation, ReservationEpoch};
use crate::keys::{self, Keys};
use crate::pending::PendingEntity;

static ADMIT: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("scripts/epoch.lua"), include_str!("scripts/admit.lua"))));
static ROLL_BACK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/roll_back.lua")));

/// How many commands of one kind a user may send in a window that starts with the first counted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The kind of command, as part of the Redis key.
    pub name: &'static str,
    /// The largest number of commands in a window.
    pub max: u32,
    /// The length of the window.
    pub window: Duration,
}

/// How much of a limit a user has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitState {
    /// The largest number of commands in a window.
    pub max: u32,
    /// How many commands are left in this window.
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
    /// Counts a command against its user's limit, reserves its key for its event and records what the event creates:
    /// all or nothing. For a command with a key it also returns the epoch of the reservation. Without a request it
    /// only counts.
    ///
    /// # Errors
    /// When Redis doesn't answer. Redis may have counted the command all the same.
    pub async fn admit(
        &self,
        user: &UserId,
        limit: &Limit,
        request: Option<ReservationRequest<'_>>,
    ) -> Result<(Admission, Option<ReservationEpoch>), CacheError> {
        let keys = self.keys();
        let scope = request.and_then(|request| IdempotencyScope::of(request.event));
        let pending = request.and_then(|request| request.pending);
        let mut call = ADMIT.prepare_invoke();
        call.key(keys.limit(limit.name, user)).key(pending_key(&keys, pending));
        call.arg(limit.max).arg(u64::try_from(limit.window.as_millis()).unwrap_or(u64::MAX));
        call.arg(pending.map(PendingEntity::json).unwrap_or_default()).arg(keys::PENDING_TTL.as_secs());
        if let (Some(request), Some(scope)) = (request, scope) {
            call.key(keys.reservation(scope.conversation, scope.actor, scope.key)).key(keys.epoch());
            call.arg(request.bytes).arg(keys::RESERVATION_TTL.as_secs()).arg(keys::fresh_version());
        }
        let (outcome, first, second, epoch, age): (String, redis::Value, redis::Value, String, i64) =
            call.invoke_async(&mut self.connection("admit")).await?;
        let epoch = scope.map(|_| ReservationEpoch { id: epoch, age: keys::milliseconds(age) });
        if outcome == "reserved" {
            return Ok((Admission::Reserved(Reservation::parse(first, &second)?), epoch));
        }
        let (count, reset): (u32, i64) = (redis::from_redis_value(first)?, redis::from_redis_value(second)?);
        let state = limit.state(count, keys::milliseconds(reset));
        Ok((if outcome == "admitted" { Admission::Admitted(state) } else { Admission::Limited(state) }, epoch))
    }

    /// Takes an admission back, because Kafka certainly did not append its event.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn roll_back(
        &self,
        user: &UserId,
        limit: &Limit,
        request: Option<ReservationRequest<'_>>,
    ) -> Result<(), CacheError> {
        let keys = self.keys();
        let mut call = ROLL_BACK.prepare_invoke();
        let pending = request.and_then(|request| request.pending);
        call.key(keys.limit(limit.name, user)).key(pending_key(&keys, pending));
        if let Some(request) = request
            && let Some(scope) = IdempotencyScope::of(request.event)
        {
            call.key(keys.reservation(scope.conversation, scope.actor, scope.key)).arg(request.bytes);
        }
        Ok(call.invoke_async(&mut self.connection("roll_back")).await?)
    }
}

/// The key of a pending entity, as the scripts expect it: empty where there is none.
fn pending_key(keys: &Keys<'_>, pending: Option<&PendingEntity>) -> String {
    pending.map_or_else(String::new, |pending| keys.pending_entity(&pending.dependency()))
}
