//! A believable community on the log: people, their conversations, and a year of messages. For trying the system out, for
//! tests and for measurements. The same [`CommunitySpec`] must give the same records on every machine.
//!
//! Everything here is pure. A [`Community`] makes one record after the other and keeps only what the next ones depend on:
//! its memory must not grow with the number of messages.

mod community;
mod conversation;
mod conversations;
mod people;
mod schedule;
mod texts;

pub use community::{Community, Record, UndecodableRecord};
pub use schedule::CommunitySpec;
