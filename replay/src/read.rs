//! Reading a part of the log into a channel, as fast as Kafka sends it.

use std::time::Duration;

use domain::PositionVector;
use event_log::{LogConsumer, LogError, LogRecord, StartAt};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The largest number of records to take at a time.
const RECORDS_MAX: usize = 2_000;
/// The largest number of bytes of values to take at a time.
const BYTES_MAX: usize = 8 << 20;
/// How many of these parts wait in the channel.
pub(crate) const WAITING_MAX: usize = 2;
/// The pause before checking whether the consumer has passed offsets without a record.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How long Kafka may send nothing.
const SILENCE_MAX: Duration = Duration::from_secs(30);

domain::limit_rows! {
    Memory, "records that a command takes at a time while it reads a part of the log", Count RECORDS_MAX, "it takes the others afterwards", "memory";
    Memory, "bytes of these records", Bytes BYTES_MAX, "it takes the others afterwards", "memory";
    Memory, "parts of such records that wait to be sorted or written", Count WAITING_MAX, "reading the log waits", "memory";
    Services, "wait for the next record of such a part", Time SILENCE_MAX, "the command ends with code 1", "operators, who wait for its end";
}

/// Why a part of the log can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadLogError {
    /// Kafka failed, or doesn't have the records.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Kafka sent no further record, although there are some.
    #[error("Kafka sent no record for {} s, although the log goes on", SILENCE_MAX.as_secs())]
    Silent,
}

/// How much of a part of the log is read, in offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadProgress {
    /// How many are read.
    pub done: u64,
    /// How many there are.
    pub total: u64,
}

/// Sends the records from these offsets to those. The log must have all of them. Those of a partition come in their order.
/// Reports the progress after each read. Ends early when nobody receives any more.
pub(crate) async fn read_log(
    consumer: &LogConsumer,
    from: &PositionVector,
    end: &PositionVector,
    sender: &mpsc::Sender<Vec<LogRecord>>,
    report: impl Fn(ReadProgress),
) -> Result<(), ReadLogError> {
    let mut next = from.clone();
    let partitions = (0..).zip(&end.0).filter(|(partition, end)| from.next(*partition) < **end);
    let assignment: Vec<_> =
        partitions.map(|(partition, _)| (partition, StartAt::Offset(from.next(partition)))).collect();
    if assignment.is_empty() {
        return Ok(());
    }
    consumer.assign(&assignment)?;
    let total = count(end) - count(from);
    let mut progressed_at = Instant::now();
    while !next.covers(end) {
        let read = tokio::time::timeout(POLL_INTERVAL, consumer.next_batch(RECORDS_MAX, BYTES_MAX)).await;
        let before = next.clone();
        let mut records = read.unwrap_or_else(|_| Ok(Vec::new()))?;
        records.retain(|record| end.includes(record.position));
        for record in &records {
            next.advance(record.position.partition, record.position.offset + 1);
        }
        if sender.send(records).await.is_err() {
            return Ok(());
        }
        // The consumer also passes offsets that have no record.
        for (partition, position) in consumer.positions()? {
            next.advance(partition, position.min(end.next(partition)));
        }
        if next != before {
            progressed_at = Instant::now();
            report(ReadProgress { done: count(&next) - count(from), total });
        } else if progressed_at.elapsed() > SILENCE_MAX {
            return Err(ReadLogError::Silent);
        }
    }
    Ok(())
}

/// Sends the records from these offsets on, as they come. Ends when nobody receives any more.
pub(crate) async fn follow_log(
    consumer: &LogConsumer,
    from: &PositionVector,
    sender: &mpsc::Sender<Vec<LogRecord>>,
) -> Result<(), ReadLogError> {
    let partitions = (0..).zip(&from.0).map(|(partition, next)| (partition, StartAt::Offset(*next)));
    consumer.assign(&partitions.collect::<Vec<_>>())?;
    while sender.send(consumer.next_batch(RECORDS_MAX, BYTES_MAX).await?).await.is_ok() {}
    Ok(())
}

/// How many offsets are below these.
pub(crate) fn count(offsets: &PositionVector) -> u64 {
    offsets.0.iter().map(|offset| u64::try_from(*offset).unwrap_or(0)).sum()
}
