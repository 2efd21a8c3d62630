//! Logs and metrics of a process.
//!
//! Logs go to stderr: stdout belongs to the output of commands. Nothing is pushed: Prometheus reads `/metrics`.

use std::fmt::Debug;
use std::io::{IsTerminal, stderr};
use std::sync::OnceLock;
use std::time::Duration;

use clap::ValueEnum;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing::field::Field;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

use crate::allocations;
use crate::printable::{EscapedJsonLines, escaped};

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
    let filter = parse_filter(&format!("sqlx::postgres::notice=warn,{filter}"));
    let filter = filter.unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    // See https://no-color.org.
    let has_colours = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // Fails on a second call, such as of a test that starts two systems. The first subscriber stays.
    let _ = match format {
        LogFormat::Text => {
            let lines = fmt::layer().fmt_fields(debug_fn(write_field).delimited(" "));
            let lines = lines.with_writer(stderr).with_ansi(has_colours);
            registry().with(lines.with_filter(filter)).try_init()
        }
        LogFormat::Json => {
            let lines = fmt::layer().json().flatten_event(true).with_writer(|| EscapedJsonLines(stderr()));
            registry().with(lines.with_filter(filter)).try_init()
        }
    };
    recorder();
}

/// Writes a field of an event or a span as tracing does, but escapes its value: that may come from a record, a request
/// or another service.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> std::fmt::Result {
    let value = format!("{value:?}");
    match field.name() {
        "message" => writer.write_str(&escaped(&value)),
        name => write!(writer, "{}={}", name.trim_start_matches("r#"), escaped(&value)),
    }
}

/// Reads a filter such as `info,projector=debug`: levels for all targets or for one, and targets of which every level
/// is logged. tracing's own parser also reads filters of spans, for which it needs regular expressions.
///
/// # Errors
/// Names the part that can't be read.
pub(crate) fn parse_filter(text: &str) -> Result<Targets, String> {
    let mut filter = Targets::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let level_of = |text: &str| match text.parse::<LevelFilter>() {
            Ok(level) if !text.is_empty() => Ok(level),
            _ => Err(format!("{part}: expected a level such as debug, or a target and its level")),
        };
        filter = match part.split_once('=') {
            Some((target, level)) => filter.with_target(target, level_of(level)?),
            None => match level_of(part) {
                Ok(level) => filter.with_default(level),
                Err(_) => filter.with_target(part, LevelFilter::TRACE),
            },
        };
    }
    Ok(filter)
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

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_filter_sets_the_level_of_all_targets_or_of_one() {
        let filter = parse_filter("info,projector=debug,cache=off,realtime,").unwrap();
        for (target, most_detailed) in [
            ("service::http", Some(Level::INFO)),
            ("projector::batch", Some(Level::DEBUG)),
            ("cache", None),
            ("realtime", Some(Level::TRACE)),
        ] {
            for level in [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE] {
                let is_logged = most_detailed.is_some_and(|most_detailed| level <= most_detailed);
                assert_eq!(filter.would_enable(target, &level), is_logged, "{target} {level}");
            }
        }
    }

    #[test]
    fn a_filter_with_an_unknown_level_is_refused() {
        for invalid in ["projector=loud", "projector=", "=", "info,=", "projector=debug=info"] {
            assert!(parse_filter(invalid).is_err(), "{invalid}");
        }
    }
}
