//! What messaging means: commands, events, and the fold from one to the other.
//!
//! Everything here is pure. There is no clock, no randomness and no I/O: times and fresh ids come in as
//! arguments, so the same inputs give the same outputs on every machine and in every year.

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
pub mod limits;
pub mod position;
pub mod rejection;
pub mod response;
pub mod schema;
pub mod state;
pub mod sync_cursor;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod timestamp;
pub mod view;

pub use command::Command;
pub use event::{Event, EventData};
pub use ids::{ConversationId, EventId, IdempotencyKey, MessageId, UserId};
pub use position::{OffsetAdvance, Position, PositionVector};
pub use rejection::{FieldError, Rejection};
pub use timestamp::Timestamp;
