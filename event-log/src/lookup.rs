//! Looks up offsets, on a connection of its own. A broker answers the requests of one connection in
//! order, so on the consumer's connection a look-up would wait behind a fetch that waits for new records.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use domain::PositionVector;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{self, KafkaContext, LOOKUP_TIMEOUT};
use crate::error::LogError;

/// How long the look-up for the reason of a failure may take besides.
const METADATA_TIMEOUT: Duration = Duration::from_millis(500);

domain::limit_rows! {
    Services, "a look-up in the log", Time LOOKUP_TIMEOUT, "503 `unavailable` for the request that needs it", "tasks and connections";
}

/// Which records a look-up counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Records {
    /// All that Kafka has acknowledged.
    Acknowledged,
    /// Those below the first open transaction. Readers of committed records get no others yet.
    Readable,
}

impl Records {
    /// A broker answers "the end" with the high watermark or with the last stable offset, by the client's isolation.
    fn isolation_level(self) -> &'static str {
        match self {
            Self::Acknowledged => "read_uncommitted",
            Self::Readable => "read_committed",
        }
    }
}

/// Stands for an offset where a partition has no record as late as the given time.
pub(crate) const NO_LATER_RECORD: i64 = -1;

/// Looks up offsets. Keep it: it has threads and a connection of its own, so its first answer takes
/// tens of milliseconds, and dropping it 100.
pub(crate) struct LogLookup {
    consumer: BaseConsumer<KafkaContext>,
    topic: String,
    /// The number of partitions, once known. It never changes.
    partition_count: OnceLock<i32>,
}

impl LogLookup {
    pub(crate) fn new(brokers: &str, topic: &str, records: Records) -> Result<Self, LogError> {
        let consumer = client::lookup_config(brokers, "messages-lookup")
            .set("isolation.level", records.isolation_level())
            .create_with_context(KafkaContext::default())?;
        Ok(Self { consumer, topic: topic.to_owned(), partition_count: OnceLock::new() })
    }

    /// An offset of every partition: the next one for `Offset::End`, the oldest one for `Offset::Beginning`. For
    /// `Offset::Offset(time_ms)`, that of the first record from that time on, or [`NO_LATER_RECORD`].
    pub(crate) async fn offsets(self: Arc<Self>, which: Offset) -> Result<PositionVector, LogError> {
        client::run_blocking(move || self.offsets_blocking(which)).await.map_err(|_| LogError::Stopped)?
    }

    fn offsets_blocking(&self, which: Offset) -> Result<PositionVector, LogError> {
        let deadline = Instant::now() + LOOKUP_TIMEOUT;
        let partition_count = self.partition_count(deadline)?;
        let mut requested = TopicPartitionList::new();
        for partition in 0..partition_count {
            // librdkafka sends it as a time: "the end" asks for the latest offset (ListOffsets, timestamp -1) and "the
            // beginning" for the earliest (-2). That takes one request to each broker.
            requested.add_partition_offset(&self.topic, partition, which)?;
        }
        let found = self.consumer.offsets_for_times(requested, time_left(deadline));
        let found = found.map_err(|error| self.leaderless().unwrap_or_else(|| error.into()))?;
        let mut offsets = vec![None; usize::try_from(partition_count).unwrap_or(0)];
        for element in found.elements() {
            if let Err(error) = element.error() {
                return Err(self.leaderless().unwrap_or_else(|| error.into()));
            }
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

    /// The partitions that no broker leads, if there are any, as the reason of a failure.
    fn leaderless(&self) -> Option<LogError> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), METADATA_TIMEOUT).ok()?;
        let partitions = metadata.topics().first()?.partitions().iter();
        let leaderless: Vec<i32> = partitions.filter(|it| it.leader() < 0).map(MetadataPartition::id).collect();
        (!leaderless.is_empty()).then_some(LogError::Leaderless(leaderless))
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
}

fn time_left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
