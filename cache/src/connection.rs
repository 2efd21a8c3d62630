//! The connection, and what every operation shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};

use crate::facts::{self, Held};
use crate::keys::Keys;

/// How long Redis may take to answer before it counts as down, for one operation.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Redis did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("Redis: {0}")]
pub struct CacheError(#[from] redis::RedisError);

impl From<redis::ParsingError> for CacheError {
    fn from(error: redis::ParsingError) -> Self {
        Self(error.into())
    }
}

/// Redis, under one prefix and for one generation of the projection. Clones share a connection, which
/// reconnects by itself; while it is down every operation fails fast.
#[derive(Clone)]
pub struct Cache {
    connection: ConnectionManager,
    client: redis::Client,
    prefix: Arc<str>,
    generation: Arc<AtomicI64>,
    held: Arc<Held>,
}

impl Cache {
    /// Connects lazily: this succeeds while Redis is down.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn connect(url: &str, prefix: &str) -> Result<Self, CacheError> {
        let client = redis::Client::open(url)?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // An operation waits for a try that is under way: with several and their pauses, for seconds. Each
            // that fails begins the next try.
            .set_number_of_retries(0);
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), config)?;
        let generation = Arc::new(AtomicI64::new(0));
        Ok(Self { connection, client, prefix: prefix.into(), generation, held: Arc::new(facts::held()) })
    }

    /// Whether Redis answers.
    ///
    /// # Errors
    /// When it doesn't.
    pub async fn ping(&self) -> Result<(), CacheError> {
        Ok(redis::cmd("PING").query_async(&mut self.connection()).await?)
    }

    /// Which generation of the projection the keys belong to; 0 until it is known.
    pub fn generation(&self) -> i64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Moves on to a newer generation of the projection; never back. What the older one cached is out of
    /// reach from then on.
    pub fn enter_generation(&self, generation: i64) {
        self.generation.fetch_max(generation, Ordering::AcqRel);
    }

    pub(crate) fn connection(&self) -> ConnectionManager {
        self.connection.clone()
    }

    pub(crate) fn held(&self) -> &Held {
        &self.held
    }

    pub(crate) fn client(&self) -> &redis::Client {
        &self.client
    }

    pub(crate) fn keys(&self) -> Keys<'_> {
        Keys { prefix: &self.prefix, generation: self.generation() }
    }
}
