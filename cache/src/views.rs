//! Cached views: rendered responses, each stored with the versions of what it depends on. The crate's documentation
//! shows why a view that is found is fresh.

use std::sync::LazyLock;

use domain::PositionVector;
use redis::Script;

use crate::connection::{Cache, CacheError};
use crate::keys::{self, Dependency, ViewKey};
use crate::progress;

static VIEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/view.lua")));
static VERSIONS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/versions.lua")));

/// The result of looking a view up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewLookup {
    /// The progress that Redis had published before it looked for the view; 0 for partitions that it doesn't know. A
    /// view that is found includes all of it.
    pub progress: PositionVector,
    /// The view's JSON, if Redis has the view and it is fresh.
    pub body: Option<String>,
}

/// The versions of dependencies, taken before the values of a view are read.
#[derive(Debug, Clone)]
pub struct Versions {
    generation: i64,
    /// The progress that Redis had published: what a view stored with these versions claims to include.
    progress: PositionVector,
    pairs: Vec<(String, String)>,
}

impl Cache {
    /// Looks a view up. Counts it in `cache_lookups_total`, by view and outcome.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn view(&self, key: &ViewKey) -> Result<ViewLookup, CacheError> {
        let keys = self.keys();
        let mut call = VIEW.prepare_invoke();
        call.key(keys.progress()).key(keys.view(key));
        let (progress, body): (Vec<(i32, i64)>, Option<String>) = call.invoke_async(&mut self.connection()).await?;
        let outcome = if body.is_some() { "hit" } else { "miss" };
        metrics::counter!("cache_lookups_total", "view" => key.kind(), "outcome" => outcome).increment(1);
        Ok(ViewLookup { progress: progress::vector(&progress), body })
    }

    /// Reads the current versions of these dependencies. Read them before the values of the view.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn versions(&self, dependencies: &[Dependency]) -> Result<Versions, CacheError> {
        let keys = self.keys();
        let names: Vec<String> = dependencies.iter().map(|dependency| keys.version(dependency)).collect();
        let mut call = VERSIONS.prepare_invoke();
        call.key(keys.progress()).arg(keys::VERSION_TTL.as_secs());
        for name in &names {
            call.key(name).arg(keys::fresh_version());
        }
        let (progress, versions): (Vec<(i32, i64)>, Vec<String>) = call.invoke_async(&mut self.connection()).await?;
        let progress = progress::vector(&progress);
        Ok(Versions { generation: keys.generation, progress, pairs: names.into_iter().zip(versions).collect() })
    }

    /// Stores a view with the versions that were taken before its values were read. `includes` is what those values
    /// include.
    ///
    /// Where a version has changed since, nobody finds the view. Values older than the published progress are not
    /// stored: somebody has emptied or restored the read model, and Redis doesn't know yet.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn put_if_current(
        &self,
        key: &ViewKey,
        versions: &Versions,
        body: &str,
        includes: &PositionVector,
    ) -> Result<(), CacheError> {
        let keys = self.keys();
        if versions.generation != keys.generation || !includes.covers(&versions.progress) {
            return Ok(());
        }
        let depends = serde_json::json!(versions.pairs);
        let mut set = redis::cmd("SET");
        set.arg(keys.view(key)).arg(format!("{depends}\n{body}")).arg("EX").arg(key.ttl().as_secs());
        Ok(set.query_async(&mut self.connection()).await?)
    }
}
