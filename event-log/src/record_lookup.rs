//! Reads single records again, many callers at a time, on a connection of its own. Each round reads one stretch of
//! every partition that somebody waits for, so callers share rounds, and one who waits for a partition never waits for
//! a stretch of another.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use domain::Position;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};

use crate::client::{self, KafkaContext, LOOKUP_TIMEOUT, is_transient};
use crate::error::LogError;
use crate::record::LogRecord;

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
        let rounds = Rounds::new(brokers, topic)?;
        let (requests, received) = mpsc::channel(MAX_WAITING);
        tokio::spawn(answer(rounds, received));
        Ok(Self { requests })
    }

    /// Reads the record at a position, if there is one.
    pub(crate) async fn read(&self, position: Position) -> LookedUp {
        let (reply, found) = oneshot::channel();
        self.requests.try_send(Request { position, reply }).map_err(|_| LogError::TimedOut)?;
        tokio::time::timeout(LOOKUP_TIMEOUT, found)
            .await
            .map_err(|_| LogError::TimedOut)?
            .map_err(|_| LogError::Stopped)?
    }
}

/// Answers requests until nobody can send one.
async fn answer(mut rounds: Rounds, mut received: mpsc::Receiver<Request>) {
    let mut waiting = Vec::new();
    while received.recv_many(&mut waiting, MAX_TOGETHER).await > 0 {
        let remaining = Remaining::of(waiting.drain(..).filter(|request| !request.reply.is_closed()));
        // Where the rounds panic, the callers learn it from the end of their channels.
        let read = client::run_blocking(move || {
            rounds.read(remaining);
            rounds.renewed_if_silent()
        });
        let Ok(Ok(next)) = read.await else { return };
        rounds = next;
    }
}

/// The consumer, which can be assigned for one round at a time.
struct Rounds {
    consumer: BaseConsumer<KafkaContext>,
    brokers: String,
    topic: String,
    /// Whether Kafka sent nothing at all in the last rounds. The connection may be dead, which librdkafka notices later
    /// than those who look something up.
    is_silent: bool,
}

/// What is still to be read, and who waits for it. Callers get their record as soon as it is read: if they waited for all
/// others, too, rounds that take as long as a caller waits would answer nobody, however often the callers come again.
#[derive(Default)]
struct Remaining {
    offsets: BTreeMap<i32, BTreeSet<i64>>,
    callers: HashMap<Position, Vec<oneshot::Sender<LookedUp>>>,
}

impl Remaining {
    fn of(requests: impl Iterator<Item = Request>) -> Self {
        let mut remaining = Self::default();
        for Request { position, reply } in requests {
            remaining.offsets.entry(position.partition).or_default().insert(position.offset);
            remaining.callers.entry(position).or_default().push(reply);
        }
        remaining
    }

    /// Answers everybody who waits for this record.
    fn answer(&mut self, position: Position, found: &LookedUp) {
        for reply in self.callers.remove(&position).into_iter().flatten() {
            // The caller may have given up.
            let _ = reply.send(found.clone());
        }
    }

    /// Takes note of a record. Whatever remains before it, the log doesn't have. Returns whether the partition's
    /// stretch goes on.
    fn take(&mut self, record: LogRecord) -> bool {
        let Position { partition, offset } = record.position;
        let Some(offsets) = self.offsets.get_mut(&partition) else { return false };
        let mut answers = Vec::new();
        while let Some(missing) = offsets.first().copied().filter(|first| *first < offset) {
            offsets.remove(&missing);
            answers.push((missing, Ok(None)));
        }
        if offsets.remove(&offset) {
            answers.push((offset, Ok(Some(record))));
        }
        let next = offsets.first().copied();
        if next.is_none() {
            self.offsets.remove(&partition);
        }
        for (offset, found) in answers {
            self.answer(Position { partition, offset }, &found);
        }
        next.is_some_and(|next| next - offset < STRETCH)
    }

    /// Answers everything that remains of a partition.
    fn end(&mut self, partition: i32, found: &LookedUp) {
        for offset in self.offsets.remove(&partition).unwrap_or_default() {
            self.answer(Position { partition, offset }, found);
        }
    }

    /// Answers the first that remains of a partition.
    fn end_first(&mut self, partition: i32, found: LookedUp) {
        let Some(offsets) = self.offsets.get_mut(&partition) else { return };
        let first = offsets.pop_first();
        if offsets.is_empty() {
            self.offsets.remove(&partition);
        }
        if let Some(offset) = first {
            self.answer(Position { partition, offset }, &found);
        }
    }
}

impl Rounds {
    fn new(brokers: &str, topic: &str) -> Result<Self, LogError> {
        let consumer = client::lookup_config(brokers, "messages-record-lookup")
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
        Ok(Self { consumer, brokers: brokers.to_owned(), topic: topic.to_owned(), is_silent: false })
    }

    /// With another consumer, if this one's connection may be dead.
    fn renewed_if_silent(self) -> Result<Self, LogError> {
        if self.is_silent { Self::new(&self.brokers, &self.topic) } else { Ok(self) }
    }

    /// Reads what remains, as far as there is time.
    fn read(&mut self, mut remaining: Remaining) {
        self.is_silent = !remaining.offsets.is_empty();
        let deadline = Instant::now() + LOOKUP_TIMEOUT;
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
        for reply in remaining.callers.into_values().flatten() {
            let _ = reply.send(Err(LogError::TimedOut));
        }
    }

    /// Reads a stretch of each of these partitions, from these offsets on.
    fn read_round(
        &mut self,
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
        &mut self,
        mut open: BTreeSet<i32>,
        remaining: &mut Remaining,
        deadline: Instant,
    ) -> Result<(), LogError> {
        while !open.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let came = self.consumer.poll(left);
            self.is_silent &= came.as_ref().is_none_or(|came| came.as_ref().is_err_and(is_transient));
            match came {
                Some(Ok(message)) => {
                    let record = LogRecord::new(&message, true);
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
    fn a_stretch_goes_on_to_the_next_record_that_is_near_and_answers_what_is_missing_at_once() {
        let offsets = [3, 5, 9, 9 + STRETCH];
        let (requests, mut callers): (Vec<_>, Vec<_>) = offsets
            .iter()
            .map(|offset| {
                let (reply, found) = oneshot::channel();
                (Request { position: Position { partition: 0, offset: *offset }, reply }, found)
            })
            .unzip();
        let mut remaining = Remaining::of(requests.into_iter());
        let mut found = |index: usize| callers[index].try_recv().ok().map(Result::unwrap);

        assert!(remaining.take(record(3)), "5 is near");
        assert_eq!(found(0), Some(Some(record(3))), "this caller waits for no other record");
        assert!(remaining.take(record(8)), "9 is near");
        assert_eq!(found(1), Some(None), "the log went on without it");
        assert!(!remaining.take(record(9)), "the last one is too far");
        assert_eq!(found(2), Some(Some(record(9))));
        assert_eq!(found(3), None);
        assert_eq!(remaining.offsets[&0], BTreeSet::from([9 + STRETCH]));
    }
}
