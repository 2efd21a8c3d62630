//! Shows how far a measurement is: a progress bar on a terminal, log lines elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The interval between two log lines when no terminal shows the progress bar.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// The progress of one measurement. The bar disappears on drop.
pub(crate) struct Progress {
    label: String,
    count: u64,
    bar: ProgressBar,
    is_terminal: bool,
    last_logged: Mutex<Instant>,
}

impl Progress {
    pub(crate) fn new(label: impl Into<String>, count: u64) -> anyhow::Result<Self> {
        let label = label.into();
        // The bar hides itself without a terminal.
        let style = ProgressStyle::with_template("{msg:44} {bar:30} {human_pos}/{human_len}")?;
        let bar = ProgressBar::new(count).with_style(style).with_message(label.clone());
        let is_terminal = std::io::stderr().is_terminal();
        if !is_terminal {
            tracing::info!(count, "{label}");
        }
        Ok(Self { label, count, bar, is_terminal, last_logged: Mutex::new(Instant::now()) })
    }

    pub(crate) fn update(&self, done: u64) {
        self.bar.set_position(done);
        let mut last_logged = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_terminal && last_logged.elapsed() >= LOG_INTERVAL {
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
