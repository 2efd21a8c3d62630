//! Yielding to the live projectors: while they lag, a rebuild leaves Postgres to them.

use std::sync::Arc;
use std::time::Duration;

use domain::PositionVector;
use event_log::LogConsumer;
use read_model::ReadModel;
use tokio::time::Instant;

/// The lag from which on a rebuild pauses, and how often it looks.
const LAG_MAX: Duration = Duration::from_secs(1);
/// How long it pauses at a time: projectors that stand still for another reason don't hold it up for ever.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The pause between two looks while they lag.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

domain::limit_rows! {
    Services, "lag of the projectors from which on a rebuild pauses", Time LAG_MAX, "the rebuild pauses", "readers, who wait for the projectors";
    Services, "a pause of a rebuild", Time PAUSE_MAX, "the rebuild goes on", "the rebuild, where no projector runs";
}

/// Looks at how far the live generation lags behind the log.
pub(super) struct Courtesy {
    log: Arc<LogConsumer>,
    live: ReadModel,
    /// The log's end at an earlier time.
    earlier: Option<(Instant, PositionVector)>,
}

impl Courtesy {
    pub(super) fn new(log: Arc<LogConsumer>, live: ReadModel) -> Self {
        Self { log, live, earlier: None }
    }

    /// Waits while the live generation lacks what was on the log [`LAG_MAX`] ago. Looks at most that often.
    pub(super) async fn yield_to_live(&mut self) {
        if let Some((at, end)) = &self.earlier {
            if at.elapsed() < LAG_MAX {
                return;
            }
            let began = Instant::now();
            while began.elapsed() < PAUSE_MAX && self.live.offsets().await.is_ok_and(|offsets| !offsets.covers(end)) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
        self.earlier = self.log.end_offsets().await.ok().map(|end| (Instant::now(), end));
    }
}
