//! Looks up offsets and single records, on a connection of its own. A broker answers the requests of one connection in
//! order, so on the consumer's connection a look-up would wait behind a fetch that waits for new records.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use domain::{Position, PositionVector};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{self, KafkaContext, is_transient};
use crate::error::LogError;
use crate::record::LogRecord;

/// How long a look-up may take, with everything that it needs.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Stands for an offset where a partition has no record as late as the given time.
pub(crate) const NO_LATER_RECORD: i64 = -1;

/// Looks up offsets and single records. Keep it: it has threads and a connection of its own, so its first answer takes
/// tens of milliseconds, and dropping it 100.
pub(crate) struct LogLookup {
    consumer: BaseConsumer<KafkaContext>,
    topic: String,
    /// The number of partitions, once known. It never changes.
    partition_count: OnceLock<i32>,
    /// Held while a record is read, because the consumer can be assigned for one read at a time.
    read_lock: Arc<tokio::sync::Mutex<()>>,
}

impl LogLookup {
    pub(crate) fn new(brokers: &str, topic: &str) -> Result<Self, LogError> {
        let consumer = client::config(brokers)
            // librdkafka demands a group even of consumers that join none.
            .set("group.id", "messages-lookup")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            // One record needs one batch. A broker sends a whole batch however small this is (KIP-74).
            .set("max.partition.fetch.bytes", "1024")
            .set("queued.min.messages", "1")
            // Otherwise the next read of a partition waits 1 s because of what the last read left in its queue.
            .set("fetch.queue.backoff.ms", "0")
            .set("fetch.wait.max.ms", "5")
            .create_with_context(KafkaContext::default())?;
        let read_lock = Arc::new(tokio::sync::Mutex::new(()));
        Ok(Self { consumer, topic: topic.to_owned(), partition_count: OnceLock::new(), read_lock })
    }

    /// An offset of every partition: the next one for `Offset::End`, the oldest one for `Offset::Beginning`. For
    /// `Offset::Offset(time_ms)`, that of the first record from that time on, or [`NO_LATER_RECORD`].
    pub(crate) async fn offsets(self: Arc<Self>, which: Offset) -> Result<PositionVector, LogError> {
        client::run_blocking(move || self.offsets_blocking(which)).await.map_err(|_| LogError::Stopped)?
    }

    /// Reads the record at a position, if there is one.
    pub(crate) async fn read(self: Arc<Self>, position: Position) -> Result<Option<LogRecord>, LogError> {
        let deadline = Instant::now() + TIMEOUT;
        let guard = tokio::time::timeout(TIMEOUT, self.read_lock.clone().lock_owned());
        let guard = guard.await.map_err(|_| LogError::TimedOut)?;
        let read = client::run_blocking(move || {
            // The blocking call holds the lock, because it runs to its end even if the caller stops waiting.
            let _guard = guard;
            self.read_blocking(position, deadline)
        });
        read.await.map_err(|_| LogError::Stopped)?
    }

    fn offsets_blocking(&self, which: Offset) -> Result<PositionVector, LogError> {
        let deadline = Instant::now() + TIMEOUT;
        let partition_count = self.partition_count(deadline)?;
        let mut requested = TopicPartitionList::new();
        for partition in 0..partition_count {
            // librdkafka sends it as a time: "the end" asks for the latest offset (ListOffsets, timestamp -1) and "the
            // beginning" for the earliest (-2). That takes one request to each broker.
            requested.add_partition_offset(&self.topic, partition, which)?;
        }
        let found = self.consumer.offsets_for_times(requested, time_left(deadline))?;
        let mut offsets = vec![None; usize::try_from(partition_count).unwrap_or(0)];
        for element in found.elements() {
            element.error()?;
            let slot = usize::try_from(element.partition()).ok().and_then(|index| offsets.get_mut(index));
            match (slot, element.offset()) {
                (Some(slot), Offset::Offset(offset)) => *slot = Some(offset),
                (Some(slot), Offset::End) => *slot = Some(NO_LATER_RECORD),
                _ => {}
            }
        }
        // A partition without an answer must not look like an empty one.
        let offsets: Option<Vec<i64>> = offsets.into_iter().collect();
        offsets.map(PositionVector).ok_or(LogError::TimedOut)
    }

    fn partition_count(&self, deadline: Instant) -> Result<i32, LogError> {
        if let Some(known) = self.partition_count.get() {
            return Ok(*known);
        }
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), time_left(deadline))?;
        let topic = metadata.topics().first().ok_or(LogError::TimedOut)?;
        if let Some(code) = topic.error() {
            return Err(KafkaError::MetadataFetch(code.into()).into());
        }
        let count = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
        Ok(*self.partition_count.get_or_init(|| count))
    }

    fn read_blocking(&self, position: Position, deadline: Instant) -> Result<Option<LogRecord>, LogError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, position.partition, Offset::Offset(position.offset))?;
        self.consumer.assign(&list)?;
        let read = self.poll_for(position, deadline);
        self.consumer.unassign()?;
        read
    }

    fn poll_for(&self, position: Position, deadline: Instant) -> Result<Option<LogRecord>, LogError> {
        while Instant::now() < deadline {
            match self.consumer.poll(time_left(deadline)) {
                Some(Ok(message)) => {
                    let record = LogRecord::new(&message);
                    return Ok((record.position == position).then_some(record));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(None),
                Some(Err(error)) if is_transient(&error) => {}
                Some(Err(error)) => {
                    return match error.into() {
                        LogError::OffsetNotFound => Ok(None),
                        error => Err(error),
                    };
                }
                None => {}
            }
        }
        Err(LogError::TimedOut)
    }
}

fn time_left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
