//! Telling the other processes which repairs every cache knows.

use std::time::{Duration, Instant};

use read_model::Upkeep;

use crate::projector::Projector;

/// How often the same repairs are published again: Redis may have lost them.
const REPEAT_INTERVAL: Duration = Duration::from_secs(5);

/// What this projector has published last.
#[derive(Debug, Default)]
pub(crate) struct RepairPublisher {
    published: Option<(i64, Instant)>,
}

impl RepairPublisher {
    /// Publishes the repairs, if there are others than before, or Redis may have lost them. If Redis doesn't answer, the
    /// next call tries again.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub(crate) async fn publish(&mut self, projector: &Projector, upkeep: Upkeep) -> anyhow::Result<()> {
        let is_known =
            self.published.is_some_and(|(number, at)| number == upkeep.last_repair && at.elapsed() < REPEAT_INTERVAL);
        if upkeep.last_repair == 0 || is_known {
            return Ok(());
        }
        let Some((generation, repairs)) = projector.read_model.told_repairs().await? else { return Ok(()) };
        let number = repairs.number;
        match projector.cache.publish_repairs(generation, repairs).await {
            Ok(()) => self.published = Some((number, Instant::now())),
            Err(error) => tracing::info!(%error, "publishing the repairs failed; retrying in a second"),
        }
        Ok(())
    }
}
