//! Reads single records again, many callers at a time, on a connection of its own. Each round reads one stretch of
//! every partition that somebody waits for, so callers share rounds, and one who waits for a partition never waits for
//! a stretch of another.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::Position;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};

use crate::client::{self, KafkaContext, is_transient};
use crate::error::LogError;
use crate::record::LogRecord;

/// How long reading a record may take, with everything that it needs.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How many callers may wait. Further ones are refused at once.
const MAX_WAITING: usize = 4_096;
/// How many callers share their rounds.
const MAX_TOGETHER: usize = 1_024;
/// How many offsets one round reads of a partition. What is farther away comes in the next round.
const STRETCH: i64 = 200;
/// About how many bytes of a partition Kafka sends at once: the records of a stretch that lie close together.
const FETCH_BYTES: &str = "32768";

domain::limit_rows! {
    Services, "records that a process looks up in the log together", Count MAX_TOGETHER, "the others come after them", "the wait of those";
    Services, "retries that wait for their event from the log", Count MAX_WAITING, "503 `unavailable`", "memory";
}

/// The record at a position, if there is one.
type LookedUp = Result<Option<LogRecord>, LogError>;

struct Request {
    position: Position,
    reply: oneshot::Sender<LookedUp>,
}

/// Reads single records. Keep it: it has threads and a connection of its own, so its first answer takes tens of
/// milliseconds, and dropping it 100.
pub(crate) struct RecordLookup {
    requests: mpsc::Sender<Request>,
}

impl RecordLookup {
    /// Needs a tokio runtime.
    pub(crate) fn new(brokers: &str, topic: &str) -> Result<Self, LogError> {
        let consumer: BaseConsumer<KafkaContext> = client::config(brokers)
            // librdkafka demands a group even of consumers that join none.
            .set("group.id", "messages-record-lookup")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            // Callers name positions of records that Kafka has acknowledged. An open transaction of another producer
            // must not hide them.
            .set("isolation.level", "read_uncommitted")
            .set("enable.partition.eof", "true")
            .set("max.partition.fetch.bytes", FETCH_BYTES)
            .set("queued.min.messages", "1")
            // Otherwise the next read of a partition waits 1 s because of what the last read left in its queue.
            .set("fetch.queue.backoff.ms", "0")
            .set("fetch.wait.max.ms", "5")
            .create_with_context(KafkaContext::default())?;
        let (requests, received) = mpsc::channel(MAX_WAITING);
        tokio::spawn(answer(Arc::new(Rounds { consumer, topic: topic.to_owned() }), received));
        Ok(Self { requests })
    }

    /// Reads the record at a position, if there is one.
    pub(crate) async fn read(&self, position: Position) -> LookedUp {
        let (reply, found) = oneshot::channel();
        self.requests.try_send(Request { position, reply }).map_err(|_| LogError::TimedOut)?;
        tokio::time::timeout(TIMEOUT, found).await.map_err(|_| LogError::TimedOut)?.map_err(|_| LogError::Stopped)?
    }
}

/// Answers requests until nobody can send one.
async fn answer(rounds: Arc<Rounds>, mut received: mpsc::Receiver<Request>) {
    let mut waiting = Vec::new();
    while received.recv_many(&mut waiting, MAX_TOGETHER).await > 0 {
        waiting.retain(|request| !request.reply.is_closed());
        let positions: Vec<Position> = waiting.iter().map(|request| request.position).collect();
        let rounds = rounds.clone();
        let read = client::run_blocking(move || rounds.read(&positions)).await;
        let mut records = read.unwrap_or_default();
        for Request { position, reply } in waiting.drain(..) {
            // Callers of one record get clones. What the rounds didn't come to, they had no time for.
            let found = records.entry(position).or_insert(Err(LogError::TimedOut)).clone();
            // The caller may have given up.
            let _ = reply.send(found);
        }
    }
}

/// The consumer, which can be assigned for one round at a time.
struct Rounds {
    consumer: BaseConsumer<KafkaContext>,
    topic: String,
}

/// What is still to be read.
#[derive(Default)]
struct Remaining {
    offsets: BTreeMap<i32, BTreeSet<i64>>,
    found: HashMap<Position, LookedUp>,
}

impl Remaining {
    fn of(positions: &[Position]) -> Self {
        let mut remaining = Self::default();
        for Position { partition, offset } in positions {
            remaining.offsets.entry(*partition).or_default().insert(*offset);
        }
        remaining
    }

    /// Takes note of a record. Whatever remains before it, the log doesn't have. Returns whether the partition's
    /// stretch goes on.
    fn take(&mut self, record: LogRecord) -> bool {
        let Position { partition, offset } = record.position;
        let Some(offsets) = self.offsets.get_mut(&partition) else { return false };
        while let Some(missing) = offsets.first().copied().filter(|first| *first < offset) {
            offsets.remove(&missing);
            self.found.insert(Position { partition, offset: missing }, Ok(None));
        }
        if offsets.remove(&offset) {
            self.found.insert(record.position, Ok(Some(record)));
        }
        let next = offsets.first().copied();
        if next.is_none() {
            self.offsets.remove(&partition);
        }
        next.is_some_and(|next| next - offset < STRETCH)
    }

    /// Answers everything that remains of a partition.
    fn end(&mut self, partition: i32, found: &LookedUp) {
        for offset in self.offsets.remove(&partition).unwrap_or_default() {
            self.found.insert(Position { partition, offset }, found.clone());
        }
    }

    /// Answers the first that remains of a partition.
    fn end_first(&mut self, partition: i32, found: LookedUp) {
        let Some(offsets) = self.offsets.get_mut(&partition) else { return };
        if let Some(offset) = offsets.pop_first() {
            self.found.insert(Position { partition, offset }, found);
        }
        if offsets.is_empty() {
            self.offsets.remove(&partition);
        }
    }
}

impl Rounds {
    fn read(&self, positions: &[Position]) -> HashMap<Position, LookedUp> {
        let deadline = Instant::now() + TIMEOUT;
        let mut remaining = Remaining::of(positions);
        // An error doesn't say which partition it is about. Then the partitions are read one by one.
        let mut together = true;
        while !remaining.offsets.is_empty() && Instant::now() < deadline {
            let count = if together { remaining.offsets.len() } else { 1 };
            let round: BTreeMap<i32, i64> = remaining
                .offsets
                .iter()
                .filter_map(|(partition, it)| Some((*partition, *it.first()?)))
                .take(count)
                .collect();
            if let Err(error) = self.read_round(&round, &mut remaining, deadline) {
                match round.first_key_value().filter(|_| round.len() == 1) {
                    Some((partition, _)) if matches!(error, LogError::OffsetNotFound) => {
                        remaining.end_first(*partition, Ok(None));
                    }
                    Some((partition, _)) => remaining.end(*partition, &Err(error)),
                    None => together = false,
                }
            }
        }
        remaining.found
    }

    /// Reads a stretch of each of these partitions, from these offsets on.
    fn read_round(
        &self,
        round: &BTreeMap<i32, i64>,
        remaining: &mut Remaining,
        deadline: Instant,
    ) -> Result<(), LogError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in round {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))?;
        }
        self.consumer.assign(&list)?;
        let read = self.poll_round(round.keys().copied().collect(), remaining, deadline);
        self.consumer.unassign()?;
        read
    }

    fn poll_round(
        &self,
        mut open: BTreeSet<i32>,
        remaining: &mut Remaining,
        deadline: Instant,
    ) -> Result<(), LogError> {
        while !open.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.consumer.poll(left) {
                Some(Ok(message)) => {
                    let record = LogRecord::new(&message);
                    let partition = record.position.partition;
                    if open.contains(&partition) && !remaining.take(record) {
                        open.remove(&partition);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) if open.remove(&partition) => {
                    remaining.end(partition, &Ok(None));
                }
                // Of a partition whose stretch has ended: what is farther away comes in the next round.
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) if is_transient(&error) => {}
                Some(Err(error)) => return Err(error.into()),
                None if left.is_zero() => return Err(LogError::TimedOut),
                None => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64) -> LogRecord {
        LogRecord {
            position: Position { partition: 0, offset },
            timestamp_ms: 0,
            key: Vec::new(),
            event_id: None,
            event_type: None,
            traceparent: None,
            value: Vec::new(),
        }
    }

    #[test]
    fn a_stretch_goes_on_to_the_next_record_that_is_near_and_answers_what_is_missing() {
        let positions = [3, 5, 9, 9 + STRETCH].map(|offset| Position { partition: 0, offset });
        let mut remaining = Remaining::of(&positions);

        assert!(remaining.take(record(3)), "5 is near");
        assert!(remaining.take(record(8)), "9 is near");
        assert!(!remaining.take(record(9)), "the last one is too far");

        let found =
            |offset: i64| remaining.found.get(&Position { partition: 0, offset }).map(|found| found.as_ref().unwrap());
        assert_eq!(found(3), Some(&Some(record(3))));
        assert_eq!(found(5), Some(&None), "the log went on without it");
        assert_eq!(found(9), Some(&Some(record(9))));
        assert_eq!(found(9 + STRETCH), None);
        assert_eq!(remaining.offsets[&0], BTreeSet::from([9 + STRETCH]));
    }
}
