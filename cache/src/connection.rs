//! The connection to Redis, with its time-outs, and what every operation shares. A Redis that is down must never make
//! an operation wait longer than these time-outs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};

use crate::counted_connection::{CommandExecutor, CountedConnection, SharedConnection};
use crate::keys::Keys;
use crate::local_cache::LocalCache;

/// How long Redis may take to answer one operation before it counts as down.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// An operation that Redis did not complete.
#[derive(Debug, thiserror::Error)]
#[error("Redis: {0}")]
pub struct CacheError(#[from] redis::RedisError);

impl CacheError {
    /// A value in Redis that this version of the program can't read.
    pub(crate) fn from_value(what: &'static str) -> Self {
        Self((redis::ErrorKind::UnexpectedReturnType, what).into())
    }
}

impl From<redis::ParsingError> for CacheError {
    fn from(error: redis::ParsingError) -> Self {
        Self(error.into())
    }
}

/// Redis, under one key prefix and for one generation of the projection. Clones share a connection, which reconnects
/// by itself. While Redis is down every operation fails fast.
#[derive(Clone)]
pub struct Cache {
    connection: SharedConnection,
    prefix: Arc<str>,
    generation: Arc<AtomicI64>,
    local: Arc<LocalCache>,
}

impl Cache {
    /// Prepares a connection that opens with the first operation: this succeeds while Redis is down.
    ///
    /// # Errors
    /// When `url` is not the address of a Redis.
    pub fn connect(url: &str, prefix: &str) -> Result<Self, CacheError> {
        let client = redis::Client::open(url)?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // Each operation waits for the connection attempt under way. With retries and their pauses it would wait
            // for seconds; without them, the next operation starts the next attempt.
            .set_number_of_retries(0);
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), config)?;
        Ok(Self::over(SharedConnection::Redis { manager, client }, prefix))
    }

    /// Gives all commands to an executor. Nobody can follow publications then.
    pub fn with_executor(executor: Arc<dyn CommandExecutor>, prefix: &str) -> Self {
        Self::over(SharedConnection::Executor(executor), prefix)
    }

    fn over(connection: SharedConnection, prefix: &str) -> Self {
        let (generation, local) = (Arc::new(AtomicI64::new(0)), Arc::new(LocalCache::new()));
        Self { connection, prefix: prefix.into(), generation, local }
    }

    /// Checks that Redis answers.
    ///
    /// # Errors
    /// When it doesn't.
    pub async fn ping(&self) -> Result<(), CacheError> {
        Ok(redis::cmd("PING").query_async(&mut self.connection("ping")).await?)
    }

    /// The generation of the projection that the keys belong to; 0 until it is known.
    pub fn generation(&self) -> i64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Moves to a newer generation of the projection, never to an older one. From then on nobody finds what the older
    /// one cached.
    pub fn enter_generation(&self, generation: i64) {
        self.generation.fetch_max(generation, Ordering::AcqRel);
    }

    /// The connection, for one operation. The metrics count its requests under the operation's name.
    pub(crate) fn connection(&self, operation: &'static str) -> CountedConnection {
        CountedConnection { connection: self.connection.clone(), operation }
    }

    pub(crate) fn local(&self) -> &LocalCache {
        &self.local
    }

    /// The client, for connections that follow publications.
    pub(crate) fn client(&self) -> Result<&redis::Client, CacheError> {
        match &self.connection {
            SharedConnection::Redis { client, .. } => Ok(client),
            SharedConnection::Executor(_) => {
                Err(CacheError((redis::ErrorKind::Client, "an executor has no publications").into()))
            }
        }
    }

    pub(crate) fn keys(&self) -> Keys<'_> {
        Keys { prefix: &self.prefix, generation: self.generation() }
    }
}
