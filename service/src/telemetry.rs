//! Logs and metrics of a process.
//!
//! Logs go to stderr: stdout belongs to the output of commands. Nothing is pushed: Prometheus reads `/metrics`.

use std::io::{IsTerminal, stderr};
use std::sync::OnceLock;
use std::time::Duration;

use clap::ValueEnum;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::allocations;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Readable lines, for people
    #[default]
    Text,
    /// One JSON object per line, for programs
    Json,
}

/// Upper bounds of the buckets of every histogram, in seconds: fine around the expected latencies, coarse above them.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// How often the exporter moves samples into the histograms. Until then they occupy memory, even if nobody reads the
/// metrics.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Starts logging and collecting metrics. A second call does nothing.
pub fn start(filter: &str, format: LogFormat) {
    // Postgres sends a notice for each `IF NOT EXISTS` that finds its object: that isn't worth a line.
    let filter = EnvFilter::try_new(format!("sqlx::postgres::notice=warn,{filter}"));
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    // See https://no-color.org.
    let has_colours = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(has_colours);
    // Fails on a second call, such as of a test that starts two systems. The first subscriber stays.
    let _ = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    recorder();
}

fn recorder() -> Option<&'static PrometheusHandle> {
    RECORDER.get_or_init(install_recorder).as_ref()
}

fn install_recorder() -> Option<PrometheusHandle> {
    let handle = PrometheusBuilder::new().set_buckets(&BUCKETS).ok()?.install_recorder().ok()?;
    let for_upkeep = handle.clone();
    // A thread rather than a task: there may be no runtime yet, and a test's runtime ends before the process.
    let upkeep = std::thread::Builder::new().name("metrics-upkeep".to_owned()).spawn(move || {
        loop {
            std::thread::sleep(UPKEEP_INTERVAL);
            for_upkeep.run_upkeep();
        }
    });
    if let Err(error) = upkeep {
        tracing::warn!(%error, "metrics upkeep failed to start; memory grows unless somebody reads /metrics");
    }
    Some(handle)
}

/// All metrics in the text format of Prometheus.
pub fn metrics_text() -> String {
    let Some(recorder) = recorder() else { return String::new() };
    allocations::publish();
    recorder.render()
}
