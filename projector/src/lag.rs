//! The lag: how far the read model is behind the log. Measuring it must never hold up projecting.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use domain::Position;
use event_log::{LogConsumer, LogError};
use tokio::sync::watch;

/// The pause between two measurements.
const MEASURE_INTERVAL: Duration = Duration::from_secs(2);

/// Keeps the metrics `projector_lag_events` and `projector_lag_seconds` up to date for the partitions and next offsets
/// in `owned`, until its sender is dropped. Runs in a task of its own.
pub(crate) async fn measure(log: LogConsumer, owned: watch::Receiver<BTreeMap<i32, i64>>) {
    let mut interval = tokio::time::interval(MEASURE_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while owned.has_changed().is_ok() {
        interval.tick().await;
        let next_offsets = owned.borrow().clone();
        match lag(&log, next_offsets).await {
            Ok(lag) => {
                metrics::gauge!("projector_lag_events").set(lag.events as f64);
                metrics::gauge!("projector_lag_seconds").set(lag.oldest.as_secs_f64());
            }
            Err(error) => tracing::info!(%error, "measuring the projector's lag failed; retrying every two seconds"),
        }
    }
}

/// How far some partitions of the read model are behind the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// How many offsets are not projected yet, including those without a record.
    pub events: i64,
    /// How long the oldest unprojected record has been on the log.
    pub oldest: Duration,
}

/// Measures how far partitions with these next offsets are behind the log.
///
/// # Errors
/// When Kafka doesn't answer.
pub async fn lag(log: &LogConsumer, next_offsets: impl IntoIterator<Item = (i32, i64)>) -> Result<Lag, LogError> {
    let end = log.end_offsets().await?;
    let mut lag = Lag { events: 0, oldest: Duration::ZERO };
    for (partition, offset) in next_offsets {
        let behind = end.next(partition) - offset;
        if behind <= 0 {
            continue;
        }
        lag.events += behind;
        if let Some(record) = log.read_at(Position { partition, offset }).await? {
            lag.oldest = lag.oldest.max(age(record.timestamp_ms));
        }
    }
    Ok(lag)
}

/// How long ago a time in Unix milliseconds was; zero if the broker's clock is ahead.
fn age(timestamp_ms: i64) -> Duration {
    let then = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(timestamp_ms).unwrap_or(0));
    SystemTime::now().duration_since(then).unwrap_or_default()
}
