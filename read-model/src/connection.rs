//! The connections to Postgres: their pool, their settings and time limits, and how the schema is migrated. A
//! transaction must never go back to the pool open.

use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, Transaction};

use crate::migrations::migrator;

/// The statement that begins a transaction that writes.
pub(crate) const READ_WRITE: &str = "BEGIN";
/// The statement that begins a transaction whose statements all see the same state of the database.
pub(crate) const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// How long a statement waits for a lock, in milliseconds.
const LOCK_TIMEOUT: &str = "4000";
/// The same for a projector.
const PROJECTOR_LOCK_TIMEOUT: &str = "1000";
/// How many connections a projector opens at most: one for the batches of the healthy partitions, three for partitions
/// that are set apart, and the others for leases, dead letters and publications.
const PROJECTOR_CONNECTIONS: u32 = 8;
/// How long an operation waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

domain::limit_rows! {
    Services, "connections to Postgres that a projector opens", Count PROJECTOR_CONNECTIONS, "its operations wait for a connection", "Postgres, and the other processes";
    Services, "wait for a free connection to Postgres", Time ACQUIRE_TIMEOUT, "503 `unavailable`", "tasks and connections";
}

/// Why an operation on Postgres failed. Every method of [`ReadModel`] can fail with it.
#[derive(Debug, thiserror::Error)]
pub enum ReadModelError {
    /// Nobody answers at the address, or the server is starting or stopping, or the connection broke. A retry may
    /// succeed.
    #[error("Postgres is unreachable: {0}")]
    Unreachable(#[source] sqlx::Error),
    /// Postgres didn't get done in time, because it is busy, or somebody holds what the operation needs. A retry may
    /// succeed, and a smaller operation more likely so.
    #[error("Postgres timed out: {0}")]
    TimedOut(#[source] sqlx::Error),
    /// Postgres refused a statement, or a row doesn't have the expected form. A retry won't help until somebody has
    /// removed the cause.
    #[error("Postgres refused a statement: {0}")]
    Refused(#[source] sqlx::Error),
    /// A migration failed, or somebody changed the schema by other means.
    #[error("migrating the Postgres schema failed: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

impl ReadModelError {
    /// The kind of failure, as a metric label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut(_) => "timed_out",
            Self::Refused(_) | Self::Migration(_) => "refused",
        }
    }
}

impl From<sqlx::Error> for ReadModelError {
    fn from(error: sqlx::Error) -> Self {
        let failure = match error {
            // A proxy closes the connection while the Postgres behind it is down. sqlx takes that for a protocol error.
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolClosed => {
                Self::Unreachable(error)
            }
            sqlx::Error::PoolTimedOut => Self::TimedOut(error),
            sqlx::Error::Database(ref database) => match database.code().as_deref() {
                // Waited too long for the statement, a lock, or the next statement of the transaction; deadlocks.
                Some("57014" | "55P03" | "25P03") => Self::TimedOut(error),
                Some(code) if code.starts_with("40") => Self::TimedOut(error),
                // Shutting down or starting, connection failure, too many connections.
                Some(code) if code.starts_with("57") || code.starts_with("08") || code == "53300" => {
                    Self::Unreachable(error)
                }
                _ => Self::Refused(error),
            },
            _ => Self::Refused(error),
        };
        metrics::counter!("postgres_failures_total", "failure" => failure.kind()).increment(1);
        failure
    }
}

/// The read model in one schema of a database. Clones share the pool of connections.
#[derive(Clone)]
pub struct ReadModel {
    pool: PgPool,
    options: PgConnectOptions,
    schema: String,
}

impl ReadModel {
    /// Prepares a pool of at most `connections`. Each connects when an operation first needs it, so this also succeeds
    /// while Postgres is down.
    ///
    /// # Errors
    /// When `url` is not a valid Postgres address.
    pub fn connect(url: &str, schema: &str, connections: u32) -> Result<Self, ReadModelError> {
        Self::with_lock_timeout(url, schema, connections, LOCK_TIMEOUT)
    }

    /// Prepares a pool for a projector: readers never take its connections. An operation fails soon if somebody holds a
    /// lock that it needs, so that what doesn't need the lock goes on.
    ///
    /// # Errors
    /// When `url` is not a valid Postgres address.
    pub fn connect_projector(url: &str, schema: &str) -> Result<Self, ReadModelError> {
        Self::with_lock_timeout(url, schema, PROJECTOR_CONNECTIONS, PROJECTOR_LOCK_TIMEOUT)
    }

    fn with_lock_timeout(
        url: &str,
        schema: &str,
        connections: u32,
        lock_timeout_ms: &str,
    ) -> Result<Self, ReadModelError> {
        let options = PgConnectOptions::from_str(url)?.application_name("messages").options([
            ("search_path", schema),
            // In milliseconds. After this time the client that waits for the statement has given up.
            ("statement_timeout", "5000"),
            ("idle_in_transaction_session_timeout", "10000"),
            ("lock_timeout", lock_timeout_ms),
            // In a crash, Postgres may lose the last commits. The rows and offsets go back together, and the projector
            // folds the events again.
            ("synchronous_commit", "off"),
            // Every query of this crate can use an index. Without statistics, in a new database or after a rebuild, the
            // planner takes large tables for small ones and reads all of their rows.
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("random_page_cost", "1.1"),
            ("jit", "off"),
            // A generic plan from when the tables were small would stay in use while they grow.
            ("plan_cache_mode", "force_custom_plan"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // A test costs a round trip each time, and a broken connection also shows in the first statement.
            .test_before_acquire(false)
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options, schema: schema.to_owned() })
    }

    /// Creates the schema if it is missing and runs the migrations that it lacks. Several processes may do so at once.
    ///
    /// # Errors
    /// When a migration fails, or somebody changed the schema by other means.
    pub async fn migrate(&self) -> Result<(), ReadModelError> {
        let options = self.options.clone().options([("statement_timeout", "0"), ("lock_timeout", "0")]);
        let mut connection = PgConnection::connect_with(&options).await?;
        // CREATE SCHEMA IF NOT EXISTS fails when two processes run it at once.
        sqlx::query("SELECT pg_advisory_lock(hashtext($1))").bind(&self.schema).execute(&mut connection).await?;
        // The configuration admits only letters, digits and underscores in the name.
        let create = format!("CREATE SCHEMA IF NOT EXISTS \"{}\"", self.schema);
        sqlx::query(AssertSqlSafe(create)).execute(&mut connection).await?;
        let mut migrator = migrator();
        // sqlx's own lock would also block processes that use other schemas of the database.
        migrator.set_locking(false);
        migrator.run_direct(None, &mut connection, false).await?;
        // Closing the connection releases the lock.
        Ok(connection.close().await?)
    }

    /// Checks that Postgres answers and the schema exists.
    ///
    /// # Errors
    /// When the schema doesn't exist.
    pub async fn ping(&self) -> Result<(), ReadModelError> {
        sqlx::query("SELECT 1 FROM projection LIMIT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// The pool, for one operation. The metrics count the operation under its name, and record how long it takes: until
    /// the timer is dropped.
    pub(crate) fn pool(&self, operation: &'static str) -> (&PgPool, Timer) {
        metrics::counter!("postgres_queries_total", "operation" => operation).increment(1);
        metrics::gauge!("postgres_connections").set(f64::from(self.pool.size()));
        metrics::gauge!("postgres_connections_idle").set(self.pool.num_idle() as f64);
        (&self.pool, Timer { operation, started: Instant::now() })
    }
}

/// Begins a transaction with a statement: [`READ_WRITE`] or [`SNAPSHOT`].
///
/// A task of its own does it, because a caller may drop its future at any moment. If that dropped a half-begun
/// transaction, sqlx would return the connection to the pool with the transaction open, and the next user of the
/// connection would read an old snapshot.
pub(crate) async fn begin(
    pool: &PgPool,
    statement: &'static str,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let pool = pool.clone();
    let beginning = tokio::spawn(async move { pool.begin_with(statement).await });
    beginning.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}

/// Records how long an operation took, when it is dropped.
pub(crate) struct Timer {
    operation: &'static str,
    started: Instant,
}

impl Drop for Timer {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        metrics::histogram!("postgres_query_duration_seconds", "operation" => self.operation).record(elapsed);
    }
}
