//! The progress of a command that takes long: a bar on a terminal, log lines elsewhere.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use projector::StepProgress;

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

/// Shows the progress of one step after the other.
#[derive(Default)]
pub(crate) struct StepDisplay {
    /// What the present step does, and its display.
    current: RefCell<Option<(&'static str, ProgressDisplay)>>,
}

impl StepDisplay {
    /// Shows how much of a step is done. Removes the display of the step before.
    pub(crate) fn show(&self, step: StepProgress) {
        let StepProgress { name: activity, unit, done, total } = step;
        if self.current.borrow().as_ref().is_none_or(|(current, _)| *current != activity) {
            self.finish();
            if !std::io::stderr().is_terminal() {
                tracing::info!("{activity}");
            }
            self.current.replace(ProgressDisplay::new(activity, unit).ok().map(|display| (activity, display)));
        }
        if let Some((_, display)) = &*self.current.borrow() {
            display.update(done, total);
        }
    }

    /// Removes the display of the present step.
    pub(crate) fn finish(&self) {
        if let Some((_, display)) = self.current.take() {
            display.finish();
        }
    }
}
