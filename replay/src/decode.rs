//! Records as entries of buckets, and their decoding. What isn't an event is reported with its reason, as the projector
//! parks it.

use std::borrow::Cow;
use std::fmt;

use domain::{ConversationId, Event, Position};
use event_log::LogRecord;
use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use crate::buckets::{EntryBlock, hash_of};

/// Finds the conversation of an event, and reads no further: what follows is most of it.
struct ScopeFinder<'a>(&'a mut Option<ConversationId>);

impl<'de> Visitor<'de> for ScopeFinder<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(name) = fields.next_key::<Cow<'de, str>>()? {
            if name == "conversationId" {
                *self.0 = Some(fields.next_value()?);
                return Ok(());
            }
            fields.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// The conversation that a record's value names. Only the value says which one that is: another program may have written
/// the key. None if the record is no event.
pub(crate) fn conversation_of(record: &LogRecord) -> Option<ConversationId> {
    let mut conversation = None;
    // It fails when it stops before the end of the value.
    let _ = serde_json::Deserializer::from_slice(&record.value).deserialize_map(ScopeFinder(&mut conversation));
    conversation
}

/// The hash of a record's conversation. A record without a conversation is no event, and goes anywhere.
pub(crate) fn hash_of_record(record: &LogRecord) -> u64 {
    conversation_of(record).map_or_else(|| hash_of(record.position), hash_of)
}

/// Writes the parts of a record that decoding needs, and the log's timestamp.
pub(crate) fn encode(record: &LogRecord, entry: &mut Vec<u8>) {
    entry.clear();
    entry.extend_from_slice(&record.position.partition.to_le_bytes());
    entry.extend_from_slice(&record.position.offset.to_le_bytes());
    entry.extend_from_slice(&record.timestamp_ms.to_le_bytes());
    entry.extend_from_slice(&(record.key.len() as u64).to_le_bytes());
    entry.extend_from_slice(&record.key);
    entry.extend_from_slice(&record.value);
}

/// Reads what [`encode`] wrote.
fn decode(entry: &[u8]) -> Option<LogRecord> {
    let (partition, rest) = entry.split_first_chunk()?;
    let (offset, rest) = rest.split_first_chunk()?;
    let (timestamp, rest) = rest.split_first_chunk()?;
    let (key_length, rest) = rest.split_first_chunk()?;
    let (key, value) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*key_length)).ok()?)?;
    let position = Position { partition: i32::from_le_bytes(*partition), offset: i64::from_le_bytes(*offset) };
    Some(LogRecord {
        position,
        timestamp_ms: i64::from_le_bytes(*timestamp),
        key: key.to_vec(),
        event_id: None,
        event_type: None,
        traceparent: None,
        value: value.to_vec(),
    })
}

/// Some records of a bucket, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DecodedBlock {
    /// The events. Those of a conversation are in the order of the log.
    pub events: Vec<(Position, Event)>,
    /// The records that are no events, with the reasons.
    pub undecodable: Vec<(Position, String)>,
}

impl DecodedBlock {
    /// Decodes the records of a topic with this number of partitions.
    pub fn of(block: &EntryBlock, partitions: usize) -> Self {
        let mut decoded = Self::default();
        for record in block.entries().filter_map(|entry| decode(entry.bytes)) {
            match record.event(partitions) {
                Ok(event) => decoded.events.push((record.position, event)),
                Err(error) => decoded.undecodable.push((record.position, error.to_string())),
            }
        }
        decoded
    }
}
