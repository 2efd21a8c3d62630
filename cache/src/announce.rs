//! The projector's word after a commit: what changed, and how far it has come.

use std::sync::LazyLock;

use redis::Script;

use crate::connection::{Cache, CacheError};
use crate::keys::{self, Head, Keys};

static ANNOUNCE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/announce.lua")));

/// One partition's part of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The partition.
    pub partition: i32,
    /// Its next offset before the commit.
    pub from: i64,
    /// Its next offset after the commit.
    pub to: i64,
}

/// What came of an announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announced {
    /// Redis knows all of it.
    Done,
    /// Redis was behind on these partitions, for it or the projector had lost something: the heads that
    /// changed from these offsets on have to be announced as well.
    Behind(Vec<(i32, i64)>),
}

impl Cache {
    /// Moves the heads that changed, then announces progress to Redis and to everyone who waits for it. The
    /// generation is that of the commits, which may be over: nothing of it may pass for a newer one's.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn announce(&self, generation: i64, heads: &[Head], steps: &[Step]) -> Result<Announced, CacheError> {
        let keys = Keys { generation, ..self.keys() };
        let mut call = ANNOUNCE.prepare_invoke();
        call.key(keys.progress()).key(keys.epoch());
        for head in heads {
            call.key(keys.head(head));
        }
        call.arg(keys::fresh_stamp()).arg(keys.progress_channel()).arg(keys.generation).arg(steps.len());
        for step in steps {
            call.arg(step.partition).arg(step.from).arg(step.to);
        }
        let behind: Vec<(i32, i64)> = call.invoke_async(&mut self.connection()).await?;
        Ok(if behind.is_empty() { Announced::Done } else { Announced::Behind(behind) })
    }

    /// Tells everyone which generation of the projection is served, and enters it.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn publish_generation(&self, generation: i64) -> Result<(), CacheError> {
        self.enter_generation(generation);
        let keys = self.keys();
        let mut set = redis::cmd("SET");
        set.arg(keys.current_generation()).arg(generation);
        set.query_async::<()>(&mut self.connection()).await?;
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(keys.progress_channel()).arg(generation.to_string());
        Ok(publish.query_async(&mut self.connection()).await?)
    }
}
