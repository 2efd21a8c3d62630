//! The read model in a schema of Postgres: how operations get their connections and begin their transactions.

use std::future::Future;
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use crate::error::ReadModelError;
use crate::pool::{ConnectionPool, PooledConnection};
use crate::server_settings::ServerSettings;

/// The statement that begins a transaction that writes.
pub(crate) const READ_WRITE: &str = "BEGIN";
/// The statement that begins a transaction whose statements all see the same state of the database.
pub(crate) const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// How long a statement waits for a lock, in milliseconds.
const LOCK_TIMEOUT_MS: u32 = 2_500;
/// The same for a projector.
const PROJECTOR_LOCK_TIMEOUT_MS: u32 = 1_000;
/// How many connections a projector opens at most: one for the batches of the healthy partitions, three for partitions
/// that are set apart, and the others for leases, dead letters and publications.
const PROJECTOR_CONNECTIONS: u32 = 8;

domain::limit_rows! {
    Services, "connections to Postgres that a projector opens", Count PROJECTOR_CONNECTIONS, "its operations wait for a connection", "Postgres, and the other processes";
}

/// The read model in one schema of a database. Clones share the pool of connections.
#[derive(Clone)]
pub struct ReadModel {
    pub(crate) pool: ConnectionPool,
    pub(crate) schema: String,
}

impl ReadModel {
    /// Prepares a pool of at most `connections`. Each connects when an operation first needs it, so this also succeeds
    /// while Postgres is down.
    ///
    /// # Errors
    /// When `url` is not a valid Postgres address.
    pub fn connect(url: &str, schema: &str, connections: u32) -> Result<Self, ReadModelError> {
        Self::with_lock_timeout(url, schema, connections, LOCK_TIMEOUT_MS)
    }

    /// Prepares a pool for a projector: readers never take its connections. An operation fails soon if somebody holds a
    /// lock that it needs, so that what doesn't need the lock goes on.
    ///
    /// # Errors
    /// When `url` is not a valid Postgres address.
    pub fn connect_projector(url: &str, schema: &str) -> Result<Self, ReadModelError> {
        Self::with_lock_timeout(url, schema, PROJECTOR_CONNECTIONS, PROJECTOR_LOCK_TIMEOUT_MS)
    }

    fn with_lock_timeout(
        url: &str,
        schema: &str,
        connections: u32,
        lock_timeout_ms: u32,
    ) -> Result<Self, ReadModelError> {
        let options = PgConnectOptions::from_str(url)?.application_name("messages");
        // PgBouncer would refuse it. No statement reads a float.
        let options = options.extra_float_digits(None);
        let pool = ConnectionPool::new(options, ServerSettings::new(schema, lock_timeout_ms), connections);
        Ok(Self { pool, schema: schema.to_owned() })
    }

    /// Checks that the services can use what answers at the address as it is set up. Succeeds, too, while nobody answers.
    ///
    /// # Errors
    /// [`ReadModelError::Misconfigured`] when a pooler doesn't keep sessions.
    pub async fn ensure_usable(&self) -> Result<(), ReadModelError> {
        match self.pool.check_sessions().await.map_err(ReadModelError::from) {
            Err(error @ ReadModelError::Misconfigured(_)) => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// A connection for one operation, whose name the metrics show.
    pub(crate) async fn acquire(&self, operation: &'static str) -> Result<PooledConnection, sqlx::Error> {
        self.pool.acquire(operation).await
    }

    /// A connection on which a transaction has begun with a statement: [`READ_WRITE`] or [`SNAPSHOT`].
    pub(crate) async fn begin(
        &self,
        operation: &'static str,
        statement: &'static str,
    ) -> Result<PooledConnection, sqlx::Error> {
        let mut connection = self.acquire(operation).await?;
        connection.begin(statement).await?;
        Ok(connection)
    }

    /// Reads from the live generation: again on another connection, if the first one was opened before the generation
    /// became the live one.
    pub(crate) async fn read_live<T, F>(&self, read: impl Fn() -> F) -> Result<T, ReadModelError>
    where
        F: Future<Output = Result<T, ReadModelError>>,
    {
        // What only sometimes reads from Postgres, as a request does, shouldn't be as large as if it always did.
        match Box::pin(read()).await {
            Err(ReadModelError::Retired) => Box::pin(read()).await,
            done => done,
        }
    }
}
