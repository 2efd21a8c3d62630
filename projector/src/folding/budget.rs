//! The budget of a batch: how many rows it may read and write, so that it never takes long.

use std::time::Duration;

/// How long a batch should take at most. Longer batches would hold up other partitions, and waiting readers.
const TARGET: Duration = Duration::from_millis(250);
/// The largest budget.
const MAX_ROWS: usize = 10_000;
/// The smallest budget of batches that are only slow. What a smaller one takes doesn't depend on its rows: on a busy
/// machine, the projector would fold less and less.
const MIN_ROWS: usize = 1_000;
/// The smallest budget of batches that fail. A batch of a single record may cost more.
const MIN_ROWS_OF_FAILING: usize = 50;

domain::limit_rows! {
    Projector, "rows that a batch reads and writes, while Postgres is fast", Count MAX_ROWS, "the others come in the next batch", "readers, who wait for a batch";
}

/// How many rows a batch may read and write. Follows what Postgres manages within [`TARGET`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    rows: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { rows: MAX_ROWS }
    }
}

impl Budget {
    /// The number of rows.
    pub(super) fn rows(self) -> usize {
        self.rows
    }

    /// Adapts to a batch that cost so many rows and took so long. A small batch says nothing about large ones.
    pub(super) fn adapt(&mut self, cost: usize, took: Duration) {
        if cost * 2 < self.rows && took <= TARGET {
            return;
        }
        let affordable = cost as f64 * TARGET.as_secs_f64() / took.as_secs_f64().max(0.001);
        let (least, most) = (self.rows / 2, self.rows * 2);
        // One that has failed grows from where it is.
        let at_least = MIN_ROWS.min(most);
        self.rows = (affordable as usize).clamp(least, most).clamp(at_least, MAX_ROWS);
    }

    /// Halves it, because a batch failed.
    pub(super) fn halve(&mut self) {
        self.rows = (self.rows / 2).max(MIN_ROWS_OF_FAILING);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_batches_become_smaller_and_fast_ones_larger() {
        let mut budget = Budget::default();
        budget.adapt(10_000, TARGET * 10);
        assert_eq!(budget.rows(), 5_000, "at most by half at a time");
        budget.adapt(5_000, TARGET * 5 / 4);
        assert_eq!(budget.rows(), 4_000);
        budget.adapt(4_000, TARGET / 10);
        assert_eq!(budget.rows(), 8_000, "at most twice as large at a time");
        budget.adapt(1_000, TARGET / 10);
        assert_eq!(budget.rows(), 8_000, "a small batch says nothing");
        for _ in 0..20 {
            budget.halve();
        }
        assert_eq!(budget.rows(), MIN_ROWS_OF_FAILING);
        budget.adapt(MIN_ROWS_OF_FAILING, TARGET * 4);
        assert_eq!(budget.rows(), MIN_ROWS_OF_FAILING * 2, "it succeeded");
    }

    #[test]
    fn on_a_busy_machine_batches_keep_a_size_at_which_the_projector_catches_up() {
        let mut budget = Budget::default();
        for _ in 0..20 {
            // However few rows it has.
            budget.adapt(80, TARGET * 2);
        }
        assert_eq!(budget.rows(), MIN_ROWS);
    }
}
