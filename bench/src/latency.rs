//! Latencies: the time from when a message was due until something happened to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::schedule::Schedule;

/// A latency above this counts as this, in microseconds.
const MAX_LATENCY_US: u64 = 60_000_000;

/// A distribution of latencies, exact to a thousandth.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        // The bounds are constants that it accepts.
        Self(Histogram::new_with_bounds(1, MAX_LATENCY_US, 3).unwrap_or_else(|_| unreachable!("1 < {MAX_LATENCY_US}")))
    }
}

impl Latencies {
    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds the latencies of another slice of the same measurement.
    pub(crate) fn add(&mut self, other: &Self) {
        // All have the same bounds.
        let _ = self.0.add(&other.0);
    }

    /// How many latencies there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that this share of all doesn't exceed, in milliseconds; none without latencies.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        (self.count() > 0).then(|| self.0.value_at_quantile(quantile) as f64 / 1_000.0)
    }
}

/// Records the latencies of the messages of one schedule.
pub(crate) struct LatencyRecorder {
    schedule: Schedule,
    recorded: AtomicU64,
    latencies: Mutex<Latencies>,
}

impl LatencyRecorder {
    pub(crate) fn new(schedule: Schedule) -> Self {
        Self { schedule, recorded: AtomicU64::new(0), latencies: Mutex::default() }
    }

    /// Records that it happened now to the message with this number.
    pub(crate) fn record(&self, number: u64) {
        if let Some(latency) = self.schedule.since_due(number) {
            self.latencies.lock().unwrap_or_else(PoisonError::into_inner).record(latency);
        }
        if self.schedule.numbers().contains(&number) {
            self.recorded.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often it has happened to a message of the schedule, including the warm-up.
    pub(crate) fn recorded(&self) -> u64 {
        self.recorded.load(Ordering::Relaxed)
    }

    /// Takes the latencies without the warm-up.
    pub(crate) fn take(&self) -> Latencies {
        std::mem::take(&mut self.latencies.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_all_slices_together() {
        let (mut one, mut other) = (Latencies::default(), Latencies::default());
        assert_eq!(one.quantile_ms(0.5), None);
        for millis in 1..=50 {
            one.record(Duration::from_millis(millis));
            other.record(Duration::from_millis(50 + millis));
        }
        one.add(&other);
        for (quantile, millis) in [(0.5, 50.0), (0.95, 95.0), (0.99, 99.0)] {
            let measured = one.quantile_ms(quantile).unwrap();
            assert!((measured - millis).abs() < 0.1, "{quantile}: {measured}");
        }
    }

    #[test]
    fn a_latency_beyond_the_largest_counts_as_the_largest() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::from_secs(3_600));
        assert!(latencies.quantile_ms(1.0).unwrap() >= 60_000.0);
    }
}
