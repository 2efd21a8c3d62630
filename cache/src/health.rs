//! What Redis reports about itself, for operators. Reading it changes nothing.

use crate::connection::{Cache, CacheError};
use crate::counted_connection::CountedConnection;

/// What Redis reports about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisHealth {
    /// The server's version, such as `7.0.15`.
    pub version: String,
    /// What Redis evicts when its memory is full (`maxmemory_policy`): `noeviction` for nothing.
    pub eviction: String,
}

impl Cache {
    /// Reads the server's version and settings.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn health(&self) -> Result<RedisHealth, CacheError> {
        health_of(self.connection("info")).await
    }

    /// Reads the same from the instance that may evict.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub async fn evictable_health(&self) -> Result<RedisHealth, CacheError> {
        health_of(self.evictable_connection("info")).await
    }
}

async fn health_of(mut connection: CountedConnection) -> Result<RedisHealth, CacheError> {
    let info: String = redis::cmd("INFO").arg("server").arg("memory").query_async(&mut connection).await?;
    let field = |name: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_default().trim().to_owned()
    };
    Ok(RedisHealth { version: field("redis_version"), eviction: field("maxmemory_policy") })
}
