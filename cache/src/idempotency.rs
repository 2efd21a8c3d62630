//! Idempotency reservations: which event an idempotency key is reserved for, and since when Redis remembers.
//!
//! Reserving a key is part of admitting its command ([`Cache::admit`]). This module must never decide whether a missing
//! reservation means an unused key: only the command API can, with the read model.

use std::sync::LazyLock;
use std::time::Duration;

use domain::{ConversationId, Event, IdempotencyKey, Position, UserId};
use redis::Script;

use crate::connection::{Cache, CacheError};
use crate::keys;

static EPOCH: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("scripts/epoch.lua"), "return {epoch_of(KEYS[1], ARGV[1])}")));

/// An idempotency key with its scope: two users, or two conversations, never share a key.
#[derive(Debug, Clone, Copy)]
pub struct IdempotencyScope<'a> {
    /// The conversation of the command.
    pub conversation: ConversationId,
    /// The user who sent the key.
    pub actor: &'a UserId,
    /// The key as the client sent it.
    pub key: &'a IdempotencyKey,
}

impl<'a> IdempotencyScope<'a> {
    /// The scope of an event whose request had a key.
    pub fn of(event: &'a Event) -> Option<Self> {
        let request = event.request.as_ref()?;
        Some(Self { conversation: event.conversation_id, actor: &event.actor_id, key: &request.key })
    }
}

/// The event that a key is reserved for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The event's bytes. A retry appends the same bytes again.
    pub event: Vec<u8>,
    /// The event's position, once Kafka has acknowledged it.
    pub position: Option<Position>,
}

/// The time since which Redis has lost no reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservationEpoch {
    /// Identifies the epoch: Redis begins another one after it lost data.
    pub id: String,
    /// How long ago the epoch began.
    pub age: Duration,
}

impl ReservationEpoch {
    /// When the epoch began, in Unix milliseconds of Redis's clock.
    pub fn began_ms(&self) -> i64 {
        // The script begins the id with the time. An id in any other form counts as an epoch that has just begun.
        self.id.split(' ').next().and_then(|began| began.parse().ok()).unwrap_or(i64::MAX)
    }
}

impl Cache {
    /// Reads the epoch of reservations. Redis begins one now if it has none.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn epoch(&self) -> Result<ReservationEpoch, CacheError> {
        let mut call = EPOCH.prepare_invoke();
        call.key(self.keys().epoch()).arg(keys::fresh_version());
        let (id, age): (String, i64) = call.invoke_async(&mut self.connection("epoch")).await?;
        Ok(ReservationEpoch { id, age: keys::milliseconds(age) })
    }

    /// Reads what a key is reserved for, if it is, and the id of the epoch.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn reservation(
        &self,
        scope: IdempotencyScope<'_>,
    ) -> Result<Option<(Reservation, Option<String>)>, CacheError> {
        let keys = self.keys();
        let mut read = redis::pipe();
        read.cmd("HMGET").arg(keys.reservation(scope.conversation, scope.actor, scope.key));
        read.arg("event").arg("position").get(keys.epoch());
        let ((event, position), epoch): ((redis::Value, redis::Value), Option<String>) =
            read.query_async(&mut self.connection("reservation")).await?;
        if event == redis::Value::Nil {
            return Ok(None);
        }
        Ok(Some((Reservation::parse(event, &position)?, epoch)))
    }

    /// Reserves a key for the event that used it first, whatever the key was reserved for before.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn replace_reservation(
        &self,
        scope: IdempotencyScope<'_>,
        first: &Reservation,
    ) -> Result<(), CacheError> {
        let key = self.keys().reservation(scope.conversation, scope.actor, scope.key);
        let mut set = redis::pipe();
        set.atomic().del(&key).hset(&key, "event", &first.event);
        if let Some(position) = first.position {
            set.hset(&key, "position", position.to_string());
        }
        set.cmd("EXPIRE").arg(&key).arg(keys::RESERVATION_TTL.as_secs());
        Ok(set.query_async(&mut self.connection("replace_reservation")).await?)
    }
}

impl Reservation {
    pub(crate) fn parse(event: redis::Value, position: &redis::Value) -> Result<Self, CacheError> {
        let position: Option<String> = redis::from_redis_value_ref(position)?;
        let event = redis::from_redis_value(event)?;
        Ok(Self { event, position: position.and_then(|text| text.parse().ok()) })
    }
}
