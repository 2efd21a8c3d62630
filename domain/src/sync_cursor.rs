//! How far a client has synchronized. The query for changes walks through the user's conversations, page by page; a
//! cursor is where the next page begins.

use uuid::Uuid;

use crate::position::PositionVector;

/// How far a client has synchronized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncCursor {
    /// The client has the changes of every event below these offsets, unless a later event changed the same thing
    /// again.
    pub includes: PositionVector,
    /// The number of the last repair that the client's data includes (see [`crate::repair`]); 0 for none.
    pub repairs: i64,
    /// The walk that the client is in the middle of. None if its next page begins one.
    pub walk: Option<SyncWalk>,
}

/// A walk through everything of a user's that has changed since the cursor's offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncWalk {
    /// What the first page's snapshot included. The client includes it once the walk has ended.
    pub until: PositionVector,
    /// Where the next page begins.
    pub next: WalkPosition,
}

/// The conversations of a walk, in its order: the small ones, partition by partition, then the large ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WalkSection {
    /// The small conversations on a partition.
    Small(i32),
    /// The large conversations on all partitions.
    Large,
}

/// A position in a walk. A section goes from the highest conversation id down, and through each conversation in the
/// order of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkPosition {
    /// Which of the user's conversations the walk is at.
    pub section: WalkSection,
    /// The highest conversation id that is still to come.
    pub conversation: Uuid,
    /// The client has the changes of this conversation whose offset is lower.
    pub offset: i64,
    /// How many kinds of changes the client has of the event at `offset`, in this order: conversation, message, read
    /// mark.
    pub kinds: u8,
}

impl SyncCursor {
    /// A cursor that includes every event below these offsets, and the repairs up to this number. The next page begins a
    /// walk.
    pub fn new(includes: PositionVector, repairs: i64) -> Self {
        Self { includes, repairs, walk: None }
    }

    /// What a page must include that continues from here.
    pub fn demands(&self) -> &PositionVector {
        self.walk.as_ref().map_or(&self.includes, |walk| &walk.until)
    }
}

impl WalkPosition {
    /// The position before the first conversation of a section.
    pub fn start(section: WalkSection) -> Self {
        Self::at(section, Uuid::max())
    }

    /// The position before a conversation.
    pub fn at(section: WalkSection, conversation: Uuid) -> Self {
        Self { section, conversation, offset: 0, kinds: 0 }
    }
}
