//! Collects measurements and failures, and prints them.

use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};

use crate::schedule::Schedule;

/// A latency above this counts as this, in microseconds.
const MAX_LATENCY_US: u64 = 60_000_000;
/// The interval between two log lines when no terminal shows the progress bar.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Records latencies: the time from when a message was due until something happened to it.
pub(crate) struct LatencyRecorder {
    schedule: Schedule,
    recorded: AtomicU64,
    micros: Mutex<Histogram<u64>>,
}

impl LatencyRecorder {
    pub(crate) fn new(schedule: Schedule) -> Self {
        Self { schedule, recorded: AtomicU64::new(0), micros: Mutex::new(empty_histogram()) }
    }

    /// Records that it happened now to the message with this number.
    pub(crate) fn record(&self, number: u64) {
        if let Some(latency) = self.schedule.since_due(number) {
            let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
            self.micros.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
        }
        self.recorded.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of calls to [`Self::record`], including the warm-up.
    pub(crate) fn recorded(&self) -> u64 {
        self.recorded.load(Ordering::Relaxed)
    }

    /// Takes the latencies, in microseconds, without the warm-up.
    pub(crate) fn take(&self) -> Histogram<u64> {
        std::mem::replace(&mut self.micros.lock().unwrap_or_else(PoisonError::into_inner), empty_histogram())
    }
}

fn empty_histogram() -> Histogram<u64> {
    // The bounds are constants that it accepts.
    Histogram::new_with_bounds(1, MAX_LATENCY_US, 3).unwrap_or_else(|_| unreachable!("1 < {MAX_LATENCY_US}"))
}

/// The latencies of one open loop, in microseconds.
pub(crate) struct Latencies {
    /// Until the response or the acknowledgement.
    pub(crate) responses: Histogram<u64>,
    /// Until a receiver had the message.
    pub(crate) frames: Histogram<u64>,
}

/// Events a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    /// By the projector.
    pub(crate) folded: f64,
    /// By plain inserts of the same rows.
    pub(crate) inserted: f64,
}

/// The failures of a run: how often each happened.
#[derive(Default)]
pub(crate) struct Failures(Mutex<BTreeMap<String, u64>>);

impl Failures {
    /// Counts a failure; with 0 it does nothing.
    pub(crate) fn add(&self, failure: impl Into<String>, count: u64) {
        if count > 0 {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(failure.into()).or_default() += count;
        }
    }

    fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A progress bar on a terminal, log lines elsewhere.
pub(crate) struct Progress {
    label: &'static str,
    count: u64,
    bar: ProgressBar,
    last_logged: Mutex<Instant>,
}

impl Progress {
    pub(crate) fn new(label: &'static str, count: u64) -> anyhow::Result<Self> {
        // The bar hides itself without a terminal.
        let style = ProgressStyle::with_template("{msg:26} {bar:40} {human_pos}/{human_len}")?;
        let bar = ProgressBar::new(count).with_style(style).with_message(label);
        if !std::io::stderr().is_terminal() {
            tracing::info!(count, "{label}");
        }
        Ok(Self { label, count, bar, last_logged: Mutex::new(Instant::now()) })
    }

    pub(crate) fn update(&self, done: u64) {
        self.bar.set_position(done);
        let mut last_logged = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::io::stderr().is_terminal() && last_logged.elapsed() >= LOG_INTERVAL {
            *last_logged = Instant::now();
            tracing::info!(done, count = self.count, "{}", self.label);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The results of a run.
pub(crate) struct Report {
    /// Of Kafka alone.
    pub(crate) baseline: Latencies,
    pub(crate) messages: Latencies,
    pub(crate) rates: Rates,
    pub(crate) failures: Arc<Failures>,
}

impl Report {
    pub(crate) fn has_failures(&self) -> bool {
        !self.failures.all().is_empty()
    }
}

fn milliseconds(micros: u64) -> String {
    format!("{:.2} ms", Duration::from_micros(micros).as_secs_f64() * 1_000.0)
}

fn write_latencies(
    f: &mut fmt::Formatter<'_>,
    row: &str,
    messages: &Histogram<u64>,
    baseline: &Histogram<u64>,
) -> fmt::Result {
    let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|quantile| milliseconds(messages.value_at_quantile(quantile)));
    let (median, baseline_median) = (messages.value_at_quantile(0.5), baseline.value_at_quantile(0.5));
    let ratio = median as f64 / baseline_median.max(1) as f64;
    writeln!(f, "{row:<16} {p50:>12} {p95:>12} {p99:>12} {:>14} {ratio:>7.2}", milliseconds(baseline_median))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<16} {:>12} {:>12} {:>12} {:>14} {:>7}", "", "p50", "p95", "p99", "raw p50", "ratio")?;
        write_latencies(f, "send to answer", &self.messages.responses, &self.baseline.responses)?;
        write_latencies(f, "send to frame", &self.messages.frames, &self.baseline.frames)?;
        let Rates { folded, inserted } = self.rates;
        let [messages, baseline] = [folded, inserted].map(|rate| format!("{rate:.0}/s"));
        let ratio = folded / inserted;
        writeln!(f, "{:<16} {messages:>12} {:>12} {:>12} {baseline:>14} {ratio:>7.2}", "projector", "", "")?;
        for (failure, count) in self.failures.all() {
            writeln!(f, "✗ {failure}: {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(micros: u64) -> Latencies {
        let mut histogram = empty_histogram();
        histogram.record(micros).unwrap();
        Latencies { responses: histogram.clone(), frames: histogram }
    }

    #[test]
    fn a_report_shows_each_figure_next_to_its_baseline_and_every_failure() {
        let failures = Arc::new(Failures::default());
        let rates = Rates { folded: 50_000.0, inserted: 100_000.0 };
        let report = Report { baseline: latencies(500), messages: latencies(1_500), rates, failures: failures.clone() };
        assert!(!report.has_failures());
        failures.add("a response with status 503", 2);
        failures.add("frames that never arrived", 0);
        assert!(report.has_failures());
        let shown = report.to_string();
        let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["send", "to", "answer", "1.50", "ms", "1.50", "ms", "1.50", "ms", "0.50", "ms", "3.00"]);
        assert_eq!(rows[3], ["projector", "50000/s", "100000/s", "0.50"]);
        assert_eq!(rows[4..], [["✗", "a", "response", "with", "status", "503:", "2"]]);
    }
}
