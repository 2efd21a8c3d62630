//! The partitions that make no progress although there is some to make, with the reasons.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cache::STALL_AFTER;
use domain::PositionVector;

#[derive(Default)]
struct Known {
    /// The last failure of each partition that has failed since it last made progress.
    failures: BTreeMap<i32, String>,
    /// The next offset of each partition that is behind the log's end, and since when it has stood there.
    still: BTreeMap<i32, (i64, Instant)>,
    /// The partitions that an open transaction holds, with the first offset that nobody can read.
    held: BTreeMap<i32, i64>,
}

impl Known {
    fn stalled(&self) -> impl Iterator<Item = (i32, i64)> {
        let stalled = self.still.iter().filter(|(_, (_, since))| since.elapsed() > STALL_AFTER);
        stalled.map(|(partition, (next, _))| (*partition, *next))
    }
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

    /// Whether a partition has made no progress for so long.
    pub(crate) fn stand_still_for(&self, time: Duration) -> bool {
        self.lock().still.values().any(|(_, since)| since.elapsed() > time)
    }

    /// Notes which partitions an open transaction holds, and from which offsets on.
    pub(crate) fn hold(&self, held: BTreeMap<i32, i64>) {
        self.lock().held = held;
    }

    /// The partitions that have made no progress for 10 s, with the reasons.
    pub fn get(&self) -> BTreeMap<i32, String> {
        let known = self.lock();
        let reason = |(partition, next): (i32, i64)| {
            // The projector has folded everything that it can read.
            let held = known.held.get(&partition).filter(|from| **from <= next).map(|from| held_reason(*from));
            let reason = held.or_else(|| known.failures.get(&partition).cloned());
            (partition, reason.unwrap_or_else(|| format!("its batches don't end; the next offset is {next}")))
        };
        known.stalled().map(reason).collect()
    }

    /// The next offsets of the partitions that have made no progress for 10 s.
    pub(crate) fn next_offsets(&self) -> BTreeMap<i32, i64> {
        self.lock().stalled().collect()
    }
}

/// Why nobody can read a partition from an offset on.
pub fn held_reason(from: i64) -> String {
    format!("an open transaction of another producer holds the records from offset {from} on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stalled_partition_is_named_with_the_offset_that_holds_it() {
        let began = Instant::now().checked_sub(STALL_AFTER * 2).unwrap();
        let stalls = Stalls::default();
        stalls.observe(&BTreeMap::from([(0, 5), (1, 7), (2, 9)]), &PositionVector(vec![6, 8, 9]), began);
        stalls.hold(BTreeMap::from([(0, 5), (1, 8)]));

        let named = stalls.get();
        assert_eq!(named.keys().copied().collect::<Vec<_>>(), [0, 1], "the third has nothing to do");
        assert_eq!(named[&0], held_reason(5));
        assert!(named[&1].contains("offset is 7"), "the transaction begins later: {}", named[&1]);
    }
}
