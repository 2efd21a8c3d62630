//! The partitions that make no progress although there is some to make, with the reasons.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use cache::STALL_AFTER;
use domain::PositionVector;

#[derive(Default)]
struct Known {
    /// The last failure of each partition that has failed since it last made progress.
    failures: BTreeMap<i32, String>,
    /// The next offset of each partition that is behind the log's end, and since when it has stood there.
    still: BTreeMap<i32, (i64, Instant)>,
}

/// What one projector knows of its partitions that make no progress. Clones share it.
#[derive(Clone, Default)]
pub struct Stalls(Arc<Mutex<Known>>);

impl Stalls {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes why partitions make no progress.
    pub(crate) fn failed(&self, partitions: &[i32], reason: &str) {
        let mut known = self.lock();
        known.failures.extend(partitions.iter().map(|partition| (*partition, reason.to_owned())));
    }

    /// Notes that partitions have made progress.
    pub(crate) fn progressed(&self, partitions: &[i32]) {
        let mut known = self.lock();
        for partition in partitions {
            known.failures.remove(partition);
        }
    }

    /// Compares the projector's partitions, with their next offsets, with the log's end.
    pub(crate) fn observe(&self, owned: &BTreeMap<i32, i64>, end: &PositionVector, now: Instant) {
        let mut known = self.lock();
        let still = owned.iter().filter(|(partition, next)| end.next(**partition) > **next).map(|(partition, next)| {
            let before = known.still.get(partition).filter(|(before, _)| before == next);
            (*partition, (*next, before.map_or(now, |(_, since)| *since)))
        });
        known.still = still.collect();
    }

    /// The partitions that have made no progress for 10 s, with the reasons.
    pub fn get(&self) -> BTreeMap<i32, String> {
        let known = self.lock();
        let stalled = known.still.iter().filter(|(_, (_, since))| since.elapsed() > STALL_AFTER);
        stalled
            .map(|(partition, _)| {
                let reason = known.failures.get(partition).cloned();
                (*partition, reason.unwrap_or_else(|| "its batches don't end".to_owned()))
            })
            .collect()
    }
}
