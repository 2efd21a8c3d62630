//! The modelled topic: records by partition, with gaps between some offsets. Everything that is appended is also folded
//! into what is expected.

use std::collections::BTreeSet;

use domain::{Event, Position, PositionVector, envelope};
use event_log::{LogRecord, partition_for};

use super::expected::Expected;

pub(super) const PARTITIONS: usize = 3;

/// The records of all partitions.
#[derive(Default)]
pub(super) struct Log {
    partitions: [Vec<LogRecord>; PARTITIONS],
    /// The next offsets.
    ends: [i64; PARTITIONS],
    pub(super) expected: Expected,
    /// The positions of the records that can't be folded.
    pub(super) undecodable: BTreeSet<Position>,
}

impl Log {
    /// The partition of an event.
    pub(super) fn partition_of(event: &Event) -> i32 {
        partition_for(event.conversation_id.to_string().as_bytes(), PARTITIONS)
    }

    /// Appends an event to its partition.
    pub(super) fn append(&mut self, event: &Event) -> Position {
        let partition = Self::partition_of(event);
        let position = self.append_record(partition, event, envelope::encode(event));
        self.expected.append(event, position);
        position
    }

    /// Appends an event to a partition where it doesn't belong, or in a form that nobody can decode.
    pub(super) fn append_undecodable(&mut self, event: &Event, is_misplaced: bool) {
        let home = Self::partition_of(event);
        let (partition, value) = if is_misplaced {
            ((home + 1) % i32::try_from(PARTITIONS).unwrap(), envelope::encode(event))
        } else {
            (home, b"{}".to_vec())
        };
        let position = self.append_record(partition, event, value);
        self.undecodable.insert(position);
    }

    fn append_record(&mut self, partition: i32, event: &Event, value: Vec<u8>) -> Position {
        let index = usize::try_from(partition).unwrap();
        let position = Position { partition, offset: self.ends[index] };
        self.ends[index] += 1;
        self.partitions[index].push(LogRecord {
            position,
            timestamp_ms: event.occurred_at.as_millis(),
            key: event.conversation_id.to_string().into_bytes(),
            event_id: Some(event.event_id),
            event_type: Some(event.data.type_name().to_owned()),
            traceparent: None,
            value,
        });
        position
    }

    /// Takes an offset without a record, as the end of a transaction does.
    pub(super) fn skip_offset(&mut self, partition: usize) {
        self.ends[partition] += 1;
    }

    /// The records of a partition from an offset on, at most so many, and the next offset to read after them.
    pub(super) fn read(&self, partition: i32, from: i64, limit: usize) -> (&[LogRecord], i64) {
        let index = usize::try_from(partition).unwrap();
        let records = &self.partitions[index];
        let start = records.partition_point(|record| record.position.offset < from);
        let end = (start + limit).min(records.len());
        let next = records.get(end).map_or(self.ends[index], |record| record.position.offset);
        (&records[start..end], next)
    }

    /// The event at a position.
    pub(super) fn event_at(&self, position: Position) -> Event {
        let records = &self.partitions[usize::try_from(position.partition).unwrap()];
        let record = records.iter().find(|record| record.position == position).unwrap();
        envelope::decode(&record.value).unwrap()
    }

    /// The next offset of every partition.
    pub(super) fn end(&self) -> PositionVector {
        PositionVector(self.ends.to_vec())
    }

    /// How many records there are.
    pub(super) fn len(&self) -> usize {
        self.partitions.iter().map(Vec::len).sum()
    }
}
