//! Redis: cached views, limits, idempotency reservations, pending entities, typing and presence.
//!
//! Redis makes the system faster; no result depends on it. Views and reservations come back from Postgres and the log;
//! limit counters start again, and nodes restore presence. This is the only crate that knows Redis. It must never serve
//! a view as newer than it is.
//!
//! # How a cached view is known to be fresh
//!
//! Each view depends on one or more [`Dependency`]s, and each dependency has a *version* in Redis: a random string that
//! changes whenever the projector commits a change to it. An example, with one message `m`:
//!
//! 1. A reader misses the view of `m`. It takes the version of the dependency `m` (say `v1`) with [`Cache::versions`].
//! 2. The reader loads `m` from Postgres and stores the view together with `v1`: [`Cache::put_if_current`].
//! 3. Somebody edits `m`. The projector commits the edit, changes the version of `m` to `v2`, and only then publishes
//!    that it has passed the edit: [`Cache::publish_progress`].
//! 4. The next reader finds the view, but `v1` is no longer the version of `m`: [`Cache::view`] reports a miss.
//!
//! If the edit of step 3 comes between a slow reader's steps 1 and 2, `v1` is no longer the version, and Redis doesn't
//! store the view. A view that is found therefore includes everything up to the progress that Redis publishes. When Redis
//! loses data, or a projector dies between its commit and step 3, the next publication notices that Redis is behind, and
//! the projector changes the versions of everything that changed since. If Redis doesn't even know how far it was, all
//! views count as stale: every view also depends on the version of the progress itself, which then changes.
//!
//! While a projector can't tell Redis what it has committed, a view that is found still includes the published progress,
//! but may be old. So each look-up also says which partitions are current: [`CurrentPartitions`]. A reader prefers
//! Postgres to a view that depends on any other partition.
//!
//! # What Redis may evict
//!
//! Views, versions, participants, the published progress with its as-ofs and stalls, the generation, and the counters of
//! queries can be in an instance of their own ([`Cache::with_evictable_at`]), which may evict any key at any time:
//!
//! - *A view or participants*: a reader misses and loads them again.
//! - *A version*: every view that was stored with it is stale, because versions are never used twice.
//! - *The progress*: no reader finds a view for a position, because Redis claims to include nothing. Within a second the
//!   projector publishes it again and, since Redis didn't know it, changes the version of the progress: all views are
//!   stale then.
//! - *The version of the progress*: all views are stale.
//! - *An as-of, stalls or the generation*: the projector publishes them again, within two seconds. A process that starts
//!   meanwhile uses no views until then.
//! - *A counter of queries*: its user's window begins again.
//!
//! Everything else must stay until it expires: reservations with their epoch, limits of commands, pending entities,
//! typing and presence. Each instance has a progress of its own, so each finds out by itself that it has lost something: an
//! instance of views that forgets everything doesn't end the epoch of reservations.

mod admission;
mod as_of;
mod connection;
mod counted_connection;
mod fault;
mod folded;
mod health;
mod idempotency;
pub mod keys;
mod local_cache;
mod local_limits;
mod nodes;
pub mod participants;
mod pending;
pub mod presence;
pub mod progress;
mod publish;
mod reconnecting;
mod repairs;
mod request_count;
mod stored_views;
mod subscription;
mod typing;
mod views;

/// The limits of this crate, for `docs/limits.md`.
pub const LIMITS: &[&[domain::limit_rows::LimitRow]] = &[
    keys::LIMIT_ROWS,
    as_of::LIMIT_ROWS,
    local_cache::LIMIT_ROWS,
    local_limits::LIMIT_ROWS,
    nodes::LIMIT_ROWS,
    presence::LIMIT_ROWS,
    reconnecting::LIMIT_ROWS,
    subscription::LIMIT_ROWS,
];

pub use admission::{Admission, Cost, Costs, Limit, LimitState, ReservationRequest};
pub use as_of::{AS_OF_MAX_AGE, AsOf, CurrentPartitions, STALL_AFTER};
pub use connection::{Cache, CacheError};
pub use counted_connection::CommandExecutor;
pub use fault::RedisFault;
pub use folded::FoldedKey;
pub use health::RedisHealth;
pub use idempotency::{AcknowledgedRequest, IdempotencyScope, Reservation, ReservationEpoch};
pub use keys::{Dependency, ViewKey};
pub use local_limits::LocalLimits;
pub use nodes::{LiveNode, NodeCounts};
pub use pending::{PendingChanges, PendingEntity};
pub use progress::Progress;
pub use publish::PublishOutcome;
pub use request_count::RequestCounter;
pub use stored_views::StoredViews;
pub use typing::TypingAdmission;
pub use views::{CountedLookup, Versions, View, ViewLookup};
