//! What the projector tells Redis after a commit: what changed, and how far the read model has come.
//!
//! It must never publish progress before it has changed the versions of what that progress includes.

use std::sync::LazyLock;

use domain::OffsetAdvance;
use futures_util::future::join;
use redis::Script;

use crate::connection::{Cache, CacheError};
use crate::keys::{self, Dependency, Keys};

static PUBLISH_PROGRESS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/publish_progress.lua")));
static RECORD_PROGRESS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/record_progress.lua")));

/// The outcome of publishing progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishOutcome {
    /// Redis has recorded all of it.
    Published,
    /// Redis is behind on these partitions, because it or a projector has lost something. Each pair is a partition and
    /// the next offset that Redis knows: the projector has to invalidate everything that changed from there on.
    Behind(Vec<(i32, i64)>),
}

impl Cache {
    /// Changes the versions of the dependencies that a commit changed, then publishes its progress to Redis and to
    /// everyone who waits for it. `generation` is the commit's: progress of a past generation never counts for a newer
    /// one.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn publish_progress(
        &self,
        generation: i64,
        dependencies: &[Dependency],
        advances: &[OffsetAdvance],
    ) -> Result<PublishOutcome, CacheError> {
        let keys = Keys { generation, ..self.keys() };
        let mut call = PUBLISH_PROGRESS.prepare_invoke();
        call.key(keys.progress()).key(keys.progress_version()).key(keys.epoch());
        for dependency in dependencies {
            call.key(keys.version(dependency));
        }
        call.arg(keys::fresh_version()).arg(keys.progress_channel()).arg(keys.generation).arg(advances.len());
        for advance in advances {
            call.arg(advance.partition).arg(advance.from).arg(advance.to);
        }
        let mut connection = self.evictable_connection("publish_progress");
        let publication = call.invoke_async::<Vec<(i32, i64)>>(&mut connection);
        let (behind, ()) = join(publication, self.record_progress(&keys, advances)).await;
        let behind = behind?;
        Ok(if behind.is_empty() { PublishOutcome::Published } else { PublishOutcome::Behind(behind) })
    }

    /// Records progress next to the reservations, where the published progress is in another instance: each instance
    /// then finds out by itself that it has lost something. Without an answer, the next call finds it out.
    async fn record_progress(&self, keys: &Keys<'_>, advances: &[OffsetAdvance]) {
        if !self.has_evictable_instance() || advances.is_empty() {
            return;
        }
        let mut call = RECORD_PROGRESS.prepare_invoke();
        call.key(keys.recorded_progress()).key(keys.epoch());
        for advance in advances {
            call.arg(advance.partition).arg(advance.from).arg(advance.to);
        }
        if let Err(error) = call.invoke_async::<()>(&mut self.connection("record_progress")).await {
            tracing::debug!(%error, "recording the progress failed; the next publication ends the reservation epoch");
        }
    }

    /// Publishes which generation of the projection is served, and enters it.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn publish_generation(&self, generation: i64) -> Result<(), CacheError> {
        self.enter_generation(generation);
        let keys = self.keys();
        let mut set = redis::cmd("SET");
        set.arg(keys.current_generation()).arg(generation);
        set.query_async::<()>(&mut self.evictable_connection("publish_generation")).await?;
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(keys.progress_channel()).arg(generation.to_string());
        Ok(publish.query_async(&mut self.evictable_connection("publish_generation")).await?)
    }
}
