//! Positions on the log: that of one event, and the progress on all partitions together. Offsets of different
//! partitions say nothing about each other's order, so they must never be compared.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// The position of an event on the log: its partition and offset. Written `P:O`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The number of the partition, from 0.
    pub partition: i32,
    /// The offset within the partition, from 0. Offsets are ordered, but may have gaps.
    pub offset: i64,
}

/// The text is not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a position such as 3:42")]
pub struct NotAPosition;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

const DESCRIPTION: &str = "The position of an event on the log, `partition:offset`.";
const PATTERN: &str = "^[0-9]+:[0-9]+$";
const EXAMPLE: &str = "7:42";

/// A position is a text in JSON.
impl PartialSchema for Position {
    fn schema() -> RefOr<Schema> {
        let schema = ObjectBuilder::new().schema_type(Type::String).description(Some(DESCRIPTION));
        schema.pattern(Some(PATTERN)).examples([EXAMPLE]).into()
    }
}

impl ToSchema for Position {}

impl JsonSchema for Position {
    fn schema_name() -> Cow<'static, str> {
        "Position".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        json_schema!({"type": "string", "description": DESCRIPTION, "pattern": PATTERN, "examples": [EXAMPLE]})
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
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The next offset of every partition, from partition 0 on. The vector includes every event below these offsets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PositionVector(pub Vec<i64>);

impl PositionVector {
    /// A vector that includes nothing.
    pub fn zero(partitions: usize) -> Self {
        Self(vec![0; partitions])
    }

    /// A vector that includes the event at this position and the earlier events of its partition.
    pub fn up_to(position: Position) -> Self {
        let mut vector = Self::zero(usize::try_from(position.partition).map_or(0, |index| index + 1));
        vector.advance(position.partition, position.offset.saturating_add(1));
        vector
    }

    /// The next offset of a partition; 0 for a partition that the vector doesn't have.
    pub fn next(&self, partition: i32) -> i64 {
        usize::try_from(partition).ok().and_then(|index| self.0.get(index)).copied().unwrap_or(0)
    }

    /// Moves a partition's next offset forward, never back. Ignores a partition that the vector doesn't have.
    pub fn advance(&mut self, partition: i32, next: i64) {
        if let Some(slot) = usize::try_from(partition).ok().and_then(|index| self.0.get_mut(index)) {
            *slot = next.max(*slot);
        }
    }

    /// A vector that includes the same events of one partition, and none of the others.
    #[must_use]
    pub fn restricted_to(mut self, partition: i32) -> Self {
        for (index, next) in (0..).zip(&mut self.0) {
            if index != partition {
                *next = 0;
            }
        }
        self
    }

    /// Moves every partition's next offset forward to at least that of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.0.resize(other.0.len().max(self.0.len()), 0);
        for (partition, next) in (0..).zip(&other.0) {
            self.advance(partition, *next);
        }
    }

    /// Whether the vector includes the event at this position.
    pub fn includes(&self, position: Position) -> bool {
        self.next(position.partition) > position.offset
    }

    /// Whether the vector includes everything that `other` includes.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().enumerate().all(|(partition, next)| self.0.get(partition).copied().unwrap_or(0) >= *next)
    }
}

/// A move of a partition's next offset by one commit of the projector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetAdvance {
    /// The number of the partition.
    pub partition: i32,
    /// The next offset before the commit.
    pub from: i64,
    /// The next offset after the commit. Equal to `from` if the commit only confirms it.
    pub to: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_and_written_as_partition_colon_offset() {
        for (text, partition, offset) in
            [("0:0", 0, 0), ("3:42", 3, 42), ("2147483647:9223372036854775807", i32::MAX, i64::MAX)]
        {
            let position = Position { partition, offset };
            assert_eq!(text.parse(), Ok(position));
            assert_eq!(position.to_string(), text);
            assert_eq!(serde_json::to_string(&position).unwrap(), format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Position>(&format!("\"{text}\"")).unwrap(), position);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            ":",
            "1",
            "1:",
            ":1",
            "-1:1",
            "1:-1",
            "+1:1",
            "1: 1",
            "1:1:1",
            "a:1",
            "١:1",
            "2147483648:0",
            "0:9223372036854775808",
        ] {
            assert_eq!(text.parse::<Position>(), Err(NotAPosition), "{text}");
        }
    }

    #[test]
    fn a_vector_includes_the_events_below_its_next_offsets() {
        let vector = PositionVector(vec![0, 5]);
        let includes = |partition, offset| vector.includes(Position { partition, offset });
        assert!(includes(1, 4) && !includes(1, 5) && !includes(0, 0));
        assert!(!includes(2, 0) && !includes(-1, 0), "a partition that the vector doesn't have");
    }

    #[test]
    fn a_vector_only_moves_forward() {
        let mut vector = PositionVector::zero(2);
        vector.advance(1, 5);
        assert_eq!(vector.0, [0, 5]);
        vector.advance(1, 3);
        assert_eq!(vector.0, [0, 5], "3 is behind");
        vector.advance(0, 1);
        assert_eq!(vector.0, [1, 5]);
    }

    #[test]
    fn a_vector_ignores_partitions_that_it_does_not_have() {
        let mut vector = PositionVector(vec![1, 5]);
        vector.advance(2, 9);
        vector.advance(-1, 9);
        assert_eq!(vector.0, [1, 5]);
    }

    #[test]
    fn a_vector_can_be_restricted_to_a_partition() {
        assert_eq!(PositionVector(vec![1, 2, 3]).restricted_to(1).0, [0, 2, 0]);
        assert_eq!(PositionVector(vec![1]).restricted_to(7).0, [0]);
    }

    #[test]
    fn a_merged_vector_includes_the_events_of_both() {
        let merged = |one: &[i64], other: &[i64]| {
            let mut vector = PositionVector(one.to_vec());
            vector.merge(&PositionVector(other.to_vec()));
            vector.0
        };
        assert_eq!(merged(&[1, 5], &[3]), [3, 5]);
        assert_eq!(merged(&[], &[0, 2]), [0, 2]);
    }

    #[test]
    fn a_vector_covers_another_that_is_nowhere_ahead() {
        let vector = PositionVector(vec![2, 2]);
        for covered in [vec![2, 2], vec![1], vec![0, 0, 0]] {
            assert!(vector.covers(&PositionVector(covered.clone())), "{covered:?}");
        }
        for ahead in [vec![2, 3], vec![0, 0, 1]] {
            assert!(!vector.covers(&PositionVector(ahead.clone())), "{ahead:?}");
        }
    }
}
