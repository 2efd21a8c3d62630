//! Redis as it is, for those who look after it.

use crate::connection::{Cache, CacheError};

/// What Redis says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkup {
    /// Its version, such as `7.0.15`.
    pub version: String,
    /// What it throws away when its memory is full: `noeviction` for nothing.
    pub eviction: String,
}

impl Cache {
    /// Looks Redis over.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub async fn checkup(&self) -> Result<Checkup, CacheError> {
        let info: String = redis::cmd("INFO").arg("server").arg("memory").query_async(&mut self.connection()).await?;
        let field = |name: &str| {
            let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            found.unwrap_or_default().trim().to_owned()
        };
        Ok(Checkup { version: field("redis_version"), eviction: field("maxmemory_policy") })
    }
}
