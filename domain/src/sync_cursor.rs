//! Where someone is who catches up with what changed, page by page.

use crate::position::PositionVector;

/// How far a reader has come. What an event changed may be cut by the end of a page: then the reader has a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncCursor {
    /// Everything below these offsets is known, as far as nothing later changed it again.
    pub includes: PositionVector,
    /// What is known of the next event of one partition, where that is not nothing.
    pub partial: Option<PartialEvent>,
}

/// A part of what the next event of a partition changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialEvent {
    /// The partition.
    pub partition: i32,
    /// How many of the kinds of things that an event can change are known, in their order: conversation, message,
    /// read mark.
    pub kinds: u8,
}

impl SyncCursor {
    /// From the beginning of a vector's next events.
    pub fn from(includes: PositionVector) -> Self {
        Self { includes, partial: None }
    }

    /// How many kinds are known of the next event of a partition.
    pub fn kinds(&self, partition: i32) -> u8 {
        self.partial.filter(|partial| partial.partition == partition).map_or(0, |partial| partial.kinds)
    }
}
