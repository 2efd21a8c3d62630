//! Whether Redis works, and what it reports about itself, for operators.

use crate::connection::{Cache, CacheError};
use crate::counted_connection::CountedConnection;
use crate::keys;

/// What Redis reports about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisHealth {
    /// The server's version, such as `7.0.15`.
    pub version: String,
    /// What Redis evicts when its memory is full (`maxmemory_policy`): `noeviction` for nothing.
    pub eviction: String,
    /// How many bytes Redis uses.
    pub used_bytes: u64,
    /// How many bytes Redis may use (`maxmemory`); none if there is no such setting.
    pub max_bytes: Option<u64>,
}

impl RedisHealth {
    /// Whether Redis refuses to write because its memory is full.
    pub fn refuses_writes(&self) -> bool {
        self.eviction == "noeviction" && self.max_bytes.is_some_and(|max| self.used_bytes >= max)
    }
}

impl Cache {
    /// Writes a key to the instance that must not lose anything. A Redis that is full or a replica still answers, and
    /// refuses only this.
    ///
    /// # Errors
    /// When Redis doesn't take it.
    pub async fn check_writable(&self) -> Result<(), CacheError> {
        self.write_to(self.connection("check_writable")).await
    }

    /// Writes a key to the instance that may evict.
    ///
    /// # Errors
    /// When Redis doesn't take it.
    pub async fn check_evictable_writable(&self) -> Result<(), CacheError> {
        self.write_to(self.evictable_connection("check_writable")).await
    }

    async fn write_to(&self, mut connection: CountedConnection) -> Result<(), CacheError> {
        let mut set = redis::cmd("SET");
        set.arg(self.keys().readiness()).arg(1).arg("EX").arg(keys::READINESS_TTL.as_secs());
        Ok(set.query_async(&mut connection).await?)
    }

    /// Reads the server's version and settings. Changes nothing.
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
    Ok(RedisHealth {
        version: field("redis_version"),
        eviction: field("maxmemory_policy"),
        used_bytes: field("used_memory").parse().unwrap_or(0),
        max_bytes: field("maxmemory").parse().ok().filter(|max| *max > 0),
    })
}
