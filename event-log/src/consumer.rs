//! Reads the log: as a stream of batches from assigned partitions, and one record or offset at a time. A consumer must
//! never skip a record silently, and never stores offsets in Kafka.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use domain::{Position, PositionVector};
use futures_util::FutureExt;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::client::{self, KafkaContext, is_transient};
use crate::error::LogError;
use crate::lookup::{LogLookup, NO_LATER_RECORD, Records};
use crate::record::LogRecord;
use crate::record_lookup::RecordLookup;

/// How often a waiting reader checks for records without being woken. librdkafka can fail to wake it: after a broker
/// was suspended for a while, one reader got no wake-up for the rest of the process's life.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Where to begin reading a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At the partition's first record.
    Beginning,
    /// At this offset.
    Offset(i64),
    /// After the partition's newest record.
    End,
}

/// Reads the partitions that it is assigned. It joins no consumer group and stores no offsets: its user stores them
/// next to the effects of the records. Once it is assigned partitions, call [`LogConsumer::next_batch`] all the time.
///
/// Keep it. Its first record takes tens of milliseconds, because it connects, and dropping it blocks for 100 to 200 ms.
pub struct LogConsumer {
    config: ClientConfig,
    /// Created with the first call that needs it: a consumer that only looks offsets and records up needs none.
    consumer: OnceLock<StreamConsumer<KafkaContext>>,
    brokers: String,
    topic: String,
    /// The purpose of this consumer, as a metric label.
    name: &'static str,
    /// Whether records have what their headers say.
    reads_headers: bool,
    /// An error that followed some records of a batch. The next call returns it.
    pending_error: Mutex<Option<LogError>>,
    /// Created with the first look-up of offsets.
    lookup: OnceLock<Arc<LogLookup>>,
    /// Created with the first look-up of the readable end.
    readable_lookup: OnceLock<Arc<LogLookup>>,
    /// Created with the first look-up of a record.
    record_lookup: OnceLock<RecordLookup>,
}

/// The settings of every consumer of a topic; callers add their own.
pub(crate) fn consumer_config(brokers: &str, name: &str) -> ClientConfig {
    let mut config = client::config(brokers);
    config
        // librdkafka demands a group even of consumers that join none.
        .set("group.id", format!("messages-{name}"))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // A missing offset means that the log lost records. The reader must hear of it, not continue elsewhere.
        .set("auto.offset.reset", "error")
        .set("fetch.error.backoff.ms", "50")
        // By default librdkafka doesn't fetch a partition for 1 s after its queue was full: a replay would take
        // five times as long.
        .set("fetch.queue.backoff.ms", "5")
        .set("queued.min.messages", "10000");
    config
}

/// The offsets that librdkafka knows, by partition.
pub(crate) fn known_positions(positions: &TopicPartitionList) -> Vec<(i32, i64)> {
    let known = positions.elements().into_iter().filter_map(|element| match element.offset() {
        Offset::Offset(offset) => Some((element.partition(), offset)),
        _ => None,
    });
    known.collect()
}

impl LogConsumer {
    /// Prepares a consumer that gets each record at once. `name` is the consumer's purpose, as a metric label. Connects
    /// with the first use.
    pub fn new(brokers: &str, topic: &str, name: &'static str) -> Self {
        let mut config = consumer_config(brokers, name);
        config.set("fetch.min.bytes", "1").set("fetch.wait.max.ms", "100").set("queued.max.messages.kbytes", "32768");
        client::count_requests(&mut config);
        Self {
            config,
            consumer: OnceLock::new(),
            brokers: brokers.to_owned(),
            topic: topic.to_owned(),
            name,
            reads_headers: true,
            pending_error: Mutex::default(),
            lookup: OnceLock::new(),
            readable_lookup: OnceLock::new(),
            record_lookup: OnceLock::new(),
        }
    }

    /// The same consumer, whose records lack what headers say. Reading many records takes less time.
    #[must_use]
    pub fn without_headers(self) -> Self {
        Self { reads_headers: false, ..self }
    }

    fn consumer(&self) -> Result<&StreamConsumer<KafkaContext>, LogError> {
        if let Some(consumer) = self.consumer.get() {
            return Ok(consumer);
        }
        let consumer = self.config.create_with_context(KafkaContext::default())?;
        Ok(self.consumer.get_or_init(|| consumer))
    }

    /// Reads these partitions from now on, and no others.
    ///
    /// # Errors
    /// When librdkafka refuses the assignment.
    pub fn assign(&self, partitions: &[(i32, StartAt)]) -> Result<(), LogError> {
        let mut list = TopicPartitionList::new();
        for (partition, start) in partitions {
            let offset = match start {
                StartAt::Beginning => Offset::Beginning,
                StartAt::Offset(offset) => Offset::Offset(*offset),
                StartAt::End => Offset::End,
            };
            list.add_partition_offset(&self.topic, *partition, offset)?;
        }
        self.consumer()?.assign(&list)?;
        *self.pending_error.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    /// Waits for a record, then takes those that have already arrived, up to `max_records` or about `max_bytes` of
    /// values. Waits out lost connections. Dropping the future before it is ready loses no record.
    ///
    /// # Errors
    /// When Kafka reports an error; the next call may succeed. But after [`LogError::OffsetNotFound`] a partition has
    /// stopped: every call returns that error again, until [`LogConsumer::assign`] sets where to continue.
    pub async fn next_batch(&self, max_records: usize, max_bytes: usize) -> Result<Vec<LogRecord>, LogError> {
        if let Some(error) = self.take_pending_error() {
            return Err(error);
        }
        let consumer = self.consumer()?;
        let first = self.next_record(consumer).await?;
        let mut bytes = first.value.len();
        let mut records = vec![first];
        while records.len() < max_records && bytes < max_bytes {
            match consumer.recv().now_or_never() {
                Some(Ok(message)) => {
                    let record = LogRecord::new(&message, self.reads_headers);
                    bytes += record.value.len();
                    records.push(record);
                }
                Some(Err(error)) if is_transient(&error) => {}
                // librdkafka reports an error once, so the next call has to return it.
                Some(Err(error)) => {
                    self.set_pending_error(error.into());
                    break;
                }
                None => break,
            }
        }
        metrics::counter!("records_consumed_total", "consumer" => self.name).increment(records.len() as u64);
        Ok(records)
    }

    async fn next_record(&self, consumer: &StreamConsumer<KafkaContext>) -> Result<LogRecord, LogError> {
        loop {
            match tokio::time::timeout(POLL_INTERVAL, consumer.recv()).await {
                Ok(Ok(message)) => return Ok(LogRecord::new(&message, self.reads_headers)),
                Err(_) => {}
                Ok(Err(error)) if is_transient(&error) => {}
                Ok(Err(error)) => {
                    self.set_pending_error(error.into());
                    return Err(self.take_pending_error().unwrap_or(LogError::Stopped));
                }
            }
        }
    }

    fn set_pending_error(&self, error: LogError) {
        *self.pending_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// Takes the pending error, if there is one. An error that stopped a partition stays pending.
    fn take_pending_error(&self) -> Option<LogError> {
        let mut pending = self.pending_error.lock().unwrap_or_else(PoisonError::into_inner);
        match *pending {
            Some(LogError::OffsetNotFound) => Some(LogError::OffsetNotFound),
            _ => pending.take(),
        }
    }

    /// The next offset of each assigned partition of which a record was read. It is above the last record that was
    /// taken, and above offsets without a record.
    ///
    /// # Errors
    /// When librdkafka doesn't know.
    pub fn positions(&self) -> Result<Vec<(i32, i64)>, LogError> {
        Ok(known_positions(&self.consumer()?.position()?))
    }

    /// The present end of the log: the next offset of every partition. Includes every event that Kafka acknowledged
    /// before the call, also those that nobody can read before an open transaction ends. Sends one request to each
    /// broker, for all its partitions.
    ///
    /// # Errors
    /// When Kafka doesn't answer for every partition within 2 s.
    pub async fn end_offsets(&self) -> Result<PositionVector, LogError> {
        self.lookup()?.offsets(Offset::End).await
    }

    /// The offset of every partition up to which readers get records. It is below [`LogConsumer::end_offsets`] where
    /// another producer has left a transaction open.
    ///
    /// # Errors
    /// When Kafka doesn't answer for every partition within 2 s.
    pub async fn readable_end_offsets(&self) -> Result<PositionVector, LogError> {
        let lookup = created(&self.readable_lookup, || LogLookup::new(&self.brokers, &self.topic, Records::Readable))?;
        lookup.offsets(Offset::End).await
    }

    /// The partitions on which an open transaction of another producer holds back records, each with the offset of the
    /// first record that nobody can read.
    ///
    /// # Errors
    /// When Kafka doesn't answer for every partition within 4 s.
    pub async fn held_partitions(&self) -> Result<BTreeMap<i32, i64>, LogError> {
        // The end comes first: what is appended between the two requests must not look as if it were held back.
        let end = self.end_offsets().await?;
        let readable = self.readable_end_offsets().await?;
        let both = (0..).zip(readable.0.into_iter().zip(end.0));
        Ok(both.filter(|(_, (readable, end))| readable < end).map(|(it, (readable, _))| (it, readable)).collect())
    }

    /// The offset of the first record of every partition that the log appended at this time or later, in Unix
    /// milliseconds. Without such a record, the partition's next offset.
    ///
    /// # Errors
    /// When Kafka doesn't answer for every partition within 4 s.
    pub async fn offsets_at(&self, time_ms: i64) -> Result<PositionVector, LogError> {
        let first_later = self.lookup()?.offsets(Offset::Offset(time_ms)).await?;
        let mut offsets = self.end_offsets().await?;
        for (offset, first_later) in offsets.0.iter_mut().zip(first_later.0) {
            *offset = if first_later == NO_LATER_RECORD { *offset } else { first_later };
        }
        Ok(offsets)
    }

    /// The oldest offset of every partition. It is above 0 where an operator deleted records.
    ///
    /// # Errors
    /// When Kafka doesn't answer for every partition within 2 s.
    pub async fn beginning_offsets(&self) -> Result<PositionVector, LogError> {
        self.lookup()?.offsets(Offset::Beginning).await
    }

    /// Reads one record again. None if the log has no record at this position. Concurrent callers share their reads.
    ///
    /// # Errors
    /// When Kafka doesn't answer within 2 s, or too many callers wait.
    pub async fn read_at(&self, position: Position) -> Result<Option<LogRecord>, LogError> {
        let lookup = match self.record_lookup.get() {
            Some(lookup) => lookup,
            None => {
                let lookup = RecordLookup::new(&self.brokers, &self.topic)?;
                self.record_lookup.get_or_init(|| lookup)
            }
        };
        lookup.read(position).await
    }

    fn lookup(&self) -> Result<Arc<LogLookup>, LogError> {
        created(&self.lookup, || LogLookup::new(&self.brokers, &self.topic, Records::Acknowledged))
    }
}

/// The look-up in a slot, created with the first use.
fn created(
    slot: &OnceLock<Arc<LogLookup>>,
    create: impl FnOnce() -> Result<LogLookup, LogError>,
) -> Result<Arc<LogLookup>, LogError> {
    if let Some(lookup) = slot.get() {
        return Ok(lookup.clone());
    }
    let lookup = Arc::new(create()?);
    Ok(slot.get_or_init(|| lookup).clone())
}
