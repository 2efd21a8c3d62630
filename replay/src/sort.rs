//! Sorting the log into buckets.

use domain::PositionVector;
use event_log::{LogConsumer, LogRecord};
use tokio::sync::mpsc;

use crate::buckets::{Bucket, Buckets, SortBudget};
use crate::decode::{encode, hash_of_record};
use crate::read::{ReadLogError, ReadProgress, WAITING_MAX, read_log};
use crate::spill_file::SpillError;

/// Why the log can't be sorted.
#[derive(Debug, thiserror::Error)]
pub enum SortError {
    /// Reading the log failed.
    #[error(transparent)]
    Read(#[from] ReadLogError),
    /// The temporary file can't be used.
    #[error(transparent)]
    Spill(#[from] SpillError),
    /// The thread that sorts has panicked.
    #[error("sorting the log stopped")]
    Stopped,
}

/// Reads the log from its beginning up to these offsets, and shares the records out by conversation. The log must have
/// all of them. Reports the progress after each read.
///
/// # Errors
/// When Kafka doesn't answer, a record is missing, or the temporary file can't be written.
pub async fn sort_log(
    consumer: &LogConsumer,
    end: &PositionVector,
    budget: &SortBudget,
    report: impl Fn(ReadProgress),
) -> Result<Vec<Bucket>, SortError> {
    let (sender, received) = mpsc::channel(WAITING_MAX);
    let buckets = Buckets::new(budget);
    let sorting = tokio::task::spawn_blocking(move || sort_records(buckets, received));
    read_log(consumer, &PositionVector::zero(end.0.len()), end, &sender, report).await?;
    drop(sender);
    sorting.await.map_err(|_| SortError::Stopped)?.map_err(SortError::from)
}

/// Shares records out until no more come.
fn sort_records(mut buckets: Buckets, mut records: mpsc::Receiver<Vec<LogRecord>>) -> Result<Vec<Bucket>, SpillError> {
    let mut entry = Vec::new();
    while let Some(records) = records.blocking_recv() {
        for record in records {
            add(&mut buckets, &record, &mut entry)?;
        }
    }
    Ok(buckets.finish())
}

/// Adds a record. `entry` is memory to use.
fn add(buckets: &mut Buckets, record: &LogRecord, entry: &mut Vec<u8>) -> Result<(), SpillError> {
    encode(record, entry);
    buckets.push(hash_of_record(record), entry)
}

#[cfg(test)]
mod tests {
    use domain::fold::fold;
    use domain::state::{Changes, State};
    use domain::testing::{Rng, random_history};
    use domain::{Event, Position, envelope};
    use event_log::partition_of;
    use proptest::prelude::*;

    use super::*;
    use crate::decode::DecodedBlock;

    const PARTITIONS: usize = 3;

    /// What a projector makes of a log.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Folded {
        state: State,
        changes: Changes,
        parked: Vec<(Position, String)>,
    }

    impl Folded {
        fn fold(&mut self, position: Position, event: &Event) {
            fold(&mut self.state, &mut self.changes, event, position);
        }

        /// Puts in order what the order of the conversations decides.
        fn in_order(mut self) -> Self {
            self.changes.applied.sort_by_key(|applied| applied.position);
            self.changes.created.sort_by_key(|(conversation, _)| *conversation);
            self.parked.sort();
            self
        }
    }

    fn record(position: Position, value: Vec<u8>) -> LogRecord {
        // No key says which conversation it is: as if another program had written it.
        let (key, timestamp_ms) = (b"a wrong key".to_vec(), position.offset);
        LogRecord { position, timestamp_ms, key, event_id: None, event_type: None, traceparent: None, value }
    }

    /// A topic with these events, and with records that are no events: damaged ones, ones of later versions, ones on the
    /// wrong partition, empty ones.
    fn log_of(events: &[Event], rng: &mut Rng) -> Vec<LogRecord> {
        let mut ends = [0_i64; PARTITIONS];
        let mut log = Vec::new();
        let mut append = |partition: i32, value: Vec<u8>| {
            let end = &mut ends[usize::try_from(partition).unwrap()];
            log.push(record(Position { partition, offset: *end }, value));
            // Offsets have gaps where transactions end.
            *end += 1 + i64::try_from(rng.below(2)).unwrap();
            rng.below(40)
        };
        for event in events {
            let partition = partition_of(event.conversation_id, PARTITIONS);
            let value = envelope::encode(event);
            let later = String::from_utf8(value.clone()).unwrap().replace("\"version\":1", "\"version\":7");
            match append(partition, value.clone()) {
                0 => append(partition, later.into_bytes()),
                1 => append((partition + 1) % PARTITIONS as i32, value),
                2 => append(partition, value[..value.len() / 2].to_vec()),
                3 => append(partition, Vec::new()),
                4 => append(partition, b"[\"an array\"]".to_vec()),
                _ => 0,
            };
        }
        log
    }

    fn folded_in_log_order(log: &[LogRecord]) -> Folded {
        let mut folded = Folded::default();
        for record in log {
            match record.event(PARTITIONS) {
                Ok(event) => folded.fold(record.position, &event),
                Err(error) => folded.parked.push((record.position, error.to_string())),
            }
        }
        folded.in_order()
    }

    fn folded_by_bucket(log: &[LogRecord], budget: &SortBudget) -> Folded {
        let mut buckets = Buckets::new(budget);
        let mut entry = Vec::new();
        for record in log {
            add(&mut buckets, record, &mut entry).unwrap();
            assert!(buckets.bytes_in_memory() <= budget.memory_max);
        }
        let mut folded = Folded::default();
        let mut open = buckets.finish();
        while let Some(mut bucket) = open.pop() {
            if bucket.bytes() > budget.bucket_max && bucket.is_divisible() {
                open.extend(bucket.divide().unwrap());
                continue;
            }
            while let Some(block) = bucket.next_block().unwrap() {
                let decoded = DecodedBlock::of(&block, PARTITIONS);
                decoded.events.iter().for_each(|(position, event)| folded.fold(*position, event));
                folded.parked.extend(decoded.undecodable);
            }
        }
        folded.in_order()
    }

    fn budget(memory_max: usize, bucket_max: u64) -> SortBudget {
        SortBudget { folder: std::env::temp_dir(), memory_max, bucket_max }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_log_folded_by_conversation_is_the_log_folded_in_its_order(
            seed: u64,
            length in 0..400_usize,
            memory_max in prop_oneof![Just(0), Just(4_000_usize), Just(1 << 20)],
            bucket_max in prop_oneof![Just(0), Just(2_000_u64), Just(1 << 20)],
        ) {
            let log = log_of(&random_history(seed, length), &mut Rng::new(seed));
            let expected = folded_in_log_order(&log);
            prop_assert_eq!(folded_by_bucket(&log, &budget(memory_max, bucket_max)), expected);
        }
    }

    #[test]
    fn a_conversation_that_is_larger_than_the_budget_stays_whole_and_in_order() {
        let mut events = random_history(7, 3_000);
        let largest = events[0].conversation_id;
        events.iter_mut().for_each(|event| event.conversation_id = largest);
        let log = log_of(&events, &mut Rng::new(7));
        let expected = folded_in_log_order(&log);
        assert!(expected.state.messages.len() > 100, "{}", expected.state.messages.len());
        assert!(folded_by_bucket(&log, &budget(10_000, 1_000)) == expected);
    }
}
