//! The connections to Redis, and what every operation shares. A Redis that is down must never make an operation wait
//! longer than the time-outs of its connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use domain::repair::ToldRepairs;
use tokio::sync::watch;

use crate::counted_connection::{CommandExecutor, CountedConnection, SharedConnection};
use crate::keys::Keys;
use crate::local_cache::LocalCache;
use crate::reconnecting::ReconnectingConnection;

/// An operation that Redis did not complete.
#[derive(Debug, thiserror::Error)]
#[error("Redis: {0}")]
pub struct CacheError(#[from] pub(crate) redis::RedisError);

impl CacheError {
    /// Whether Redis refused to write because its memory is full.
    pub fn is_full(&self) -> bool {
        self.0.to_string().contains("OOM command not allowed") || self.0.code() == Some("OOM")
    }

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

/// Redis, under one key prefix and for one generation of the projection. Clones share a connection, which is replaced
/// by itself when it leads nowhere any more. While Redis is down every operation fails fast.
///
/// What Redis may evict can be in an instance of its own: the crate's documentation says what that is.
#[derive(Clone)]
pub struct Cache {
    connection: SharedConnection,
    /// The connection to what Redis may evict, if that is in another instance.
    evictable: Option<SharedConnection>,
    prefix: Arc<str>,
    generation: Arc<AtomicI64>,
    repairs: Arc<watch::Sender<ToldRepairs>>,
    local: Arc<LocalCache>,
}

impl Cache {
    /// Prepares a connection that opens with the first operation: this succeeds while Redis is down.
    ///
    /// # Errors
    /// When `url` is not the address of a Redis.
    pub fn connect(url: &str, prefix: &str) -> Result<Self, CacheError> {
        Ok(Self::over(connect_lazily(url)?, prefix))
    }

    /// Keeps what Redis may evict in another instance. Its connection opens with the first operation, too.
    ///
    /// # Errors
    /// When `url` is not the address of a Redis.
    pub fn with_evictable_at(self, url: &str) -> Result<Self, CacheError> {
        Ok(Self { evictable: Some(connect_lazily(url)?), ..self })
    }

    /// The same Redis over a connection of its own: its operations don't wait behind those of the other.
    ///
    /// # Errors
    /// When the address of Redis has become invalid.
    pub fn with_own_connection(&self) -> Result<Self, CacheError> {
        let connection = match &self.connection {
            SharedConnection::Redis(shared) => {
                SharedConnection::Redis(ReconnectingConnection::open_lazily(shared.client().clone())?)
            }
            SharedConnection::Executor(executor) => SharedConnection::Executor(executor.clone()),
        };
        Ok(Self { connection, ..self.clone() })
    }

    /// Gives all commands to an executor. Nobody can follow publications then.
    pub fn with_executor(executor: Arc<dyn CommandExecutor>, prefix: &str) -> Self {
        Self::over(SharedConnection::Executor(executor), prefix)
    }

    fn over(connection: SharedConnection, prefix: &str) -> Self {
        let (generation, local) = (Arc::new(AtomicI64::new(0)), Arc::new(LocalCache::new()));
        let repairs = Arc::new(watch::Sender::default());
        Self { connection, evictable: None, prefix: prefix.into(), generation, repairs, local }
    }

    /// Whether what Redis may evict is in an instance of its own.
    pub fn has_evictable_instance(&self) -> bool {
        self.evictable.is_some()
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

    /// The connection to what Redis must not lose, for one operation. The metrics count its requests under the
    /// operation's name.
    pub(crate) fn connection(&self, operation: &'static str) -> CountedConnection {
        CountedConnection { connection: self.connection.clone(), operation }
    }

    /// The connection to what Redis may evict, for one operation.
    pub(crate) fn evictable_connection(&self, operation: &'static str) -> CountedConnection {
        CountedConnection { connection: self.evictable.as_ref().unwrap_or(&self.connection).clone(), operation }
    }

    pub(crate) fn repairs(&self) -> &watch::Sender<ToldRepairs> {
        &self.repairs
    }

    pub(crate) fn local(&self) -> &LocalCache {
        &self.local
    }

    /// The connection to what Redis must not lose, for subscriptions.
    pub(crate) fn subscribable(&self) -> Result<&ReconnectingConnection, CacheError> {
        subscribable(&self.connection)
    }

    /// The connection to what Redis may evict, for subscriptions.
    pub(crate) fn evictable_subscribable(&self) -> Result<&ReconnectingConnection, CacheError> {
        subscribable(self.evictable.as_ref().unwrap_or(&self.connection))
    }

    pub(crate) fn keys(&self) -> Keys<'_> {
        Keys { prefix: &self.prefix, generation: self.generation() }
    }
}

fn connect_lazily(url: &str) -> Result<SharedConnection, CacheError> {
    Ok(SharedConnection::Redis(ReconnectingConnection::open_lazily(redis::Client::open(url)?)?))
}

fn subscribable(connection: &SharedConnection) -> Result<&ReconnectingConnection, CacheError> {
    match connection {
        SharedConnection::Redis(connection) => Ok(connection),
        SharedConnection::Executor(_) => {
            Err(CacheError((redis::ErrorKind::Client, "an executor has no publications").into()))
        }
    }
}
