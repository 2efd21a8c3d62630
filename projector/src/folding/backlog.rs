//! The backlog: the records that have been read and not yet committed, and which of them make up the next batch.
//!
//! Healthy partitions share one batch at a time, in fair turns. A partition whose batch failed is *set apart*: it gets
//! batches of its own, smaller ones, after a growing pause, until one succeeds. So a partition that stands still, or
//! costs much, doesn't hold up the others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::{Batch, Lane, Part};
use super::budget::Budget;
use super::pending_record::PendingRecord;

/// The largest number of records in a batch.
const MAX_RECORDS: usize = 2_000;
/// The largest number of bytes of values in a batch.
const MAX_BYTES: usize = 8 << 20;
/// How many bytes of values may wait here. A partition that has its share gets no more for now.
pub(super) const MAX_WAITING_BYTES: usize = 64 << 20;
/// The largest share of a partition.
const MAX_SHARE_BYTES: usize = 4 << 20;
/// A partition with this many records here gets no more for now.
const MAX_WAITING_RECORDS: usize = 4_000;
/// How many batches of partitions that are set apart may run at a time. Each needs a connection to Postgres.
const MAX_APART: usize = 3;
/// The pause before the second attempt of a partition that is set apart. Each later pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest of these pauses.
const MAX_PAUSE: Duration = Duration::from_secs(1);

domain::limit_rows! {
    Projector, "records of a batch", Count MAX_RECORDS, "the others come in the next batch", "readers, who wait for a batch";
    Projector, "bytes of a batch's records", Bytes MAX_BYTES, "the others come in the next batch", "memory";
    Projector, "partitions whose batches failed that are tried at a time", Count MAX_APART, "the others wait for their turn", "the healthy partitions";
    Memory, "records that wait in a projector", Bytes MAX_WAITING_BYTES, "the projector reads no more for now", "memory";
    Memory, "of them, those of one partition", Bytes MAX_SHARE_BYTES, "the projector reads no more of the partition for now", "the other partitions";
    Memory, "records of one partition that wait in a projector", Count MAX_WAITING_RECORDS, "the projector reads no more of the partition for now", "memory";
}

/// Why a batch came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setback {
    /// Postgres didn't manage it in time, or refused it. A smaller batch may succeed.
    Failed,
    /// Somebody holds the rows of these of its partitions. The others can go on.
    Held(Vec<i32>),
}

#[derive(Debug, Default)]
struct Queue {
    /// The next offset in the read model.
    next: i64,
    /// The next offset to read: everything below is in `entries`, in the read model, or has no record.
    read_next: i64,
    entries: VecDeque<Arc<PendingRecord>>,
    bytes: usize,
    /// Whether a batch of it runs.
    is_busy: bool,
    apart: Option<Apart>,
}

/// The state of a partition that is set apart.
#[derive(Debug)]
struct Apart {
    budget: Budget,
    retry_at: Instant,
    pause: Duration,
}

impl Queue {
    fn has_work(&self) -> bool {
        !self.is_busy && self.next < self.read_next
    }

    /// The part of the next batch, without records yet.
    fn part(&self, partition: i32) -> Part {
        Part { partition, from: self.next, to: self.next, entries: Vec::new() }
    }
}

/// The records that wait to be folded.
#[derive(Debug, Default)]
pub struct Backlog {
    queues: BTreeMap<i32, Queue>,
    /// Of the batches that healthy partitions share.
    budget: Budget,
    is_shared_batch_running: bool,
    /// The partition that comes first in the next batch.
    turn: i32,
}

impl Backlog {
    /// Begins to work on a partition whose next offset in the read model is this.
    pub fn add(&mut self, partition: i32, next: i64) {
        self.queues.insert(partition, Queue { next, read_next: next, ..Queue::default() });
    }

    /// Forgets a partition. A batch of it that runs may still succeed.
    pub fn remove(&mut self, partition: i32) {
        self.queues.remove(&partition);
    }

    /// The next offset in the read model, by partition.
    pub fn next_offsets(&self) -> BTreeMap<i32, i64> {
        self.queues.iter().map(|(partition, queue)| (*partition, queue.next)).collect()
    }

    /// The next offset to read, by partition.
    pub fn read_offsets(&self) -> BTreeMap<i32, i64> {
        self.queues.iter().map(|(partition, queue)| (*partition, queue.read_next)).collect()
    }

    /// Whether a batch of the partition runs.
    pub fn is_busy(&self, partition: i32) -> bool {
        self.queues.get(&partition).is_some_and(|queue| queue.is_busy)
    }

    /// Keeps a partition out of batches until it is released. False if a batch of it runs, or it isn't here.
    pub fn reserve(&mut self, partition: i32) -> bool {
        let Some(queue) = self.queues.get_mut(&partition).filter(|queue| !queue.is_busy) else { return false };
        queue.is_busy = true;
        true
    }

    /// Lets a reserved partition into batches again.
    pub fn release(&mut self, partition: i32) {
        if let Some(queue) = self.queues.get_mut(&partition) {
            queue.is_busy = false;
        }
    }

    /// Whether there is room for more records of a partition.
    pub fn has_room(&self, partition: i32) -> bool {
        let share = MAX_SHARE_BYTES.min(MAX_WAITING_BYTES / self.queues.len().max(1));
        let has_room = |queue: &Queue| queue.bytes < share && queue.entries.len() < MAX_WAITING_RECORDS;
        self.queues.get(&partition).is_some_and(has_room)
    }

    /// Takes a record that was read. Skips one that it has already, or of a partition that it doesn't work on.
    pub fn push(&mut self, entry: PendingRecord) {
        let Some(queue) = self.queues.get_mut(&entry.position.partition) else { return };
        if entry.position.offset >= queue.read_next {
            queue.read_next = entry.position.offset + 1;
            queue.bytes += entry.bytes;
            queue.entries.push_back(Arc::new(entry));
        }
    }

    /// Notes that a partition has no record that wasn't pushed below this offset: offsets are ordered, not gapless, and
    /// the end of a transaction takes one, too. Otherwise a reader that waits for the end of the log would wait in vain.
    pub fn pass(&mut self, partition: i32, read_next: i64) {
        if let Some(queue) = self.queues.get_mut(&partition) {
            queue.read_next = queue.read_next.max(read_next);
        }
    }

    /// The next batch of the healthy partitions; none while one runs, or without records. The caller runs it and then
    /// reports how it ended.
    pub fn shared_batch(&mut self) -> Option<Batch> {
        if self.is_shared_batch_running {
            return None;
        }
        let ready = |queue: &Queue| queue.apart.is_none() && queue.has_work();
        let after = self.queues.range(self.turn..).filter(|(_, queue)| ready(queue)).map(|(partition, _)| *partition);
        let before = self.queues.range(..self.turn).filter(|(_, queue)| ready(queue)).map(|(partition, _)| *partition);
        let partitions: Vec<i32> = after.chain(before).collect();
        let first = *partitions.first()?;
        self.turn = first + 1;
        self.is_shared_batch_running = true;
        Some(self.batch_of(&partitions, Lane::Shared, self.budget))
    }

    /// The next batch of a partition that is set apart and whose pause is over.
    pub fn apart_batch(&mut self, now: Instant) -> Option<Batch> {
        let apart = |queue: &&Queue| queue.apart.is_some();
        if self.queues.values().filter(apart).filter(|queue| queue.is_busy).count() >= MAX_APART {
            return None;
        }
        let due = self.queues.iter().filter_map(|(partition, queue)| {
            let apart = queue.apart.as_ref().filter(|apart| queue.has_work() && apart.retry_at <= now)?;
            Some((apart.retry_at, *partition, apart.budget))
        });
        let (_, partition, budget) = due.min_by_key(|(retry_at, partition, _)| (*retry_at, *partition))?;
        Some(self.batch_of(&[partition], Lane::Apart, budget))
    }

    /// When the next pause of a partition that is set apart ends.
    pub fn next_retry(&self) -> Option<Instant> {
        let waiting = self.queues.values().filter(|queue| queue.has_work());
        waiting.filter_map(|queue| queue.apart.as_ref().map(|apart| apart.retry_at)).min()
    }

    /// Whether the next batch of the healthy partitions would have records.
    pub fn has_ready_records(&self) -> bool {
        self.queues.values().any(|queue| queue.apart.is_none() && queue.has_work())
    }

    /// Takes records of these partitions in turns, until the budget is spent.
    fn batch_of(&mut self, partitions: &[i32], lane: Lane, budget: Budget) -> Batch {
        let mut parts: Vec<Part> = Vec::with_capacity(partitions.len());
        parts.extend(partitions.iter().filter_map(|partition| Some(self.queues.get(partition)?.part(*partition))));
        let (mut cost, mut bytes, mut records) = (0, 0, 0);
        let mut is_open = vec![true; parts.len()];
        while is_open.contains(&true) {
            for (part, is_open) in parts.iter_mut().zip(&mut is_open).filter(|(_, is_open)| **is_open) {
                let next = self.queues.get(&part.partition).and_then(|queue| queue.entries.get(part.entries.len()));
                let fits = |entry: &&Arc<PendingRecord>| {
                    records == 0
                        || (cost + entry.cost() <= budget.rows()
                            && bytes + entry.bytes <= MAX_BYTES
                            && records < MAX_RECORDS)
                };
                let Some(entry) = next.filter(fits) else {
                    *is_open = false;
                    continue;
                };
                (cost, bytes, records) = (cost + entry.cost(), bytes + entry.bytes, records + 1);
                part.to = entry.position.offset + 1;
                part.entries.push(entry.clone());
            }
        }
        for part in &mut parts {
            if let Some(queue) = self.queues.get(&part.partition).filter(|it| it.entries.len() == part.entries.len()) {
                part.to = queue.read_next;
            }
        }
        // Nothing of the others fits.
        parts.retain(|part| part.from < part.to);
        for part in &parts {
            if let Some(queue) = self.queues.get_mut(&part.partition) {
                queue.is_busy = true;
            }
        }
        let partitions = parts.iter().map(|part| part.partition).collect();
        Batch { parts, partitions, lane, rows: budget.rows() }
    }

    /// Reports that a batch was committed, which cost so many rows and took so long. What was trimmed off comes in the
    /// next batch.
    pub fn committed(&mut self, batch: &Batch, cost: usize, took: Duration) {
        self.end(batch);
        if batch.lane == Lane::Shared {
            self.budget.adapt(cost, took);
        }
        for part in &batch.parts {
            let Some(queue) = self.queues.get_mut(&part.partition).filter(|queue| queue.next == part.from) else {
                continue;
            };
            queue.next = part.to;
            queue.apart = None;
            while queue.entries.front().is_some_and(|entry| entry.position.offset < part.to) {
                queue.bytes -= queue.entries.pop_front().map_or(0, |entry| entry.bytes);
            }
        }
        self.report_size();
    }

    /// Reports that a batch was not committed.
    pub fn set_back(&mut self, batch: &Batch, setback: &Setback, now: Instant) {
        self.end(batch);
        let affected = match setback {
            Setback::Held(partitions) => partitions,
            Setback::Failed => &batch.partitions,
        };
        if batch.lane == Lane::Shared && *setback == Setback::Failed {
            self.budget.halve();
        }
        for partition in affected {
            let Some(queue) = self.queues.get_mut(partition) else { continue };
            queue.apart = Some(match queue.apart.take() {
                None => Apart { budget: self.budget, retry_at: now, pause: FIRST_PAUSE },
                Some(Apart { mut budget, pause, .. }) => {
                    budget.halve();
                    Apart { budget, retry_at: now + pause, pause: (pause * 2).min(MAX_PAUSE) }
                }
            });
        }
        self.report_size();
    }

    fn end(&mut self, batch: &Batch) {
        if batch.lane == Lane::Shared {
            self.is_shared_batch_running = false;
        }
        for partition in &batch.partitions {
            self.release(*partition);
        }
    }

    fn report_size(&self) {
        let records: usize = self.queues.values().map(|queue| queue.entries.len()).sum();
        let bytes: usize = self.queues.values().map(|queue| queue.bytes).sum();
        metrics::gauge!("projector_backlog_records").set(records as f64);
        metrics::gauge!("projector_backlog_bytes").set(bytes as f64);
    }
}
