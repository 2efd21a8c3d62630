//! Redis: views with their freshness, facts, limits, reservations, typing and presence.
//!
//! Nothing here is needed to be right, only to be fast: whatever Redis loses comes back from Postgres and the
//! log. The one rule that keeps it truthful: a view is stored with the *stamps* of the heads that it depends
//! on, taken before its values were read, and only if those include what Redis had been told by then; the
//! projector moves the heads after each commit, and only then announces its progress. A view whose stamps are
//! still those of its heads therefore includes everything up to the progress that Redis announces.

pub mod admission;
mod announce;
mod checkup;
mod connection;
pub mod done;
pub mod facts;
pub mod keys;
pub mod presence;
pub mod progress;
pub mod typing;
pub mod views;

pub use admission::{Admission, Epoch, Limit, LimitState, LocalLimits, Reservation};
pub use announce::{Announced, Step};
pub use checkup::Checkup;
pub use connection::{Cache, CacheError};
pub use done::Begun;
pub use keys::{Head, ViewKey};
pub use progress::Progress;
pub use views::{Lookup, Stamps};
