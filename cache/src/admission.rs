//! Limits, reservations and what is begun: counted, reserved and noted in one step, the same on every node.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::{ConversationId, Event, IdempotencyKey, Position, UserId};
use redis::Script;

use crate::connection::{Cache, CacheError};
use crate::done::Begun;
use crate::keys::{self, Keys};

static ADMIT: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("scripts/epoch.lua"), include_str!("scripts/admit.lua"))));
static EPOCH: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("scripts/epoch.lua"), "return {epoch_of(KEYS[1], ARGV[1])}")));
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/release.lua")));

/// How many commands of a kind a user may give in a window that starts with the first counted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The kind, as part of the key.
    pub name: &'static str,
    /// The most in a window.
    pub most: u32,
    /// The window.
    pub window: Duration,
}

/// Where a user stands with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitState {
    /// The most in a window.
    pub most: u32,
    /// How many are left in this one.
    pub remaining: u32,
    /// How long until the window ends.
    pub reset: Duration,
}

/// An idempotency key with its scope: the same key of another user or conversation is another key.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The conversation.
    pub conversation: ConversationId,
    /// Who gave the key.
    pub actor: &'a UserId,
    /// The key.
    pub key: &'a IdempotencyKey,
}

impl<'a> Scope<'a> {
    /// That of an event whose request had a key.
    pub fn of(event: &'a Event) -> Option<Self> {
        let request = event.request.as_ref()?;
        Some(Self { conversation: event.conversation_id, actor: &event.actor_id, key: &request.key })
    }
}

/// A command that is to be let in.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The event that it makes.
    pub event: &'a Event,
    /// The event's bytes.
    pub bytes: &'a [u8],
    /// What the event begins, where that is to be noted before it is on the log.
    pub begun: Option<&'a Begun>,
}

/// A key that is reserved: for which event, and where that is on the log, if it is known to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The event's bytes, to append the same again.
    pub event: Vec<u8>,
    /// Its position, once it was acknowledged.
    pub position: Option<Position>,
}

/// The time since which Redis has kept every reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// Another one begins when Redis has lost some.
    pub id: String,
    /// How long ago it began.
    pub age: Duration,
}

impl Epoch {
    /// When it began, in Unix milliseconds of Redis's clock.
    pub fn began_ms(&self) -> i64 {
        // As the script writes it; should it not be, the epoch has just begun.
        self.id.split(' ').next().and_then(|began| began.parse().ok()).unwrap_or(i64::MAX)
    }
}

/// What came of asking to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Counted, and the key reserved.
    Admitted(LimitState),
    /// Over the limit; nothing was counted or reserved.
    Limited(LimitState),
    /// The key was reserved before; nothing was counted.
    Reserved(Reservation),
}

impl Limit {
    fn state(&self, count: u32, reset: Duration) -> LimitState {
        LimitState { most: self.most, remaining: self.most.saturating_sub(count), reset }
    }
}

impl Cache {
    /// Counts a command against its user's limit, reserves its key for its event and notes what that begins: all or
    /// nothing. With a key, also gives the epoch in which that is reserved. Without an entry it only counts.
    ///
    /// # Errors
    /// When Redis doesn't answer; it may have been counted then.
    pub async fn admit(
        &self,
        user: &UserId,
        limit: &Limit,
        entry: Option<Entry<'_>>,
    ) -> Result<(Admission, Option<Epoch>), CacheError> {
        let keys = self.keys();
        let scope = entry.and_then(|entry| Scope::of(entry.event));
        let begun = entry.and_then(|entry| entry.begun);
        let mut call = ADMIT.prepare_invoke();
        call.key(keys.limit(limit.name, user)).key(begun_key(&keys, begun));
        call.arg(limit.most).arg(u64::try_from(limit.window.as_millis()).unwrap_or(u64::MAX));
        call.arg(begun.map(Begun::json).unwrap_or_default()).arg(keys::DONE_TTL.as_secs());
        if let (Some(entry), Some(scope)) = (entry, scope) {
            call.key(keys.reservation(scope.conversation, scope.actor, scope.key)).key(keys.epoch());
            call.arg(entry.bytes).arg(keys::RESERVATION_TTL.as_secs()).arg(keys::fresh_stamp());
        }
        let (outcome, first, second, epoch, age): (String, redis::Value, redis::Value, String, i64) =
            call.invoke_async(&mut self.connection()).await?;
        let epoch = scope.map(|_| Epoch { id: epoch, age: millis(age) });
        if outcome == "reserved" {
            return Ok((Admission::Reserved(reservation(first, &second)?), epoch));
        }
        let (count, reset): (u32, i64) = (redis::from_redis_value(first)?, redis::from_redis_value(second)?);
        let state = limit.state(count, millis(reset));
        Ok((if outcome == "admitted" { Admission::Admitted(state) } else { Admission::Limited(state) }, epoch))
    }

    /// Since when every reservation was kept; from now on, if Redis doesn't know.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn epoch(&self) -> Result<Epoch, CacheError> {
        let mut call = EPOCH.prepare_invoke();
        call.key(self.keys().epoch()).arg(keys::fresh_stamp());
        let (id, age): (String, i64) = call.invoke_async(&mut self.connection()).await?;
        Ok(Epoch { id, age: millis(age) })
    }

    /// Takes an admission back, for its event was certainly not appended.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn release(&self, user: &UserId, limit: &Limit, entry: Option<Entry<'_>>) -> Result<(), CacheError> {
        let keys = self.keys();
        let mut call = RELEASE.prepare_invoke();
        let begun = entry.and_then(|entry| entry.begun);
        call.key(keys.limit(limit.name, user)).key(begun_key(&keys, begun));
        if let Some(entry) = entry
            && let Some(scope) = Scope::of(entry.event)
        {
            call.key(keys.reservation(scope.conversation, scope.actor, scope.key)).arg(entry.bytes);
        }
        Ok(call.invoke_async(&mut self.connection()).await?)
    }

    /// What a key is reserved for, if it is, and the id of the epoch.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn reservation(&self, scope: Scope<'_>) -> Result<Option<(Reservation, Option<String>)>, CacheError> {
        let keys = self.keys();
        let mut read = redis::pipe();
        read.cmd("HMGET").arg(keys.reservation(scope.conversation, scope.actor, scope.key));
        read.arg("event").arg("position").get(keys.epoch());
        let ((event, position), epoch): ((redis::Value, redis::Value), Option<String>) =
            read.query_async(&mut self.connection()).await?;
        if event == redis::Value::Nil {
            return Ok(None);
        }
        Ok(Some((reservation(event, &position)?, epoch)))
    }

    /// Reserves a key for the event that had it first, whatever it was reserved for.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn correct(&self, scope: Scope<'_>, first: &Reservation) -> Result<(), CacheError> {
        let key = self.keys().reservation(scope.conversation, scope.actor, scope.key);
        let mut set = redis::pipe();
        set.atomic().del(&key).hset(&key, "event", &first.event);
        if let Some(position) = first.position {
            set.hset(&key, "position", position.to_string());
        }
        set.cmd("EXPIRE").arg(&key).arg(keys::RESERVATION_TTL.as_secs());
        Ok(set.query_async(&mut self.connection()).await?)
    }
}

/// The key of what is begun, as the scripts take it: empty where that is nothing.
fn begun_key(keys: &Keys<'_>, begun: Option<&Begun>) -> String {
    begun.map_or_else(String::new, |begun| keys.begun(&begun.head()))
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn reservation(event: redis::Value, position: &redis::Value) -> Result<Reservation, CacheError> {
    let position: Option<String> = redis::from_redis_value_ref(position)?;
    let event = redis::from_redis_value(event)?;
    Ok(Reservation { event, position: position.and_then(|text| text.parse().ok()) })
}

/// Limits kept by this process alone, for while Redis is down. It forgets the windows that ended when it
/// grows large.
#[derive(Debug, Default)]
pub struct LocalLimits {
    windows: Mutex<HashMap<(&'static str, UserId), Window>>,
}

#[derive(Debug)]
struct Window {
    start: Instant,
    count: u32,
}

/// How many windows are kept before those that ended are thrown out.
const LOCAL_WINDOWS: usize = 100_000;

impl LocalLimits {
    /// Counts a command, as [`Cache::admit`] does.
    pub fn admit(&self, user: &UserId, limit: &Limit) -> Admission {
        let now = Instant::now();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= LOCAL_WINDOWS {
            windows.retain(|_, window| now.duration_since(window.start) < limit.window);
        }
        let window = windows.entry((limit.name, user.clone())).or_insert(Window { start: now, count: 0 });
        if now.duration_since(window.start) >= limit.window {
            *window = Window { start: now, count: 0 };
        }
        let reset = limit.window.saturating_sub(now.duration_since(window.start));
        if window.count >= limit.most {
            return Admission::Limited(limit.state(window.count, reset));
        }
        window.count += 1;
        Admission::Admitted(limit.state(window.count, reset))
    }
}
