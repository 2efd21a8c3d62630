//! Questions about the log, on a connection of their own: a broker answers the requests of one connection in
//! turn, so a question would wait behind a fetch that waits for new records.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use domain::{Position, PositionVector};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{self, KafkaLogContext, is_passing};
use crate::error::LogError;
use crate::record::LogRecord;

/// How long a question may take, with all that it needs.
const TIMEOUT: Duration = Duration::from_secs(2);

/// In the place of an offset: no record is as late as was asked for.
pub(crate) const NONE_LATER: i64 = -1;

/// A client that is asked, and that reads single records. Making one costs threads and a connection (the first
/// answer takes tens of milliseconds, dropping it 100): it is kept.
pub(crate) struct LogLookup {
    consumer: BaseConsumer<KafkaLogContext>,
    topic: String,
    /// How many partitions there are, once that is known; it never changes.
    partitions: OnceLock<i32>,
    /// Held by whoever reads a record: the consumer can be assigned for one of them at a time.
    reading: Arc<tokio::sync::Mutex<()>>,
}

impl LogLookup {
    pub(crate) fn new(brokers: &str, topic: &str) -> Result<Self, LogError> {
        let consumer = client::config(brokers)
            // Demanded even of consumers that join no group.
            .set("group.id", "messages-lookup")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            // One record is wanted, so one batch: the broker gives a whole one however small this is (KIP-74).
            .set("max.partition.fetch.bytes", "1024")
            .set("queued.min.messages", "1")
            // Otherwise the next read of a partition waits 1 s because of what the last one left in its queue.
            .set("fetch.queue.backoff.ms", "0")
            .set("fetch.wait.max.ms", "5")
            .create_with_context(KafkaLogContext)?;
        let reading = Arc::new(tokio::sync::Mutex::new(()));
        Ok(Self { consumer, topic: topic.to_owned(), partitions: OnceLock::new(), reading })
    }

    /// An offset of every partition: `Offset::End` the next one, `Offset::Beginning` the oldest one, and with a time in
    /// ms in the place of an offset that of the first record from then on, or [`NONE_LATER`].
    pub(crate) async fn offsets(self: Arc<Self>, which: Offset) -> Result<PositionVector, LogError> {
        client::blocking(move || self.ask(which)).await.map_err(|_| LogError::Stopped)?
    }

    /// Reads the record at a position, if there is one.
    pub(crate) async fn read(self: Arc<Self>, position: Position) -> Result<Option<LogRecord>, LogError> {
        let deadline = Instant::now() + TIMEOUT;
        let turn = tokio::time::timeout(TIMEOUT, self.reading.clone().lock_owned());
        let turn = turn.await.map_err(|_| LogError::TimedOut)?;
        let read = client::blocking(move || {
            // Here, not outside: the turn ends with the read even if nobody waits for it any longer.
            let _turn = turn;
            self.read_one(position, deadline)
        });
        read.await.map_err(|_| LogError::Stopped)?
    }

    fn ask(&self, which: Offset) -> Result<PositionVector, LogError> {
        let deadline = Instant::now() + TIMEOUT;
        let partitions = self.partitions(deadline)?;
        let mut wanted = TopicPartitionList::new();
        for partition in 0..partitions {
            // It is sent as a time: "the end" asks for the latest offset (ListOffsets, timestamp -1) and "the
            // beginning" for the earliest (-2): one request to each broker.
            wanted.add_partition_offset(&self.topic, partition, which)?;
        }
        let found = self.consumer.offsets_for_times(wanted, left(deadline))?;
        let mut offsets = vec![None; usize::try_from(partitions).unwrap_or(0)];
        for element in found.elements() {
            element.error()?;
            let slot = usize::try_from(element.partition()).ok().and_then(|index| offsets.get_mut(index));
            match (slot, element.offset()) {
                (Some(slot), Offset::Offset(offset)) => *slot = Some(offset),
                (Some(slot), Offset::End) => *slot = Some(NONE_LATER),
                _ => {}
            }
        }
        // A partition without an answer must not pass for an empty one.
        let offsets: Option<Vec<i64>> = offsets.into_iter().collect();
        offsets.map(PositionVector).ok_or(LogError::TimedOut)
    }

    fn partitions(&self, deadline: Instant) -> Result<i32, LogError> {
        if let Some(known) = self.partitions.get() {
            return Ok(*known);
        }
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), left(deadline))?;
        let topic = metadata.topics().first().ok_or(LogError::TimedOut)?;
        if let Some(code) = topic.error() {
            return Err(KafkaError::MetadataFetch(code.into()).into());
        }
        let count = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
        Ok(*self.partitions.get_or_init(|| count))
    }

    fn read_one(&self, position: Position, deadline: Instant) -> Result<Option<LogRecord>, LogError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, position.partition, Offset::Offset(position.offset))?;
        self.consumer.assign(&list)?;
        let read = self.poll_for(position, deadline);
        self.consumer.unassign()?;
        read
    }

    fn poll_for(&self, position: Position, deadline: Instant) -> Result<Option<LogRecord>, LogError> {
        while Instant::now() < deadline {
            match self.consumer.poll(left(deadline)) {
                Some(Ok(message)) => {
                    let record = LogRecord::new(&message);
                    return Ok((record.position == position).then_some(record));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(None),
                Some(Err(error)) if is_passing(&error) => {}
                Some(Err(error)) => {
                    return match error.into() {
                        LogError::Lost => Ok(None),
                        error => Err(error),
                    };
                }
                None => {}
            }
        }
        Err(LogError::TimedOut)
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
