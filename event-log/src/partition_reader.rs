//! Reads partitions each at its own pace: what waits to be read of one never holds up another. A reader must never skip
//! a record silently, and never stores offsets in Kafka.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, select_all};
use rdkafka::consumer::stream_consumer::StreamPartitionQueue;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{self, KafkaContext, is_transient};
use crate::consumer::{POLL_INTERVAL, consumer_config, known_positions};
use crate::error::LogError;
use crate::record::LogRecord;

/// How many kilobytes of a partition librdkafka reads ahead at most.
const READ_AHEAD_KBYTES: &str = "4096";
/// How long Kafka may take to describe the topic.
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(5);

type Queue = StreamPartitionQueue<KafkaContext>;
type Received<'a> = Result<BorrowedMessage<'a>, rdkafka::error::KafkaError>;

/// Why reading partitions failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct ReadError {
    /// The partition of which nothing more comes until it is assigned again. None if the error concerns all of them.
    pub partition: Option<i32>,
    /// What happened.
    pub error: LogError,
}

/// Reads the partitions that it is assigned, each from a queue of its own. It gets records up to 10 ms late, because the
/// broker collects those of that time: for a stream of single records this needs a tenth of the requests.
pub struct PartitionReader {
    consumer: Arc<StreamConsumer<KafkaContext>>,
    queues: BTreeMap<i32, Queue>,
    topic: String,
    /// The purpose of this reader, as a metric label.
    name: &'static str,
}

impl PartitionReader {
    /// A reader that is connected and has the topic's metadata, so that the first record doesn't wait for them.
    ///
    /// # Errors
    /// When Kafka doesn't answer within 5 s.
    pub async fn warm(brokers: &str, topic: &str, name: &'static str) -> Result<Self, LogError> {
        let reader = Self::new(brokers, topic, name)?;
        let (consumer, topic) = (reader.consumer.clone(), topic.to_owned());
        let loaded = client::run_blocking(move || consumer.fetch_metadata(Some(&topic), WARM_UP_TIMEOUT).map(drop));
        loaded.await.map_err(|_| LogError::Stopped)??;
        Ok(reader)
    }

    fn new(brokers: &str, topic: &str, name: &'static str) -> Result<Self, LogError> {
        let mut config = consumer_config(brokers, name);
        config
            .set("fetch.min.bytes", "100000")
            .set("fetch.wait.max.ms", "10")
            .set("queued.max.messages.kbytes", READ_AHEAD_KBYTES);
        client::count_requests(&mut config);
        let consumer = Arc::new(config.create_with_context(KafkaContext::default())?);
        Ok(Self { consumer, queues: BTreeMap::new(), topic: topic.to_owned(), name })
    }

    /// Reads these partitions from these offsets on, and no others.
    ///
    /// # Errors
    /// When librdkafka refuses the assignment.
    pub fn assign(&mut self, partitions: &BTreeMap<i32, i64>) -> Result<(), LogError> {
        let mut list = TopicPartitionList::new();
        for (partition, next) in partitions {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*next))?;
        }
        self.queues.retain(|partition, _| partitions.contains_key(partition));
        // Before the assignment: a record that comes first would go to the consumer's own queue.
        for partition in partitions.keys().filter(|it| !self.queues.contains_key(*it)).copied().collect::<Vec<_>>() {
            let queue = self.consumer.split_partition_queue(&self.topic, partition).ok_or(LogError::Stopped)?;
            self.queues.insert(partition, queue);
        }
        Ok(self.consumer.assign(&list)?)
    }

    /// Waits for a record of one of the partitions for which `wants` is true, and takes it. Waits out lost connections.
    /// Dropping the future before it is ready loses no record.
    ///
    /// # Errors
    /// When Kafka reports an error.
    pub async fn next(&self, wants: impl Fn(i32) -> bool) -> Result<LogRecord, ReadError> {
        let wanted: Vec<(i32, &Queue)> = self.queues.iter().map(|(it, queue)| (*it, queue)).collect();
        let wanted: Vec<(i32, &Queue)> = wanted.into_iter().filter(|(partition, _)| wants(*partition)).collect();
        loop {
            // The consumer's own queue has no records, but errors; and librdkafka wants it to be polled.
            let mut sources: Vec<BoxFuture<'_, Received<'_>>> = vec![self.consumer.recv().boxed()];
            sources.extend(wanted.iter().map(|(_, queue)| queue.recv().boxed()));
            let received = tokio::time::timeout(POLL_INTERVAL, select_all(sources)).await;
            let Ok((received, source, _)) = received else { continue };
            let partition = source.checked_sub(1).and_then(|index| wanted.get(index)).map(|(partition, _)| *partition);
            if let Some(record) = self.receive(received, partition)? {
                return Ok(record);
            }
        }
    }

    /// Takes a record of a partition, if one has arrived.
    ///
    /// # Errors
    /// As [`PartitionReader::next`].
    pub fn take(&self, partition: i32) -> Result<Option<LogRecord>, ReadError> {
        let Some(queue) = self.queues.get(&partition) else { return Ok(None) };
        while let Some(received) = queue.recv().now_or_never() {
            if let Some(record) = self.receive(received, Some(partition))? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    fn receive(&self, received: Received<'_>, partition: Option<i32>) -> Result<Option<LogRecord>, ReadError> {
        match received {
            Ok(message) => {
                metrics::counter!("records_consumed_total", "consumer" => self.name).increment(1);
                Ok(Some(LogRecord::new(&message, true)))
            }
            Err(error) if is_transient(&error) => Ok(None),
            Err(error) => Err(ReadError { partition, error: error.into() }),
        }
    }

    /// The next offset of each assigned partition of which a record was read. It is above the last record that was
    /// taken, and above offsets without a record.
    ///
    /// # Errors
    /// When librdkafka doesn't know.
    pub fn positions(&self) -> Result<Vec<(i32, i64)>, LogError> {
        Ok(known_positions(&self.consumer.position()?))
    }
}
