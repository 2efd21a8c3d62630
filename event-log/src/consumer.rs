//! Reading the log.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use domain::{Position, PositionVector};
use futures_util::FutureExt;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{self, KafkaLogContext, is_passing};
use crate::error::LogError;
use crate::lookup::{LogLookup, NONE_LATER};
use crate::record::LogRecord;

/// How long Kafka may take to describe the topic.
const WARM_UP: Duration = Duration::from_secs(5);

/// How often a reader that waits looks by itself. The wake-up from librdkafka can fail to come: after a broker that stood
/// still for a while, one did for as long as the process lived.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Where to begin reading a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At its first record.
    Beginning,
    /// At this offset.
    Offset(i64),
    /// After its newest record.
    End,
}

/// Reads the partitions that it is assigned. It joins no group and stores no offsets: those are kept where
/// the effects are kept. Making one takes a millisecond, its first record tens of them (it connects), and
/// dropping it blocks for 100 to 200 ms: keep it.
pub struct LogConsumer {
    consumer: StreamConsumer<KafkaLogContext>,
    brokers: String,
    topic: String,
    name: &'static str,
    /// An error that came after some records of a batch.
    pending: Mutex<Option<LogError>>,
    /// Made when something is asked first.
    lookup: OnceLock<Arc<LogLookup>>,
}

impl LogConsumer {
    /// Makes a consumer that gets each record as it comes; `name` says in metrics what it is for. Connects in the
    /// background.
    ///
    /// # Errors
    /// When librdkafka refuses the settings.
    pub fn new(brokers: &str, topic: &str, name: &'static str) -> Result<Self, LogError> {
        Self::fetching(brokers, topic, name, "1", "100")
    }

    /// Makes a consumer that gets records up to 10 ms later, for whom the broker gathers what comes meanwhile: in a
    /// stream of single records that is a tenth of the requests.
    ///
    /// # Errors
    /// When librdkafka refuses the settings.
    pub fn in_batches(brokers: &str, topic: &str, name: &'static str) -> Result<Self, LogError> {
        Self::fetching(brokers, topic, name, "100000", "10")
    }

    /// Connects and gets to know the topic, which the first record would otherwise wait for.
    ///
    /// # Errors
    /// When Kafka doesn't answer within 5 s.
    pub async fn warm_up(self: &Arc<Self>) -> Result<(), LogError> {
        let log = self.clone();
        let known = client::blocking(move || log.consumer.fetch_metadata(Some(&log.topic), WARM_UP).map(drop));
        Ok(known.await.map_err(|_| LogError::Stopped)??)
    }

    /// The broker answers once it has so many bytes, or has held the request for so many milliseconds.
    fn fetching(
        brokers: &str,
        topic: &str,
        name: &'static str,
        min_bytes: &str,
        wait_max_ms: &str,
    ) -> Result<Self, LogError> {
        let consumer = client::config(brokers)
            // Demanded even of consumers that join no group.
            .set("group.id", format!("messages-{name}"))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // An offset that isn't there means that the log lost something: that must not be passed over.
            .set("auto.offset.reset", "error")
            .set("fetch.min.bytes", min_bytes)
            .set("fetch.wait.max.ms", wait_max_ms)
            .set("fetch.error.backoff.ms", "50")
            // By default a partition whose queue was full is not fetched for 1 s: a replay would take five times
            // as long.
            .set("fetch.queue.backoff.ms", "5")
            .set("queued.min.messages", "10000")
            .set("queued.max.messages.kbytes", "32768")
            .create_with_context(KafkaLogContext)?;
        let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
        Ok(Self { consumer, brokers, topic, name, pending: Mutex::default(), lookup: OnceLock::new() })
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
        self.consumer.assign(&list)?;
        *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    /// Waits for a record, then takes what has come already, up to `max_records` or about `max_bytes` of values.
    /// Nothing is lost when the future is dropped before it is ready. Lost connections are waited out.
    ///
    /// # Errors
    /// When Kafka says so; reading may go on after that. But after [`LogError::Lost`] a partition has stopped, and
    /// every call answers the same until [`LogConsumer::assign`] says where to go on.
    pub async fn next_batch(&self, max_records: usize, max_bytes: usize) -> Result<Vec<LogRecord>, LogError> {
        if let Some(error) = self.pending() {
            return Err(error);
        }
        let first = loop {
            match tokio::time::timeout(LOOK_EVERY, self.consumer.recv()).await {
                Ok(Ok(message)) => break LogRecord::new(&message),
                Err(_) => {}
                Ok(Err(error)) if is_passing(&error) => {}
                Ok(Err(error)) => {
                    self.keep(error.into());
                    return Err(self.pending().unwrap_or(LogError::Stopped));
                }
            }
        };
        let mut bytes = first.value.len();
        let mut records = vec![first];
        while records.len() < max_records && bytes < max_bytes {
            match self.consumer.recv().now_or_never() {
                Some(Ok(message)) => {
                    let record = LogRecord::new(&message);
                    bytes += record.value.len();
                    records.push(record);
                }
                Some(Err(error)) if is_passing(&error) => {}
                // librdkafka tells it once: it is kept for the next call.
                Some(Err(error)) => {
                    self.keep(error.into());
                    break;
                }
                None => break,
            }
        }
        metrics::counter!("records_consumed_total", "consumer" => self.name).increment(records.len() as u64);
        Ok(records)
    }

    fn keep(&self, error: LogError) {
        *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// The error to answer with, if there is one. One that stopped a partition stays.
    fn pending(&self) -> Option<LogError> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        match *pending {
            Some(LogError::Lost) => Some(LogError::Lost),
            _ => pending.take(),
        }
    }

    /// The next offset of each assigned partition that was read from: beyond the last record that was taken,
    /// and beyond offsets without a record.
    ///
    /// # Errors
    /// When librdkafka doesn't know.
    pub fn positions(&self) -> Result<Vec<(i32, i64)>, LogError> {
        let positions = self.consumer.position()?;
        let known = positions.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        });
        Ok(known.collect())
    }

    /// The next offset of every partition, as the brokers have it now: one request to each broker for all its
    /// partitions. Includes every event that was acknowledged before the call.
    ///
    /// # Errors
    /// When Kafka doesn't answer for every partition within 2 s.
    pub async fn end_offsets(&self) -> Result<PositionVector, LogError> {
        self.lookup()?.offsets(Offset::End).await
    }

    /// The offset of the first record of every partition that the log took at this time or later, in Unix milliseconds;
    /// where there is none, the next offset.
    ///
    /// # Errors
    /// When Kafka doesn't answer for every partition within 4 s.
    pub async fn offsets_at(&self, time_ms: i64) -> Result<PositionVector, LogError> {
        let (later, mut offsets) = (self.lookup()?.offsets(Offset::Offset(time_ms)).await?, self.end_offsets().await?);
        for (offset, later) in offsets.0.iter_mut().zip(later.0) {
            *offset = if later == NONE_LATER { *offset } else { later };
        }
        Ok(offsets)
    }

    /// The oldest offset of every partition; above 0 where records were deleted by hand.
    ///
    /// # Errors
    /// When Kafka doesn't answer for every partition within 2 s.
    pub async fn beginning_offsets(&self) -> Result<PositionVector, LogError> {
        self.lookup()?.offsets(Offset::Beginning).await
    }

    /// Reads one record again, one caller at a time. None where the log has no record at this position.
    ///
    /// # Errors
    /// When Kafka doesn't answer within 2 s, the wait for one's turn included.
    pub async fn read_at(&self, position: Position) -> Result<Option<LogRecord>, LogError> {
        self.lookup()?.read(position).await
    }

    fn lookup(&self) -> Result<Arc<LogLookup>, LogError> {
        if let Some(lookup) = self.lookup.get() {
            return Ok(lookup.clone());
        }
        let made = Arc::new(LogLookup::new(&self.brokers, &self.topic)?);
        Ok(self.lookup.get_or_init(|| made).clone())
    }
}
