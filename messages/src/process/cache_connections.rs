//! Redis, as the configuration names it.

use anyhow::Context;
use cache::Cache;
use service::config::Config;

/// Prepares the connections to one or two instances of Redis. They need not answer yet.
///
/// # Errors
/// When a URL is not the address of a Redis. The error names the variable.
pub(crate) fn connect_cache(config: &Config) -> anyhow::Result<Cache> {
    let cache = Cache::connect(&config.redis_url, &config.redis_prefix).context("REDIS_URL")?;
    match &config.redis_cache_url {
        Some(url) => cache.with_evictable_at(url).context("REDIS_CACHE_URL"),
        None => Ok(cache),
    }
}
