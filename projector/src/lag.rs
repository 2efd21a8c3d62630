//! How far the read model is behind the log, for those who run it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use domain::Position;
use event_log::{LogConsumer, LogError};
use tokio::sync::watch;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Keeps `projector_lag_events` and `projector_lag_seconds` right for partitions with these next offsets, until
/// nobody tells those any more. For a task of its own: projecting waits for none of this.
pub(crate) async fn watch(log: LogConsumer, owned: watch::Receiver<BTreeMap<i32, i64>>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while owned.has_changed().is_ok() {
        looks.tick().await;
        let next = owned.borrow().clone();
        match lag(&log, next).await {
            Ok(lag) => {
                metrics::gauge!("projector_lag_events").set(lag.events as f64);
                metrics::gauge!("projector_lag_seconds").set(lag.oldest.as_secs_f64());
            }
            Err(error) => tracing::info!(%error, "how far the projector is behind isn't known"),
        }
    }
}

/// How far behind the log something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// How many records are to be projected, gaps counted in.
    pub events: i64,
    /// For how long the oldest of them has been on the log.
    pub oldest: Duration,
}

/// How far behind the log these partitions are, with their next offsets.
///
/// # Errors
/// When the log can't be asked.
pub async fn lag(log: &LogConsumer, next: impl IntoIterator<Item = (i32, i64)>) -> Result<Lag, LogError> {
    let end = log.end_offsets().await?;
    let (mut events, mut oldest) = (0, Duration::ZERO);
    for (partition, offset) in next {
        let behind = end.next(partition) - offset;
        if behind <= 0 {
            continue;
        }
        events += behind;
        if let Some(record) = log.read_at(Position { partition, offset }).await? {
            oldest = oldest.max(age(record.timestamp_ms));
        }
    }
    Ok(Lag { events, oldest })
}

/// How long ago that was, in Unix milliseconds; nothing where the broker's clock is ahead.
fn age(timestamp_ms: i64) -> Duration {
    let then = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(timestamp_ms).unwrap_or(0));
    SystemTime::now().duration_since(then).unwrap_or_default()
}
