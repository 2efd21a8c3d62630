//! Compares the relay with the log's end: for readiness, for metrics, and to restart a relay that no longer advances.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::{Position, PositionVector};
use event_log::LogConsumer;
use service::clock;
use tokio_util::sync::CancellationToken;

use super::relay::Relay;
use super::tail::RelayTail;

/// How often the monitor compares the relay with the log's end.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Whether the relay keeps up with the log, according to the monitor's last check.
pub(crate) struct RelayHealth(Mutex<Result<(), String>>);

impl Default for RelayHealth {
    fn default() -> Self {
        Self(Mutex::new(Ok(())))
    }
}

impl RelayHealth {
    /// The last result.
    ///
    /// # Errors
    /// With the reason why the relay doesn't keep up.
    pub(crate) fn get(&self) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, health: Result<(), String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }
}

/// The offsets that one check found.
struct Check {
    /// Up to here the relay could read.
    readable_end: PositionVector,
    reached: PositionVector,
}

/// Watches the relay of the topic of record.
pub(crate) struct LagMonitor {
    pub(crate) log: Arc<LogConsumer>,
    pub(crate) tail: Arc<RelayTail>,
    pub(crate) health: Arc<RelayHealth>,
    pub(crate) shutdown: CancellationToken,
}

impl LagMonitor {
    /// Checks the relay until the shutdown. The relay is unhealthy if it has not reached the end of the check before.
    /// If it has not advanced since then either, the monitor assigns its partitions again: an error may have ended the
    /// reading of a partition. What an open transaction of another producer holds back counts as lag, but not against
    /// the relay.
    pub(crate) async fn run(self) {
        let mut interval = tokio::time::interval(CHECK_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last: Option<Check> = None;
        while self.shutdown.run_until_cancelled(interval.tick()).await.is_some() {
            let found = async { tokio::try_join!(self.log.end_offsets(), self.log.readable_end_offsets()) };
            let (end, readable_end) = match found.await {
                Ok(ends) => ends,
                Err(error) => {
                    self.health.set(Err(error.to_string()));
                    continue;
                }
            };
            let mut reached = self.tail.relayed();
            // Beyond offsets without a record, which the relay never sees.
            for (partition, next) in self.log.positions().unwrap_or_default() {
                reached.advance(partition, next);
            }
            let lag: i64 = end.0.iter().zip(&reached.0).map(|(end, reached)| (end - reached).max(0)).sum();
            metrics::gauge!("realtime_lag_events").set(lag as f64);
            metrics::gauge!("realtime_lag_seconds").set(self.oldest_age(&reached, &end).await.as_secs_f64());
            let is_behind = last.as_ref().is_some_and(|last| !reached.covers(&last.readable_end));
            if is_behind && last.as_ref().is_some_and(|last| last.reached == reached) {
                tracing::error!(lag, "the relay doesn't advance; assigning its partitions again");
                if let Err(error) = Relay::assign(&self.log, &self.tail.relayed()) {
                    tracing::error!(%error, "assigning the relay's partitions failed; retrying at the next check");
                }
            }
            self.health.set(if is_behind { Err(format!("{lag} events behind the log")) } else { Ok(()) });
            last = Some(Check { readable_end, reached });
        }
    }

    /// How long the oldest record that the relay has not reached has been on the log.
    async fn oldest_age(&self, reached: &PositionVector, end: &PositionVector) -> Duration {
        let mut oldest = Duration::ZERO;
        for (partition, (offset, end)) in (0..).zip(reached.0.iter().zip(&end.0)) {
            if offset < end
                && let Ok(Some(record)) = self.log.read_at(Position { partition, offset: *offset }).await
            {
                oldest = oldest.max(clock::since_millis(record.timestamp_ms));
            }
        }
        oldest
    }
}
