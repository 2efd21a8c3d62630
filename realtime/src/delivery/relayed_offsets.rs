//! How far the relay is on the log. Position tokens of `connection:ready` are made from it, so it must never include an
//! event whose frames an earlier socket could still miss.

use std::sync::{Mutex, PoisonError};

use domain::{Position, PositionVector};

/// The next offset of each partition that the relay looks at: it has relayed everything below, or is relaying it.
pub(crate) struct RelayedOffsets(Mutex<PositionVector>);

impl RelayedOffsets {
    /// Begins at these offsets.
    pub(crate) fn new(start: PositionVector) -> Self {
        Self(Mutex::new(start))
    }

    /// The offsets now.
    pub(crate) fn get(&self) -> PositionVector {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Passes a record. The relay calls this before it sends the record's frames: a socket that enters its rooms later
    /// gets those frames, or a token that includes the record.
    pub(super) fn pass(&self, record: Position) {
        let mut offsets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        offsets.advance(record.partition, record.offset + 1);
    }
}
