//! The progress of a command that takes long: a bar on a terminal, log lines elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The interval between two log lines when no terminal shows the progress bar.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Shows how much of a command's work is done, until [`Self::finish`].
pub(crate) struct ProgressDisplay {
    bar: ProgressBar,
    /// What the command does, as its log lines say it.
    activity: &'static str,
    last_logged: Mutex<Instant>,
}

impl ProgressDisplay {
    /// A display of work that is counted in these units.
    ///
    /// # Errors
    /// When the unit can't be part of a template.
    pub(crate) fn new(activity: &'static str, unit: &str) -> anyhow::Result<Self> {
        // The bar hides itself without a terminal.
        let template = format!("{{bar:40}} {{human_pos}}/{{human_len}} {unit} · {{per_sec}} · {{eta}} left");
        let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(&template)?);
        Ok(Self { bar, activity, last_logged: Mutex::new(Instant::now()) })
    }

    pub(crate) fn update(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        let mut last_logged = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::io::stderr().is_terminal() && last_logged.elapsed() >= LOG_INTERVAL {
            *last_logged = Instant::now();
            tracing::info!(done, total, "{}", self.activity);
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
