//! Reading the log.

use std::sync::Arc;
use std::time::Duration;

use domain::{Position, PositionVector};
use futures_util::FutureExt;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use crate::client;

/// How long a question to the broker may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The log can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Kafka says so, or doesn't answer.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// Kafka did not answer in time.
    #[error("Kafka did not answer in time")]
    TimedOut,
    /// The process is shutting down.
    #[error("stopped while reading the log")]
    Stopped,
}

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

/// A record as it was read; its value isn't looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Where it is.
    pub position: Position,
    /// When the log took it, in Unix milliseconds.
    pub timestamp_ms: i64,
    /// Its key: a conversation's id as text.
    pub key: Vec<u8>,
    /// The header `ce_type`, if it has one: the type without looking into the value.
    pub event_type: Option<String>,
    /// Its value.
    pub value: Vec<u8>,
}

impl LogRecord {
    fn new(message: &BorrowedMessage<'_>) -> Self {
        let header = |name: &str| {
            let headers = message.headers()?;
            let found = headers.iter().find(|header| header.key == name)?;
            Some(String::from_utf8_lossy(found.value?).into_owned())
        };
        Self {
            position: Position { partition: message.partition(), offset: message.offset() },
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key().unwrap_or_default().to_vec(),
            event_type: header("ce_type"),
            value: message.payload().unwrap_or_default().to_vec(),
        }
    }
}

struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }
}

impl ConsumerContext for Context {}

/// Reads the partitions that it is assigned. It joins no group and stores no offsets: those are kept where
/// the effects are kept.
pub struct LogConsumer {
    consumer: Arc<StreamConsumer<Context>>,
    brokers: String,
    topic: String,
    name: &'static str,
}

impl LogConsumer {
    /// Makes a consumer; `name` says in metrics what it is for. Connects in the background.
    ///
    /// # Errors
    /// When librdkafka refuses the settings.
    pub fn new(brokers: &str, topic: &str, name: &'static str) -> Result<Self, LogError> {
        let consumer = client::config(brokers)
            // Demanded even of consumers that join no group.
            .set("group.id", format!("messages-{name}"))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // An offset that isn't there means that the log lost something: that must not be passed over.
            .set("auto.offset.reset", "error")
            // The broker answers as soon as it has a byte; without any it holds the request this long.
            .set("fetch.min.bytes", "1")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "50")
            .set("queued.min.messages", "10000")
            .set("queued.max.messages.kbytes", "32768")
            .create_with_context(Context)?;
        Ok(Self { consumer: Arc::new(consumer), brokers: brokers.to_owned(), topic: topic.to_owned(), name })
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
        Ok(self.consumer.assign(&list)?)
    }

    /// Waits for a record, then takes what has come already, up to `max_records` or about `max_bytes`. Nothing
    /// is lost when the future is dropped before it is ready.
    ///
    /// # Errors
    /// When Kafka says so. Reading may go on after that.
    pub async fn next_batch(&self, max_records: usize, max_bytes: usize) -> Result<Vec<LogRecord>, LogError> {
        let first = LogRecord::new(&self.consumer.recv().await?);
        let mut bytes = first.value.len();
        let mut records = vec![first];
        while records.len() < max_records && bytes < max_bytes {
            match self.consumer.recv().now_or_never() {
                Some(Ok(message)) => {
                    let record = LogRecord::new(&message);
                    bytes += record.value.len();
                    records.push(record);
                }
                // It comes again on its own with the next batch, if it still holds then.
                Some(Err(error)) => {
                    tracing::debug!(%error, "an error after some records");
                    break;
                }
                None => break,
            }
        }
        metrics::counter!("records_consumed_total", "consumer" => self.name).increment(records.len() as u64);
        Ok(records)
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

    /// The next offset of every partition, as the broker has it now: one request for all.
    ///
    /// # Errors
    /// When Kafka doesn't answer within 2 s.
    pub async fn end_offsets(&self) -> Result<PositionVector, LogError> {
        let (consumer, topic) = (self.consumer.clone(), self.topic.clone());
        let ends = client::blocking(move || -> Result<PositionVector, LogError> {
            let metadata = consumer.fetch_metadata(Some(&topic), TIMEOUT)?;
            let count = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
            let mut wanted = TopicPartitionList::new();
            for partition in 0..i32::try_from(count).unwrap_or(0) {
                // In place of a time, "the end" asks for the latest offset (ListOffsets, timestamp -1).
                wanted.add_partition_offset(&topic, partition, Offset::End)?;
            }
            let found = consumer.offsets_for_times(wanted, TIMEOUT)?;
            let mut ends = PositionVector::zero(count);
            for element in found.elements() {
                element.error()?;
                if let Offset::Offset(offset) = element.offset() {
                    ends.advance(element.partition(), offset);
                }
            }
            Ok(ends)
        });
        ends.await.map_err(|_| LogError::Stopped)?
    }

    /// Reads one record again. None where another one comes next after this position.
    ///
    /// # Errors
    /// When Kafka doesn't answer within 2 s.
    pub async fn read_at(&self, position: Position) -> Result<Option<LogRecord>, LogError> {
        let (brokers, topic) = (self.brokers.clone(), self.topic.clone());
        let read = client::blocking(move || -> Result<Option<LogRecord>, LogError> {
            // A consumer of its own: this is rare, and must not disturb what is being read.
            let consumer: BaseConsumer = client::config(&brokers)
                .set("group.id", "messages-read-at")
                .set("enable.auto.commit", "false")
                .set("auto.offset.reset", "error")
                .set("fetch.wait.max.ms", "10")
                .create()?;
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, position.partition, Offset::Offset(position.offset))?;
            consumer.assign(&list)?;
            match consumer.poll(TIMEOUT) {
                Some(message) => {
                    let record = LogRecord::new(&message?);
                    Ok((record.position == position).then_some(record))
                }
                None => Err(LogError::TimedOut),
            }
        });
        read.await.map_err(|_| LogError::Stopped)?
    }
}
