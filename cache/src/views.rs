//! Views: ready answers, each with the stamps of what it depends on.

use std::sync::LazyLock;

use domain::PositionVector;
use redis::Script;

use crate::connection::{Cache, CacheError};
use crate::keys::{self, Head, ViewKey};
use crate::progress;

static VIEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/view.lua")));
static STAMPS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/stamps.lua")));

/// What a look-up found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// What Redis had been told to have passed before the view was looked up; partitions that it was not told
    /// of are at 0. A view that is found includes all of it.
    pub progress: PositionVector,
    /// The view's JSON, when it is there and still true.
    pub body: Option<String>,
}

/// The stamps of heads, taken before the values of a view are read.
#[derive(Debug, Clone)]
pub struct Stamps {
    generation: i64,
    /// What Redis had been told to have passed: what a view under these stamps would claim to include.
    progress: PositionVector,
    pairs: Vec<(String, String)>,
}

impl Cache {
    /// Looks a view up. Counted as `cache_lookups_total` by view and outcome.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn view(&self, key: &ViewKey) -> Result<Lookup, CacheError> {
        let keys = self.keys();
        let mut call = VIEW.prepare_invoke();
        call.key(keys.progress()).key(keys.view(key));
        let (progress, body): (Vec<(i32, i64)>, Option<String>) = call.invoke_async(&mut self.connection()).await?;
        let outcome = if body.is_some() { "hit" } else { "miss" };
        metrics::counter!("cache_lookups_total", "view" => key.kind(), "outcome" => outcome).increment(1);
        Ok(Lookup { progress: progress::vector(&progress), body })
    }

    /// The stamps of these heads as they are now. Take them before reading what the view is made from.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn stamps(&self, heads: &[Head]) -> Result<Stamps, CacheError> {
        let keys = self.keys();
        let names: Vec<String> = heads.iter().map(|head| keys.head(head)).collect();
        let mut call = STAMPS.prepare_invoke();
        call.key(keys.progress()).arg(keys::HEAD_TTL.as_secs());
        for name in &names {
            call.key(name).arg(keys::fresh_stamp());
        }
        let (progress, stamps): (Vec<(i32, i64)>, Vec<String>) = call.invoke_async(&mut self.connection()).await?;
        let progress = progress::vector(&progress);
        Ok(Stamps { generation: keys.generation, progress, pairs: names.into_iter().zip(stamps).collect() })
    }

    /// Stores a view under the stamps that were taken before its values were read; `includes` is what those
    /// include. Where a head has moved since, the view is there but never found. Values that are older than what
    /// Redis had been told are not stored: the read model was emptied or put back, and nobody told Redis yet.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn fill(
        &self,
        key: &ViewKey,
        stamps: &Stamps,
        body: &str,
        includes: &PositionVector,
    ) -> Result<(), CacheError> {
        let keys = self.keys();
        if stamps.generation != keys.generation || !includes.covers(&stamps.progress) {
            return Ok(());
        }
        let depends = serde_json::json!(stamps.pairs);
        let mut set = redis::cmd("SET");
        set.arg(keys.view(key)).arg(format!("{depends}\n{body}")).arg("EX").arg(key.ttl().as_secs());
        Ok(set.query_async(&mut self.connection()).await?)
    }
}
