//! The history of the lag and of the rates: what this process has sampled since its start, for plots of the last hour.
//!
//! The task samples every [`SAMPLE_INTERVAL`], and keeps the last [`SAMPLES_MAX`] in memory. While Postgres or Kafka
//! doesn't answer it samples nothing, so a plot has a gap there. Each process has a history of its own: nothing is stored.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use domain::Timestamp;
use http::Uri;
use serde::Serialize;
use service::auth::AdminCaller;
use service::clock;
use service::http::Params;
use service::openapi::{ADMIN, AdminErrors, CommonHeaderParams};
use service::problem::Problem;
use service::response::DataResponse;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::AdminApi;
use crate::observation::{Observation, Observer};

/// The time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);
/// How many samples a process keeps: an hour of them.
const SAMPLES_MAX: usize = 360;

domain::limit_rows! {
    Memory, "samples of the projection's lag that a process keeps, one every 10 s", Count SAMPLES_MAX, "it forgets the oldest one", "memory";
}

/// The projection at a moment, all partitions together.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HistorySample {
    /// When the process sampled it.
    at: Timestamp,
    /// How many offsets were readable and not folded.
    lag: i64,
    /// How many seconds before the log had taken the oldest record of these; 0 if all were folded.
    lag_seconds: f64,
    /// How many offsets a second the log grew by, over the 10 s before.
    appended_per_second: f64,
    /// How many offsets a second the projectors folded, over the 10 s before.
    folded_per_second: f64,
}

impl HistorySample {
    fn of(observed: &Observation, at: Timestamp) -> Self {
        let partitions = &observed.partitions;
        Self {
            at,
            lag: observed.lag(),
            lag_seconds: observed.lag_seconds(),
            appended_per_second: partitions.iter().map(|it| it.appended_per_second).sum(),
            folded_per_second: partitions.iter().map(|it| it.folded_per_second).sum(),
        }
    }
}

/// The last samples, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<VecDeque<HistorySample>>);

impl History {
    fn lock(&self) -> MutexGuard<'_, VecDeque<HistorySample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, sample: HistorySample) {
        let mut samples = self.lock();
        if samples.len() >= SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// Samples what the observer sees, until the shutdown.
    pub(crate) async fn sample(&self, observer: &Observer, shutdown: CancellationToken) {
        let mut interval = tokio::time::interval(SAMPLE_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(interval.tick()).await.is_some() {
            let Some(observed) = shutdown.run_until_cancelled(observer.observe()).await else { return };
            // The observer has logged why it failed.
            if let Ok(observed) = observed {
                self.add(HistorySample::of(&observed, clock::now()));
            }
        }
    }
}

/// The history that a process has in memory.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HistoryView {
    /// How many seconds are between two samples. More, where Postgres or Kafka didn't answer.
    #[schema(minimum = 1, example = 10)]
    interval_seconds: u64,
    /// The samples, the oldest first: at most those of the last hour.
    #[schema(max_items = 360)]
    samples: Vec<HistorySample>,
}

/// See how the lag and the rates were
///
/// The process that answers has sampled them since its start, for an hour at most. Other processes have other samples.
#[utoipa::path(
    get,
    path = "/admin/api/history",
    operation_id = "history",
    tag = ADMIN,
    params(CommonHeaderParams),
    responses((status = 200, description = "The samples.", body = DataResponse<HistoryView>), AdminErrors)
)]
pub(crate) async fn show(
    State(api): State<AdminApi>,
    _: AdminCaller,
    uri: Uri,
) -> Result<Json<DataResponse<HistoryView>>, Problem> {
    Params::read(&uri, &[])?;
    let samples = api.0.history.lock().iter().cloned().collect();
    Ok(Json(DataResponse { data: HistoryView { interval_seconds: SAMPLE_INTERVAL.as_secs(), samples } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_sample_makes_place_for_the_newest() {
        let history = History::default();
        for lag in 0..=360 {
            let (at, rate) = (Timestamp::from_millis(lag * 10_000).unwrap(), 0.0);
            history.add(HistorySample {
                at,
                lag,
                lag_seconds: 0.0,
                appended_per_second: rate,
                folded_per_second: rate,
            });
        }
        let samples = history.lock();
        let lags: Vec<i64> = samples.iter().map(|sample| sample.lag).collect();
        assert_eq!((lags.len(), lags[0], lags[359]), (360, 1, 360));
    }
}
