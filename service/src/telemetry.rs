//! Logs and metrics.

use std::io::{IsTerminal, stderr};
use std::sync::OnceLock;
use std::time::Duration;

use clap::ValueEnum;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Upper bounds of the buckets of every histogram, in seconds: fine where answers should be, coarse where
/// they shouldn't.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// How often samples are folded into the histograms. Until then they pile up, also when nobody asks for them.
const UPKEEP: Duration = Duration::from_secs(5);

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Starts logging and counting; the second time, it does nothing.
pub fn start(filter: &str, format: LogFormat) {
    // What Postgres notices is that what should be there is there.
    let filter = EnvFilter::try_new(format!("sqlx::postgres::notice=warn,{filter}"));
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    // Colours are for a terminal, and for who wants them there.
    let colours = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(colours);
    // A process may start several services: whoever is first sets it up for all.
    let _ = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    recorder();
}

fn recorder() -> Option<&'static PrometheusHandle> {
    RECORDER.get_or_init(install).as_ref()
}

fn install() -> Option<PrometheusHandle> {
    let handle = PrometheusBuilder::new().set_buckets(&BUCKETS).ok()?.install_recorder().ok()?;
    let kept = handle.clone();
    // A thread, for there may be no runtime yet, and a test's runtime ends before the process does.
    let upkeep = std::thread::Builder::new().name("metrics-upkeep".to_owned()).spawn(move || {
        loop {
            std::thread::sleep(UPKEEP);
            kept.run_upkeep();
        }
    });
    if let Err(error) = upkeep {
        tracing::warn!(%error, "metrics have no upkeep: they take more and more memory unless they are read");
    }
    Some(handle)
}

/// Every metric in Prometheus's text format.
pub fn metrics_text() -> String {
    recorder().map(PrometheusHandle::render).unwrap_or_default()
}
