//! Whether Redis works, and what it reports about itself, for operators.

use std::sync::LazyLock;

use redis::Script;

use crate::connection::{Cache, CacheError};
use crate::counted_connection::CountedConnection;
use crate::fault::RedisFault;
use crate::keys;

static CHECK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/check.lua")));

/// What Redis reports about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisHealth {
    /// The server's version, such as `7.0.15`.
    pub version: String,
    /// What Redis evicts when its memory is full (`maxmemory_policy`): `noeviction` for nothing.
    pub eviction: String,
}

impl Cache {
    /// Does in the instance that must not lose anything what the services do: writes, runs a script, publishes. A Redis
    /// that is full, a replica or a cluster still answers, and refuses only this.
    ///
    /// # Errors
    /// When Redis doesn't answer, or refuses it.
    pub async fn check_writable(&self) -> Result<(), RedisFault> {
        self.run_check(self.connection("check_writable")).await
    }

    /// Does the same in the instance that may evict.
    ///
    /// # Errors
    /// When it doesn't answer, or refuses it.
    pub async fn check_evictable_writable(&self) -> Result<(), RedisFault> {
        self.run_check(self.evictable_connection("check_writable")).await
    }

    async fn run_check(&self, mut connection: CountedConnection) -> Result<(), RedisFault> {
        let keys = self.keys();
        let mut call = CHECK.prepare_invoke();
        for part in ["string", "counter", "hash", "set", "sorted-set"] {
            call.key(keys.readiness(part));
        }
        call.arg(keys::millis(keys::READINESS_TTL)).arg(keys.readiness("channel"));
        let checked = call.invoke_async::<()>(&mut connection).await;
        checked.map_err(|error| CacheError::from(error).fault(keys.prefix))
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
    Ok(RedisHealth { version: field("redis_version"), eviction: field("maxmemory_policy") })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    /// What only operators' commands do.
    const OF_OPERATORS: [&str; 3] = ["INFO", "SCAN", "HKEYS"];

    /// The words in capital letters that follow on `start`.
    fn commands<'a>(source: &'a str, start: &'a str) -> impl Iterator<Item = String> + 'a {
        source.split(start).skip(1).map(|rest| rest.chars().take_while(char::is_ascii_uppercase).collect())
    }

    #[test]
    fn the_check_does_whatever_the_services_do() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let files = [directory.clone(), directory.join("scripts")];
        let files = files.iter().flat_map(|directory| std::fs::read_dir(directory).unwrap());
        let mut used = BTreeSet::new();
        for file in files.map(|file| file.unwrap().path()).filter(|path| path.is_file()) {
            let source = std::fs::read_to_string(&file).unwrap();
            used.extend(commands(&source, "redis.call('").chain(commands(&source, "cmd(\"")));
        }
        let checked: BTreeSet<String> = commands(include_str!("scripts/check.lua"), "redis.call('").collect();
        let is_checked = |command: &&String| command.is_empty() || OF_OPERATORS.contains(&command.as_str());
        let forgotten: Vec<_> = used.difference(&checked).filter(|command| !is_checked(command)).collect();
        assert!(forgotten.is_empty() && used.len() > 20, "the check doesn't do {forgotten:?}");
    }
}
