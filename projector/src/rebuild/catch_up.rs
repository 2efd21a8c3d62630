//! Folding what has come on the log into the generation that is being built, up to exact offsets.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use domain::PositionVector;
use event_log::{LogConsumer, LogError, LogRecord, StartAt};
use read_model::{CommitError, ParkedRecord, Projection, ReadModel, ReadModelError};

use crate::folding::{Backlog, Batch, BatchRun, PendingRecord, Reply, Request};

/// The largest number of records to take at a time.
const RECORDS_MAX: usize = 2_000;
/// The largest number of bytes of values to take at a time.
const BYTES_MAX: usize = 8 << 20;
/// How long Kafka may send nothing that is needed.
const SILENCE_MAX: Duration = Duration::from_secs(30);

domain::limit_rows! {
    Memory, "records that a rebuild takes at a time while it catches up", Count RECORDS_MAX, "it takes the others afterwards", "memory";
    Memory, "bytes of these records", Bytes BYTES_MAX, "it takes the others afterwards", "memory";
    Services, "wait for the next record while a rebuild catches up", Time SILENCE_MAX, "the rebuild ends, and nothing has changed", "operators, who wait for its end";
}
/// The pause before checking whether the consumer has passed offsets without a record.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Why catching up failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Load(#[from] ReadModelError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error("Kafka sent no record for {} s, although the log goes on", SILENCE_MAX.as_secs())]
    Silent,
}

/// Follows the log from some offsets on.
pub(super) struct LogFollower {
    log: LogConsumer,
    read_model: ReadModel,
    projection: Projection,
    /// How many partitions the topic has.
    partitions: usize,
    backlog: Backlog,
    /// What was read and is beyond where the last call had to come.
    beyond: BTreeMap<i32, VecDeque<LogRecord>>,
    /// All records that aren't events; none if those before the beginning aren't known.
    pub(super) parked: Option<Vec<ParkedRecord>>,
}

impl LogFollower {
    /// Begins at these offsets, up to which the read model is folded.
    pub(super) fn begin(
        log: LogConsumer,
        read_model: ReadModel,
        projection: Projection,
        from: &PositionVector,
        parked: Option<Vec<ParkedRecord>>,
    ) -> Result<Self, LogError> {
        let partitions = from.0.len();
        let mut backlog = Backlog::default();
        let mut starts = Vec::new();
        for (partition, next) in (0..).zip(&from.0) {
            backlog.add(partition, *next);
            starts.push((partition, StartAt::Offset(*next)));
        }
        log.assign(&starts)?;
        Ok(Self { log, read_model, projection, partitions, backlog, beyond: BTreeMap::new(), parked })
    }

    /// How far the read model is folded.
    pub(super) fn offsets(&self) -> PositionVector {
        let mut offsets = PositionVector::zero(self.partitions);
        self.backlog.next_offsets().into_iter().for_each(|(partition, next)| offsets.advance(partition, next));
        offsets
    }

    /// Folds everything below these offsets, and nothing from there on. The log must have all of it.
    pub(super) async fn fold_to(&mut self, end: &PositionVector) -> Result<(), FollowError> {
        let (mut reached, mut progressed_at) = (self.offsets(), Instant::now());
        while !reached.covers(end) {
            self.take_beyond(end);
            while let Some(batch) = self.backlog.shared_batch() {
                self.run(batch).await?;
            }
            let before = std::mem::replace(&mut reached, self.offsets());
            if reached != before {
                progressed_at = Instant::now();
            } else if progressed_at.elapsed() > SILENCE_MAX {
                return Err(FollowError::Silent);
            }
            if reached.covers(end) {
                break;
            }
            let read = tokio::time::timeout(POLL_INTERVAL, self.log.next_batch(RECORDS_MAX, BYTES_MAX)).await;
            for record in read.unwrap_or_else(|_| Ok(Vec::new()))? {
                self.beyond.entry(record.position.partition).or_default().push_back(record);
            }
        }
        Ok(())
    }

    /// Moves what is below these offsets to the backlog, as far as there is room.
    fn take_beyond(&mut self, end: &PositionVector) {
        let positions: BTreeMap<i32, i64> = self.log.positions().unwrap_or_default().into_iter().collect();
        for (partition, end) in (0..).zip(&end.0) {
            let waiting = self.beyond.entry(partition).or_default();
            while self.backlog.has_room(partition)
                && let Some(record) = waiting.pop_front_if(|record| record.position.offset < *end)
            {
                self.backlog.push(PendingRecord::new(record, self.partitions));
            }
            // Offsets without a record.
            match waiting.front() {
                Some(first) if first.position.offset >= *end => self.backlog.pass(partition, *end),
                Some(_) => {}
                None => {
                    let passed = positions.get(&partition).copied().unwrap_or(0);
                    self.backlog.pass(partition, passed.min(*end));
                }
            }
        }
    }

    async fn run(&mut self, batch: Batch) -> Result<(), FollowError> {
        let began = Instant::now();
        let mut run = BatchRun::new(batch.clone());
        while !run.is_committed() {
            let reply = match run.request() {
                Some(Request::Load(touched)) => Reply::Loaded(self.read_model.load(&touched).await?),
                Some(Request::Commit { state, changes, parked, advances }) => {
                    // Dead letters are those of the live generation until the swap.
                    self.read_model.commit(state, changes, &[], &advances, self.projection).await?;
                    self.parked.iter_mut().for_each(|all| all.extend_from_slice(&parked));
                    Reply::Committed
                }
                _ => break,
            };
            run.reply(reply);
        }
        self.backlog.committed(run.batch().unwrap_or(&batch), run.cost(), began.elapsed());
        Ok(())
    }
}
