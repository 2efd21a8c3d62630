//! How far the read model is behind the log: for metrics, for the as-of of partitions, and to name those that make no
//! progress. Measuring it must never hold up projecting.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use domain::{Position, PositionVector};
use event_log::{LogConsumer, LogError};
use tokio::sync::watch;

use crate::projector::Projector;

/// The pause between two looks at the log's end.
const OBSERVE_INTERVAL: Duration = Duration::from_millis(500);
/// After how many of these looks the age of the oldest unprojected record is measured, and stalls are reported.
const LOOKS_PER_REPORT: u32 = 4;

/// The end of the log, and when somebody asked for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogEnd {
    pub(crate) end: PositionVector,
    /// By Redis' clock, in Unix milliseconds; none if Redis didn't answer.
    pub(crate) asked_at_ms: Option<i64>,
}

/// Observes the log's end until the sender of `owned`, a map of the projector's partitions to next offsets, is dropped.
/// Keeps the metrics `projector_lag_events` and `projector_lag_seconds` up to date. Runs in a task of its own.
pub(crate) async fn observe(
    projector: Projector,
    log: Arc<LogConsumer>,
    owned: watch::Receiver<BTreeMap<i32, i64>>,
    observed: watch::Sender<LogEnd>,
) {
    let mut interval = tokio::time::interval(OBSERVE_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut looks, mut stalls) = (0, BTreeMap::new());
    while owned.has_changed().is_ok() {
        interval.tick().await;
        looks += 1;
        // The time comes first: whatever is on the log then is below the end.
        let asked_at_ms = projector.cache.time_ms().await.ok();
        let end = match log.end_offsets().await {
            Ok(end) => end,
            Err(error) => {
                tracing::info!(%error, "looking for the log's end failed; retrying every half second");
                continue;
            }
        };
        let next_offsets = owned.borrow().clone();
        projector.stalls.observe(&next_offsets, &end, Instant::now());
        observed.send_replace(LogEnd { end, asked_at_ms });
        if looks % LOOKS_PER_REPORT == 0 {
            measure(&log, next_offsets).await;
            look_for_transactions(&projector, &log).await;
            stalls = report_stalls(&projector, &stalls).await;
        }
    }
}

async fn measure(log: &LogConsumer, next_offsets: BTreeMap<i32, i64>) {
    match lag(log, next_offsets).await {
        Ok(lag) => {
            metrics::gauge!("projector_lag_events").set(lag.events as f64);
            metrics::gauge!("projector_lag_seconds").set(lag.oldest.as_secs_f64());
        }
        Err(error) => tracing::info!(%error, "measuring the projector's lag failed; retrying every two seconds"),
    }
}

/// Finds out whether an open transaction holds partitions that make no progress.
async fn look_for_transactions(projector: &Projector, log: &LogConsumer) {
    let held = if projector.stalls.stand_still_for(OBSERVE_INTERVAL * LOOKS_PER_REPORT) {
        log.held_partitions().await.unwrap_or_else(|error| {
            tracing::info!(%error, "looking for open transactions failed; retrying every two seconds");
            BTreeMap::new()
        })
    } else {
        BTreeMap::new()
    };
    projector.stalls.hold(held);
}

/// Tells operators and other processes which partitions make no progress. Returns them, for the next call.
async fn report_stalls(projector: &Projector, reported: &BTreeMap<i32, String>) -> BTreeMap<i32, String> {
    let stalls = projector.stalls.get();
    metrics::gauge!("projector_stalled_partitions").set(stalls.len() as f64);
    if !stalls.keys().eq(reported.keys()) {
        tracing::warn!(?stalls, "the partitions that make no progress have changed");
    }
    // Also once there are none any more: another projector's report would keep the last one alive.
    if !(stalls.is_empty() && reported.is_empty())
        && let Err(error) = projector.cache.report_stalls(&projector.owner, &stalls).await
    {
        tracing::debug!(%error, "Redis failed; other processes don't learn why partitions make no progress");
    }
    for partition in reported.keys().filter(|partition| !stalls.contains_key(partition)) {
        stalled_offset(*partition).set(-1.0);
    }
    for (partition, next) in projector.stalls.next_offsets() {
        stalled_offset(partition).set(next as f64);
    }
    stalls
}

/// The offset at which a partition makes no progress; -1 once it does.
fn stalled_offset(partition: i32) -> metrics::Gauge {
    metrics::gauge!("projector_stalled_offset", "partition" => partition.to_string())
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
