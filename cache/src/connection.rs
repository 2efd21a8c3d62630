//! The connection to Redis, with its time-outs, and what every operation shares. A Redis that is down must never make
//! an operation wait longer than these time-outs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};

use crate::counted_connection::CountedConnection;
use crate::keys::Keys;
use crate::local_cache::{self, LocalCache};

/// How long Redis may take to answer one operation before it counts as down.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// An operation that Redis did not complete.
#[derive(Debug, thiserror::Error)]
#[error("Redis: {0}")]
pub struct CacheError(#[from] redis::RedisError);

impl From<redis::ParsingError> for CacheError {
    fn from(error: redis::ParsingError) -> Self {
        Self(error.into())
    }
}

/// Redis, under one key prefix and for one generation of the projection. Clones share a connection, which reconnects
/// by itself. While Redis is down every operation fails fast.
#[derive(Clone)]
pub struct Cache {
    connection: ConnectionManager,
    client: redis::Client,
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
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), config)?;
        let generation = Arc::new(AtomicI64::new(0));
        Ok(Self { connection, client, prefix: prefix.into(), generation, local: Arc::new(local_cache::new()) })
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

    pub(crate) fn client(&self) -> &redis::Client {
        &self.client
    }

    pub(crate) fn keys(&self) -> Keys<'_> {
        Keys { prefix: &self.prefix, generation: self.generation() }
    }
}
