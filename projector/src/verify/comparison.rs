//! Comparing a bucket of the log with the rows of the same conversations.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use domain::state::State;
use domain::{Event, Position};
use read_model::{DerivedRow, Differences, ParkedRecords, demanded_applied, demanded_rows};
use replay::{Bucket, DecodedBlock, SpillError};
use tokio::sync::mpsc;

use super::row_codec::{EncodedRow, decode, parts_of};
use crate::folding::fold;

/// The rows that the log demands, by their keys.
type DemandedRows = HashMap<Box<[u8]>, Box<[u8]>>;

/// How many threads compare at once.
const THREADS: usize = 2;

/// A bucket of the log, and the bucket of the same hashes of Postgres's rows.
type Pair = (Bucket, Bucket);

/// Compares all buckets, on several threads, and reports how many of how many are compared. Compares nothing more when it
/// is dropped.
pub(super) async fn compare_all(
    empty: Comparison,
    pairs: Vec<Pair>,
    bucket_max: u64,
    report: impl Fn(u64, u64),
) -> anyhow::Result<Comparison> {
    let total = pairs.len() as u64;
    let pairs = Arc::new(Mutex::new(pairs));
    let (sender, mut compared) = mpsc::channel(1);
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (comparison, pairs, sender) = (empty.clone(), pairs.clone(), sender.clone());
            tokio::task::spawn_blocking(move || compare_pairs(comparison, &pairs, bucket_max, &sender))
        })
        .collect();
    drop(sender);
    let mut done = 0;
    while compared.recv().await.is_some() {
        done += 1;
        report(done, total);
    }
    let mut comparison = empty;
    for thread in threads {
        comparison.merge(thread.await??);
    }
    Ok(comparison)
}

/// Takes one pair after the other and compares it, and says so. Ends when there is none left, or nobody listens.
fn compare_pairs(
    mut comparison: Comparison,
    pairs: &Mutex<Vec<Pair>>,
    bucket_max: u64,
    compared: &mpsc::Sender<()>,
) -> Result<Comparison, SpillError> {
    loop {
        let Some(pair) = pairs.lock().unwrap_or_else(PoisonError::into_inner).pop() else { return Ok(comparison) };
        comparison.compare_divided(pair, bucket_max)?;
        if compared.blocking_send(()).is_err() {
            return Ok(comparison);
        }
    }
}

/// Compares buckets, and collects what differs.
#[derive(Clone)]
pub(super) struct Comparison {
    parked: Arc<ParkedRecords>,
    /// How many partitions the topic has.
    partitions: usize,
    pub(super) differences: Differences,
    /// How many open dead letters this version can read.
    pub(super) readable_dead_letters: u64,
}

impl Comparison {
    /// Begins without differences.
    pub(super) fn new(parked: Arc<ParkedRecords>, partitions: usize) -> Self {
        Self { parked, partitions, differences: Differences::default(), readable_dead_letters: 0 }
    }

    /// Adds what another comparison has found in other buckets.
    fn merge(&mut self, other: Self) {
        self.differences.merge(other.differences);
        self.readable_dead_letters += other.readable_dead_letters;
    }

    /// Compares two buckets of the same hashes. Divides them as long as they are too large.
    fn compare_divided(&mut self, pair: Pair, bucket_max: u64) -> Result<(), SpillError> {
        let mut open = vec![pair];
        while let Some((log, stored)) = open.pop() {
            let is_large = log.bytes() + stored.bytes() > bucket_max;
            if is_large && (log.is_divisible() || stored.is_divisible()) {
                open.extend(log.divide()?.into_iter().zip(stored.divide()?));
            } else {
                self.compare(log, stored)?;
            }
        }
        Ok(())
    }

    /// Compares a bucket of the log with the bucket of the same hashes of Postgres's rows.
    fn compare(&mut self, log: Bucket, mut stored: Bucket) -> Result<(), SpillError> {
        let mut demanded = self.demanded(log)?;
        let mut conversations = HashSet::new();
        while let Some(block) = stored.next_block()? {
            for entry in block.entries() {
                if let Some(row) = self.compare_row(entry.bytes, &mut demanded) {
                    conversations.insert(row.values.into_iter().next());
                }
            }
        }
        let mut missing: Vec<_> = demanded.into_iter().collect();
        missing.sort_unstable();
        for row in missing.iter().filter_map(|(key, values)| decode(key, values)) {
            self.differences.add_missing(&row);
            conversations.insert(row.values.into_iter().next());
        }
        self.differences.conversations += conversations.len() as u64;
        Ok(())
    }

    /// Folds a bucket of the log.
    fn demanded(&mut self, mut log: Bucket) -> Result<DemandedRows, SpillError> {
        let mut state = State::default();
        let mut demanded = DemandedRows::new();
        let mut add = |row: &DerivedRow| {
            let EncodedRow { key, values } = EncodedRow::new(row);
            demanded.insert(key, values);
        };
        while let Some(block) = log.next_block()? {
            let DecodedBlock { mut events, undecodable } = DecodedBlock::of(&block, self.partitions);
            for (position, reason) in undecodable {
                if !self.parked.contains(position) {
                    self.differences.add_not_parked(position, reason);
                }
            }
            self.readable_dead_letters += events.iter().filter(|(it, _)| self.parked.is_open(*it)).count() as u64;
            events.retain(|(position, _)| self.parked.includes(*position));
            let changes =
                fold(events.iter().map(|(position, event): &(Position, Event)| (*position, event)), &mut state);
            changes.applied.iter().for_each(|applied| add(&demanded_applied(applied).to_derived()));
        }
        demanded_rows(&state).for_each(|row| add(&row.to_derived()));
        Ok(demanded)
    }

    /// Compares a row of Postgres, and takes it from those that the log demands. Returns the row if it differs.
    fn compare_row(&mut self, entry: &[u8], demanded: &mut DemandedRows) -> Option<DerivedRow> {
        let (key, values) = parts_of(entry)?;
        let demanded_values = demanded.remove(key);
        if demanded_values.as_deref() == Some(values) {
            return None;
        }
        let stored = decode(key, values)?;
        match demanded_values.and_then(|demanded| decode(key, &demanded)) {
            Some(demanded) => self.differences.add_changed(&demanded, &stored),
            None => self.differences.add_added(&stored),
        }
        Some(stored)
    }
}
