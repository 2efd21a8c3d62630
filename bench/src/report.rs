//! What was measured, and how it is shown.

use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};

use crate::pace::Pace;

/// The longest time that is told apart from longer ones, in microseconds.
const LONGEST_US: u64 = 60_000_000;
/// How often a line is logged where there is no terminal.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// Times from when something was due until it happened.
pub(crate) struct Latencies {
    pace: Pace,
    seen: AtomicU64,
    micros: Mutex<Histogram<u64>>,
}

impl Latencies {
    pub(crate) fn new(pace: Pace) -> Self {
        Self { pace, seen: AtomicU64::new(0), micros: Mutex::new(micros()) }
    }

    /// It happened now.
    pub(crate) fn note(&self, number: u64) {
        if let Some(latency) = self.pace.since_due(number) {
            let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
            self.micros.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
        }
        self.seen.fetch_add(1, Ordering::Relaxed);
    }

    /// How often something happened, with what warmed up.
    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// The times, in microseconds.
    pub(crate) fn take(&self) -> Histogram<u64> {
        std::mem::replace(&mut self.micros.lock().unwrap_or_else(PoisonError::into_inner), micros())
    }
}

fn micros() -> Histogram<u64> {
    // The bounds are constants that it accepts.
    Histogram::new_with_bounds(1, LONGEST_US, 3).unwrap_or_else(|_| unreachable!("1 < {LONGEST_US}"))
}

/// The times of one open loop, in microseconds.
pub(crate) struct Measured {
    /// Until it was answered or acknowledged.
    pub(crate) answers: Histogram<u64>,
    /// Until it was at a receiver.
    pub(crate) frames: Histogram<u64>,
}

/// How many a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) folded: f64,
    pub(crate) inserted: f64,
}

/// What went wrong, and how often.
#[derive(Default)]
pub(crate) struct Faults(Mutex<BTreeMap<String, u64>>);

impl Faults {
    /// Counts what went wrong; not at all if it never did.
    pub(crate) fn add(&self, what: impl Into<String>, times: u64) {
        if times > 0 {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(what.into()).or_default() += times;
        }
    }

    fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A bar on a terminal, log lines elsewhere.
pub(crate) struct Progress {
    what: &'static str,
    count: u64,
    bar: ProgressBar,
    logged: Mutex<Instant>,
}

impl Progress {
    pub(crate) fn new(what: &'static str, count: u64) -> anyhow::Result<Self> {
        // Hidden by itself where there is no terminal.
        let style = ProgressStyle::with_template("{msg:26} {bar:40} {human_pos}/{human_len}")?;
        let bar = ProgressBar::new(count).with_style(style).with_message(what);
        if !std::io::stderr().is_terminal() {
            tracing::info!(count, "{what}");
        }
        Ok(Self { what, count, bar, logged: Mutex::new(Instant::now()) })
    }

    pub(crate) fn show(&self, done: u64) {
        self.bar.set_position(done);
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::io::stderr().is_terminal() && logged.elapsed() >= LOG_EVERY {
            *logged = Instant::now();
            tracing::info!(done, count = self.count, "{}", self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Everything that a run measured.
pub(crate) struct Report {
    pub(crate) raw: Measured,
    pub(crate) sent: Measured,
    pub(crate) rates: Rates,
    pub(crate) faults: Arc<Faults>,
}

impl Report {
    /// Whether nothing went wrong.
    pub(crate) fn is_good(&self) -> bool {
        self.faults.all().is_empty()
    }
}

fn milliseconds(micros: u64) -> String {
    format!("{:.2} ms", Duration::from_micros(micros).as_secs_f64() * 1_000.0)
}

fn latencies(f: &mut fmt::Formatter<'_>, row: &str, ours: &Histogram<u64>, raw: &Histogram<u64>) -> fmt::Result {
    let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|quantile| milliseconds(ours.value_at_quantile(quantile)));
    let (median, raw_median) = (ours.value_at_quantile(0.5), raw.value_at_quantile(0.5));
    let ratio = median as f64 / raw_median.max(1) as f64;
    writeln!(f, "{row:<16} {p50:>12} {p95:>12} {p99:>12} {:>14} {ratio:>7.2}", milliseconds(raw_median))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<16} {:>12} {:>12} {:>12} {:>14} {:>7}", "", "p50", "p95", "p99", "raw p50", "ratio")?;
        latencies(f, "send to answer", &self.sent.answers, &self.raw.answers)?;
        latencies(f, "send to frame", &self.sent.frames, &self.raw.frames)?;
        let Rates { folded, inserted } = self.rates;
        let [ours, raw] = [folded, inserted].map(|rate| format!("{rate:.0}/s"));
        writeln!(f, "{:<16} {ours:>12} {:>12} {:>12} {raw:>14} {:>7.2}", "projector", "", "", folded / inserted)?;
        for (what, times) in self.faults.all() {
            writeln!(f, "✗ {what}: {times}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(micros: u64) -> Measured {
        let mut times = super::micros();
        times.record(micros).unwrap();
        Measured { answers: times.clone(), frames: times }
    }

    #[test]
    fn a_report_shows_each_figure_beside_its_raw_one_and_every_fault() {
        let faults = Arc::new(Faults::default());
        let rates = Rates { folded: 50_000.0, inserted: 100_000.0 };
        let report = Report { raw: measured(500), sent: measured(1_500), rates, faults: faults.clone() };
        assert!(report.is_good());
        faults.add("an answer 503", 2);
        faults.add("a frame that never came", 0);
        assert!(!report.is_good());
        let shown = report.to_string();
        let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["send", "to", "answer", "1.50", "ms", "1.50", "ms", "1.50", "ms", "0.50", "ms", "3.00"]);
        assert_eq!(rows[3], ["projector", "50000/s", "100000/s", "0.50"]);
        assert_eq!(rows[4..], [["✗", "an", "answer", "503:", "2"]]);
    }
}
