//! Cached views: rendered responses, each stored with the versions of what it depends on. The crate's documentation
//! shows why a view that is found is fresh.
//!
//! Redis grows with what users have, and not with what they ask for: of a list, it keeps the first page of a few page
//! sizes under one key, within a bounded number of bytes.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes};
use domain::PositionVector;
use redis::Script;
use sha2::{Digest, Sha256};

use crate::admission::Admission;
use crate::as_of::{AS_OF_MAX_AGE, CurrentPartitions};
use crate::connection::{Cache, CacheError};
use crate::keys::{self, Dependency, ViewKey};
use crate::progress;
use crate::request_count::{RequestCounter, ScriptCount};

/// How many bytes of the hash an entity tag has: enough that two bodies never share one.
const TAG_BYTES: usize = 16;

static VIEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("scripts/although_full.lua"),
        include_str!("scripts/count.lua"),
        include_str!("scripts/view.lua")
    ))
});
static FORGET_VERSIONS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/forget_versions.lua")));
static PUT_VIEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/put_view.lua")));
static VERSIONS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/versions.lua")));

/// The JSON of a response, with the entity tag that identifies it. Redis stores both, so a response from Redis needs no
/// hash of its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    etag: Bytes,
    body: Bytes,
}

impl View {
    /// A view with this JSON. Hashes it.
    pub fn new(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let hash = Sha256::digest(&body);
        Self { etag: format!("\"{}\"", URL_SAFE_NO_PAD.encode(&hash[..TAG_BYTES])).into(), body }
    }

    /// The entity tag (RFC 9110), with its quotes. It is strong: equal bodies have equal tags, on every node and
    /// whether cached or not.
    pub fn etag(&self) -> &Bytes {
        &self.etag
    }

    /// The JSON.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Appends the view as Redis stores it: the tag, a line break, the JSON.
    pub(crate) fn write(&self, stored: &mut impl BufMut) {
        for part in [self.etag.as_ref(), b"\n", &self.body] {
            stored.put_slice(part);
        }
    }

    /// Reads what [`Self::write`] wrote, without a copy. None for anything else.
    pub(crate) fn parse(mut stored: Bytes) -> Option<Self> {
        let etag_length = stored.iter().position(|byte| *byte == b'\n')?;
        let body = stored.split_off(etag_length + 1);
        stored.truncate(etag_length);
        Some(Self { etag: stored, body })
    }
}

/// What the script returns: the progress, the view as stored, the partitions that are current, and the count.
type FoundView = (Vec<(i32, i64)>, Option<Bytes>, Vec<i32>, Option<ScriptCount>);

/// The result of looking a view up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewLookup {
    /// The progress that Redis had published before it looked for the view; 0 for partitions that it doesn't know. A
    /// view that is found includes all of it.
    pub progress: PositionVector,
    /// The view, if Redis has it and it is fresh.
    pub view: Option<View>,
    /// The partitions of which the view is known to be no older than [`crate::AS_OF_MAX_AGE`]. Empty without a view.
    pub current: CurrentPartitions,
}

/// The result of counting a request and looking its view up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedLookup {
    /// Whether the request may go on.
    pub admission: Admission,
    /// Without a view if the request may not go on.
    pub lookup: ViewLookup,
}

/// The versions of dependencies, taken before the values of a view are read.
#[derive(Debug, Clone)]
pub struct Versions {
    generation: i64,
    /// The progress that Redis had published: what a view stored with these versions claims to include.
    progress: PositionVector,
    pairs: Vec<(String, String)>,
    /// Those of dependencies that had no version before.
    new: Vec<(String, String)>,
}

impl Cache {
    /// Looks a view up. Counts it in `cache_lookups_total`, by view and outcome.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn view(&self, key: &ViewKey) -> Result<ViewLookup, CacheError> {
        Ok(self.look_up(key, None).await?.0)
    }

    /// Counts a request and looks its view up, in one round trip.
    ///
    /// # Errors
    /// When Redis doesn't answer. Redis may have counted the request all the same.
    pub async fn count_and_view(
        &self,
        key: &ViewKey,
        counter: RequestCounter<'_>,
    ) -> Result<CountedLookup, CacheError> {
        let (lookup, counted) = self.look_up(key, Some(counter)).await?;
        Ok(CountedLookup { admission: counter.admission(counted.unwrap_or_default()), lookup })
    }

    async fn look_up(
        &self,
        key: &ViewKey,
        counter: Option<RequestCounter<'_>>,
    ) -> Result<(ViewLookup, Option<ScriptCount>), CacheError> {
        let keys = self.keys();
        let mut call = VIEW.prepare_invoke();
        call.key(keys.progress()).key(keys.as_of()).key(keys.view(key));
        call.arg(page_size_arg(key)).arg(u64::try_from(AS_OF_MAX_AGE.as_millis()).unwrap_or(u64::MAX));
        if let Some(counter) = counter {
            call.key(counter.key(&keys)).arg(counter.limit.max).arg(counter.window_ms());
        }
        let (progress, stored, current, counted): FoundView =
            call.invoke_async(&mut self.evictable_connection("view")).await?;
        let view = stored.and_then(View::parse);
        if counted.is_none_or(|(_, _, refused)| refused == 0) {
            let outcome = if view.is_some() { "hit" } else { "miss" };
            metrics::counter!("cache_lookups_total", "view" => key.kind(), "outcome" => outcome).increment(1);
        }
        let (progress, current) = (progress::vector(&progress), CurrentPartitions(current));
        Ok((ViewLookup { progress, view, current }, counted))
    }

    /// Reads the current versions of these dependencies. Read them before the values of the view.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn versions(&self, dependencies: &[Dependency]) -> Result<Versions, CacheError> {
        let keys = self.keys();
        let mut names: Vec<String> = dependencies.iter().map(|dependency| keys.version(dependency)).collect();
        names.push(keys.progress_version());
        let mut call = VERSIONS.prepare_invoke();
        call.key(keys.progress()).arg(keys::NEW_VERSION_TTL.as_secs());
        let proposed: Vec<String> = names.iter().map(|_| keys::fresh_version()).collect();
        for (name, version) in names.iter().zip(&proposed) {
            call.key(name).arg(version);
        }
        let (progress, versions): (Vec<(i32, i64)>, Vec<String>) =
            call.invoke_async(&mut self.evictable_connection("versions")).await?;
        let progress = progress::vector(&progress);
        let pairs: Vec<(String, String)> = names.into_iter().zip(versions).collect();
        let of_dependencies = pairs.iter().zip(&proposed).take(dependencies.len());
        let new = of_dependencies.filter(|((_, version), proposed)| version == *proposed).map(|(pair, _)| pair.clone());
        Ok(Versions { generation: keys.generation, progress, new: new.collect(), pairs })
    }

    /// Forgets the versions that are new, because there is nothing to store with them: made-up ids must not fill Redis.
    /// A view that somebody else has stored with them is no longer found.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn forget_new(&self, versions: &Versions) -> Result<(), CacheError> {
        let mut call = FORGET_VERSIONS.prepare_invoke();
        for (name, version) in &versions.new {
            call.key(name).arg(version);
        }
        Ok(call.invoke_async(&mut self.evictable_connection("forget_versions")).await?)
    }

    /// Stores a view with the versions that were taken before its values were read. `includes` is what those values
    /// include.
    ///
    /// Where a version has changed since, nobody would find the view, and Redis doesn't store it. Of a list, Redis keeps
    /// the latest page sizes, within a bounded number of bytes. Values older than the published progress are not stored:
    /// somebody has emptied or restored the read model, and Redis doesn't know yet.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn put_if_current(
        &self,
        key: &ViewKey,
        versions: &Versions,
        view: &View,
        includes: &PositionVector,
    ) -> Result<(), CacheError> {
        let keys = self.keys();
        if versions.generation != keys.generation || !includes.covers(&versions.progress) {
            return Ok(());
        }
        let mut stored = format!("{}\n", serde_json::json!(versions.pairs)).into_bytes();
        view.write(&mut stored);
        if stored.len() > key.max_bytes() {
            metrics::counter!("cache_views_too_large_total", "view" => key.kind()).increment(1);
            return Ok(());
        }
        let mut call = PUT_VIEW.prepare_invoke();
        call.key(keys.view(key)).arg(stored).arg(key.ttl().as_secs()).arg(keys::VERSION_TTL.as_secs());
        call.arg(page_size_arg(key)).arg(keys::PAGE_SIZES_MAX).arg(key.max_bytes());
        for (name, version) in &versions.pairs {
            call.key(name).arg(version);
        }
        Ok(call.invoke_async(&mut self.evictable_connection("put_view")).await?)
    }
}

/// A view's page size as the scripts expect it: empty where there is none.
fn page_size_arg(key: &ViewKey) -> String {
    key.page_size().map_or_else(String::new, |size| size.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_view_comes_back_with_its_tag() {
        let view = View::new("{\"text\":\"two\\nlines\"}");
        let mut stored = Vec::new();
        view.write(&mut stored);
        assert_eq!(View::parse(stored.into()), Some(view));
        assert_eq!(View::parse(Bytes::from_static(b"{}")), None);
    }

    #[test]
    fn bodies_have_the_same_tag_only_if_they_are_equal() {
        assert_eq!(View::new("{}").etag(), "\"RBNvo1WzZ4oRRq0W9-hkng\"");
        assert_ne!(View::new("[]").etag(), View::new("{}").etag());
    }
}
