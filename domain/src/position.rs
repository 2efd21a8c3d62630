//! Positions on the log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The place of an event on the topic: partition and offset, written `P:O`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Partition number, from 0.
    pub partition: i32,
    /// Offset within the partition, from 0. Offsets are ordered, not gapless.
    pub offset: i64,
}

/// A text that is not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a position such as 3:42")]
pub struct NotAPosition;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl FromStr for Position {
    type Err = NotAPosition;
    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let (partition, offset) = text.split_once(':').ok_or(NotAPosition)?;
        if !digits(partition) || !digits(offset) {
            return Err(NotAPosition);
        }
        Ok(Self {
            partition: partition.parse().map_err(|_| NotAPosition)?,
            offset: offset.parse().map_err(|_| NotAPosition)?,
        })
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The next offset of every partition: everything below it is included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PositionVector(pub Vec<i64>);

impl PositionVector {
    /// A vector that includes nothing.
    pub fn zero(partitions: usize) -> Self {
        Self(vec![0; partitions])
    }

    /// The next offset of a partition; 0 for one that the vector doesn't know.
    pub fn next(&self, partition: i32) -> i64 {
        usize::try_from(partition).ok().and_then(|index| self.0.get(index)).copied().unwrap_or(0)
    }

    /// Moves a partition's next offset forward; never back.
    pub fn advance(&mut self, partition: i32, next: i64) {
        if let Some(slot) = usize::try_from(partition).ok().and_then(|index| self.0.get_mut(index)) {
            *slot = next.max(*slot);
        }
    }

    /// Whether the event at this position is included.
    pub fn includes(&self, position: Position) -> bool {
        self.next(position.partition) > position.offset
    }

    /// Whether everything that `other` includes is included here.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().enumerate().all(|(partition, next)| self.0.get(partition).copied().unwrap_or(0) >= *next)
    }
}
