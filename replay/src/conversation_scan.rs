//! Reading the records of one conversation from a part of its partition, within a budget: for requests that somebody
//! waits for.

use std::time::Duration;

use domain::{ConversationId, Event, Position, Timestamp};
use event_log::{LogConsumer, LogError, LogRecord, StartAt, partition_of};
use tokio::time::Instant;

use crate::decode::conversation_of;

/// How many records are taken at a time.
const TAKEN_MAX: usize = 2_000;
/// How many bytes of values are taken at a time.
const TAKEN_BYTES_MAX: usize = 8 << 20;
/// The pause before checking whether the consumer has passed offsets without a record.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

domain::limit_rows! {
    Memory, "records that a look at one conversation takes at a time", Count TAKEN_MAX, "it takes the others afterwards", "memory";
    Memory, "bytes of these records", Bytes TAKEN_BYTES_MAX, "it takes the others afterwards", "memory";
}

/// A part of a conversation's partition, and how much of it is read at most.
#[derive(Debug, Clone, Copy)]
pub struct ScanPlan {
    /// Whose records are collected.
    pub conversation: ConversationId,
    /// How many partitions the topic has.
    pub partitions: usize,
    /// The offset to begin at.
    pub from: i64,
    /// The offset to end before. Readers must get all records below it.
    pub end: i64,
    /// How many offsets of the partition are read.
    pub offsets_max: i64,
    /// How many records of the conversation are collected.
    pub records_max: usize,
    /// How many bytes their values have together; the last one may exceed it.
    pub bytes_max: usize,
    /// When the scan ends wherever it is.
    pub deadline: Instant,
}

/// A record whose value names the conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct ScannedRecord {
    /// Its place on the log.
    pub position: Position,
    /// When the log took it.
    pub logged_at: Option<Timestamp>,
    /// Its bytes, as somebody wrote them.
    pub value: Vec<u8>,
    /// The event, or why it is none.
    pub event: Result<Event, String>,
}

/// What a scan has read.
#[derive(Debug, Clone, PartialEq)]
pub struct ConversationScan {
    /// The records of the conversation, in the order of the log.
    pub records: Vec<ScannedRecord>,
    /// The offset up to which the partition is read.
    pub next: i64,
}

/// Reads the records of a conversation, as far as the plan allows. Nothing else may use the consumer.
///
/// # Errors
/// When Kafka fails, or no longer has the records.
pub async fn scan_conversation(log: &LogConsumer, plan: ScanPlan) -> Result<ConversationScan, LogError> {
    let partition = partition_of(plan.conversation, plan.partitions);
    let mut scan = ConversationScan { records: Vec::new(), next: plan.from };
    let (end, mut bytes) = (plan.end.min(plan.from.saturating_add(plan.offsets_max)), 0);
    if scan.next >= end {
        return Ok(scan);
    }
    log.assign(&[(partition, StartAt::Offset(plan.from))])?;
    while scan.next < end && Instant::now() < plan.deadline {
        let taken = tokio::time::timeout(POLL_INTERVAL, log.next_batch(TAKEN_MAX, TAKEN_BYTES_MAX)).await;
        for record in taken.unwrap_or_else(|_| Ok(Vec::new()))? {
            if record.position.offset >= end {
                scan.next = end;
                return Ok(scan);
            }
            scan.next = record.position.offset + 1;
            if conversation_of(&record) == Some(plan.conversation) {
                bytes += record.value.len();
                scan.records.push(ScannedRecord::new(record, plan.partitions));
                if scan.records.len() >= plan.records_max || bytes >= plan.bytes_max {
                    return Ok(scan);
                }
            }
        }
        // The consumer also passes offsets that have no record.
        let passed = log.positions()?.first().map_or(0, |(_, next)| *next);
        scan.next = scan.next.max(passed.min(end));
    }
    Ok(scan)
}

impl ScannedRecord {
    fn new(record: LogRecord, partitions: usize) -> Self {
        let event = record.event(partitions).map_err(|error| error.to_string());
        let LogRecord { position, timestamp_ms, value, .. } = record;
        Self { position, logged_at: Timestamp::from_millis(timestamp_ms).ok(), value, event }
    }
}
