//! Idempotency reservations: which event an idempotency key is reserved for, and since when Redis remembers.
//!
//! Reserving a key is part of admitting its command ([`Cache::admit`]). This module must never decide whether a missing
//! reservation means an unused key: only the command API can, with the read model.

use std::sync::LazyLock;
use std::time::Duration;

use domain::{ConversationId, Event, EventId, IdempotencyKey, Position, UserId};
use redis::Script;
use uuid::Uuid;

use crate::connection::{Cache, CacheError};
use crate::keys::{self, Keys};

static EPOCH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("scripts/epoch.lua"),
        "local epoch, age = epoch_of(KEYS[1], ARGV[1]) return {epoch, age}"
    ))
});

static SHARE_RESERVATION: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/share_reservation.lua")));

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

    /// The name of the key's reservation in Redis.
    pub(crate) fn reservation(self, keys: &Keys<'_>) -> String {
        keys.reservation(self.conversation, self.actor, self.key)
    }
}

/// What a key is reserved for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reservation {
    /// An event that may not be on the log: its bytes, with a space behind them once a second attempt appends it. A retry
    /// appends the same event again.
    Event(Vec<u8>),
    /// An event that Kafka has acknowledged. Redis no longer keeps it, since the log does.
    Acknowledged(AcknowledgedRequest),
}

/// The request whose event is on the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcknowledgedRequest {
    /// The first [`HASH_CHARS`] characters of the request's hash.
    hash: String,
    /// The event's position.
    pub position: Position,
}

/// How many characters of a request's hash a reservation keeps: enough that a user's requests with one key never share
/// them by chance, and few enough that Redis stores the whole value within 48 bytes.
const HASH_CHARS: usize = 16;

impl AcknowledgedRequest {
    fn of(event: &Event, position: Position) -> Option<Self> {
        Some(Self { hash: shortened(&event.request.as_ref()?.hash).to_owned(), position })
    }

    /// Whether that request may be the one with this hash. If not, the key was used for another one.
    pub fn may_be(&self, hash: &str) -> bool {
        self.hash == shortened(hash)
    }

    fn stored(&self) -> String {
        format!("{} {}", self.hash, self.position)
    }
}

fn shortened(hash: &str) -> &str {
    hash.get(..HASH_CHARS).unwrap_or(hash)
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

    /// Reads what a key is reserved for, if it is, and the id of the epoch, if there is one.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn reservation(
        &self,
        scope: IdempotencyScope<'_>,
    ) -> Result<(Option<Reservation>, Option<String>), CacheError> {
        let keys = self.keys();
        let mut read = redis::pipe();
        read.get(scope.reservation(&keys)).get(keys.epoch());
        let (reserved, epoch): (Option<Vec<u8>>, Option<String>) =
            read.query_async(&mut self.connection("reservation")).await?;
        Ok((reserved.map(Reservation::parse).transpose()?, epoch))
    }

    /// Notes that another attempt appends a reserved event, too, so that the first attempt no longer frees the key if
    /// Kafka refuses its copy. Returns what the key is reserved for now; none if that is no longer the event.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn share_reservation(
        &self,
        scope: IdempotencyScope<'_>,
        reserved: &[u8],
    ) -> Result<Option<Vec<u8>>, CacheError> {
        let mut call = SHARE_RESERVATION.prepare_invoke();
        call.key(scope.reservation(&self.keys())).arg(reserved);
        Ok(call.invoke_async(&mut self.connection("share_reservation")).await?)
    }

    /// Notes where an event is on the log while the fold has yet to decide whether its key was used before: a retry then
    /// needn't append it again.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn note_appended(&self, event: EventId, position: Position) -> Result<(), CacheError> {
        let mut set = redis::cmd("SET");
        set.arg(self.keys().appended(event)).arg(position.to_string());
        set.arg("EX").arg(keys::APPENDED_TTL.as_secs());
        Ok(set.query_async(&mut self.connection("note_appended")).await?)
    }

    /// Where an event is on the log, if that was noted.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn appended(&self, event: EventId) -> Result<Option<Position>, CacheError> {
        let mut get = redis::cmd("GET");
        get.arg(self.keys().appended(event));
        let noted: Option<String> = get.query_async(&mut self.connection("appended")).await?;
        Ok(noted.and_then(|position| position.parse().ok()))
    }

    /// Whether a key that isn't reserved is unused, because it is a UUID of version 7 of the last two minutes: its
    /// reservation would still be there.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn is_fresh_key(&self, scope: IdempotencyScope<'_>) -> Result<bool, CacheError> {
        let Some(made_at) = made_at_ms(scope.key) else { return Ok(false) };
        let keys = self.keys();
        let mut read = redis::pipe();
        read.cmd("TIME").get(keys.keys_ahead(scope.actor)).get(keys.epoch());
        let ((seconds, micros), ahead, epoch): ((i64, i64), Option<i64>, Option<String>) =
            read.query_async(&mut self.connection("is_fresh_key")).await?;
        let (now, fresh, early) =
            (seconds * 1_000 + micros / 1_000, keys::millis(keys::FRESH_KEY), keys::millis(keys::EARLY_KEY));
        let epoch = epoch.map_or(i64::MAX, |id| ReservationEpoch { id, age: Duration::ZERO }.began_ms());
        let is_of_now = now - fresh <= made_at && made_at <= now + early;
        Ok(is_of_now && made_at >= epoch.saturating_add(early) && ahead.is_none_or(|ahead| made_at > ahead))
    }

    /// Reserves a key for the event that used it first, whatever the key was reserved for before.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn replace_reservation(&self, first: &Event, position: Position) -> Result<(), CacheError> {
        let (Some(scope), Some(request)) = (IdempotencyScope::of(first), AcknowledgedRequest::of(first, position))
        else {
            return Ok(());
        };
        let mut set = redis::cmd("SET");
        set.arg(scope.reservation(&self.keys())).arg(request.stored());
        set.arg("EX").arg(keys::FOLDED_RESERVATION_TTL.as_secs());
        Ok(set.query_async(&mut self.connection("replace_reservation")).await?)
    }
}

/// The time in a key that is a UUID of version 7 (RFC 9562), in Unix milliseconds by the client's clock.
pub(crate) fn made_at_ms(key: &IdempotencyKey) -> Option<i64> {
    let id = Uuid::try_parse(key.as_str()).ok().filter(|id| id.get_version_num() == 7)?;
    i64::try_from(id.as_u128() >> 80).ok()
}

impl Reservation {
    pub(crate) fn parse(stored: Vec<u8>) -> Result<Self, CacheError> {
        // An event is a JSON object.
        if stored.starts_with(b"{") {
            return Ok(Self::Event(stored));
        }
        let acknowledged = std::str::from_utf8(&stored).ok().and_then(|text| {
            let (hash, position) = text.split_once(' ')?;
            Some(AcknowledgedRequest { hash: hash.to_owned(), position: position.parse().ok()? })
        });
        let acknowledged = acknowledged.map(Self::Acknowledged);
        acknowledged.ok_or_else(|| CacheError::from_value("a reservation has a form that this version can't read"))
    }

    /// Records that an event is on the log, for its reservation if there is one.
    pub(crate) fn acknowledge(record: &mut redis::Pipeline, keys: &Keys<'_>, event: &Event, position: Position) {
        if let (Some(scope), Some(request)) = (IdempotencyScope::of(event), AcknowledgedRequest::of(event, position)) {
            record.cmd("SET").arg(scope.reservation(keys)).arg(request.stored()).arg("XX").arg("KEEPTTL");
        }
    }
}
