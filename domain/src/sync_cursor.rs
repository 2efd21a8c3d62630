//! How far a client has synchronized. The query for changes delivers them page by page; a cursor is where the next page
//! begins.

use crate::position::PositionVector;

/// How far a client has synchronized. A page may end in the middle of an event's changes: the client then has a part of
/// them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncCursor {
    /// The client has the changes of every event below these offsets, unless a later event changed the same thing
    /// again.
    pub includes: PositionVector,
    /// The part that the client has of one partition's next event. None if it has nothing of it.
    pub partial: Option<PartialEvent>,
}

/// The part that a client has of the changes of a partition's next event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialEvent {
    /// The event's partition.
    pub partition: i32,
    /// How many kinds of changes the client has, in this order: conversation, message, read mark.
    pub kinds: u8,
}

impl SyncCursor {
    /// A cursor at the beginning of each partition's next event.
    pub fn new(includes: PositionVector) -> Self {
        Self { includes, partial: None }
    }

    /// How many kinds of changes the client has of a partition's next event.
    pub fn kinds(&self, partition: i32) -> u8 {
        self.partial.filter(|partial| partial.partition == partition).map_or(0, |partial| partial.kinds)
    }
}
