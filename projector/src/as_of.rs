//! When partitions will have folded the end of the log as it was at some time.

use std::collections::BTreeMap;

use cache::AsOf;

use crate::lag::LogEnd;

/// The as-ofs that the projector works towards, one for each partition.
#[derive(Default)]
pub(crate) struct PendingAsOfs(BTreeMap<i32, AsOf>);

impl PendingAsOfs {
    /// Works towards the end of the log that somebody has just asked for, on the partitions that have reached the one
    /// before.
    pub(crate) fn observe(&mut self, owned: &BTreeMap<i32, i64>, seen: &LogEnd) {
        self.0.retain(|partition, _| owned.contains_key(partition));
        let Some(at_ms) = seen.asked_at_ms else { return };
        for partition in owned.keys().copied() {
            self.0.entry(partition).or_insert(AsOf { partition, end: seen.end.next(partition), at_ms });
        }
    }

    /// Takes the as-ofs that these next offsets have reached.
    pub(crate) fn take_reached(&mut self, owned: &BTreeMap<i32, i64>) -> Vec<AsOf> {
        let has_reached = |as_of: &AsOf| owned.get(&as_of.partition).is_some_and(|next| *next >= as_of.end);
        let reached: Vec<AsOf> = self.0.values().copied().filter(has_reached).collect();
        for as_of in &reached {
            self.0.remove(&as_of.partition);
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use domain::PositionVector;

    use super::*;

    #[test]
    fn a_partition_is_as_fresh_as_the_end_that_it_has_reached() {
        let owned = |next| BTreeMap::from([(0, next)]);
        let seen = |end, at_ms| LogEnd { end: PositionVector(vec![end]), asked_at_ms: Some(at_ms) };
        let mut pending = PendingAsOfs::default();
        pending.observe(&owned(5), &seen(7, 100));
        assert_eq!(pending.take_reached(&owned(6)), []);
        pending.observe(&owned(6), &seen(9, 200));
        assert_eq!(pending.take_reached(&owned(8)), [AsOf { partition: 0, end: 7, at_ms: 100 }], "not yet as of 200");
        pending.observe(&owned(9), &seen(9, 300));
        assert_eq!(pending.take_reached(&owned(9)), [AsOf { partition: 0, end: 9, at_ms: 300 }]);
        pending.observe(&BTreeMap::new(), &seen(9, 400));
        assert_eq!(pending.take_reached(&owned(9)), [], "it no longer owns the partition");
    }
}
