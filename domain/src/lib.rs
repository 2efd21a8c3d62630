//! The rules of messaging: commands, events, the decision from a command to an event, and the fold from events to the
//! read model.
//!
//! Everything here is pure, and must stay so: no clock, no randomness, no I/O. Times and fresh ids are arguments, so
//! the same input has the same output on every machine and in every year.

pub mod command;
mod content;
pub mod decide;
pub mod emoji;
pub mod envelope;
pub mod event;
pub mod facts;
mod fields;
pub mod fold;
pub mod ids;
pub mod limit_rows;
pub mod limits;
mod mentions;
pub mod position;
pub mod rejection;
pub mod repair;
pub mod response;
pub mod schema;
pub mod seeded_rng;
pub mod state;
pub mod sync_cursor;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text;
pub mod timestamp;
pub mod view;

pub use command::Command;
pub use event::{Event, EventData};
pub use ids::{ConversationId, EventId, IdempotencyKey, MessageId, UserId};
pub use position::{OffsetAdvance, Position, PositionVector};
pub use rejection::{FieldError, Rejection};
pub use text::is_format_character;
pub use timestamp::Timestamp;

/// The limits of this crate, for `docs/limits.md`.
pub const LIMITS: &[&[limit_rows::LimitRow]] = &[limits::LIMIT_ROWS];
