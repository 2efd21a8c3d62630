//! The pool, its limits, and migrations.

use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, Transaction};

/// How a transaction begins that writes.
pub(crate) const WRITING: &str = "BEGIN";
/// How a transaction begins in which every statement sees the same.
pub(crate) const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// What makes the schema, step by step.
pub(crate) const MIGRATIONS: Migrator = sqlx::migrate!("../migrations");
/// How long to wait for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// Postgres did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ReadModelError {
    /// It can't be reached, or has no time: worth another try.
    #[error("Postgres is out of reach: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// It was reached and said no, or a row is not what it should be.
    #[error("Postgres: {0}")]
    Failed(#[source] sqlx::Error),
    /// The migrations can't be run.
    #[error("the schema can't be migrated: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

impl From<sqlx::Error> for ReadModelError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            // As a proxy in front of a Postgres that is away closes the connection, it seems to say nonsense.
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed => Self::Unavailable(error),
            // 57: cancelled or shutting down; 08: connections; 53: no resources left; 40: a deadlock was resolved;
            // 55P03 and 25P03: waited for a lock, or idled in a transaction, for too long.
            sqlx::Error::Database(ref database)
                if database.code().is_some_and(|code| {
                    ["57", "08", "53", "40"].iter().any(|class| code.starts_with(class))
                        || ["55P03", "25P03"].contains(&&*code)
                }) =>
            {
                Self::Unavailable(error)
            }
            _ => Self::Failed(error),
        }
    }
}

/// The read model, in one schema of a database. Clones share the connections.
#[derive(Clone)]
pub struct ReadModel {
    pool: PgPool,
    options: PgConnectOptions,
    schema: String,
}

impl ReadModel {
    /// Connects when it is first needed: this succeeds while Postgres is down.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn connect(url: &str, schema: &str, connections: u32) -> Result<Self, ReadModelError> {
        let options = PgConnectOptions::from_str(url)?.application_name("messages").options([
            ("search_path", schema),
            // A statement that takes this long is lost anyway; whoever waits has given up.
            ("statement_timeout", "5000"),
            ("idle_in_transaction_session_timeout", "10000"),
            ("lock_timeout", "4000"),
            // Postgres may lose the last moments in a crash: the offsets go back with the rows, and are folded again.
            ("synchronous_commit", "off"),
            // Every query here reaches its rows by an index. Without statistics, in a new database or after a rebuild,
            // the planner takes large tables for small ones and reads them whole.
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("random_page_cost", "1.1"),
            ("jit", "off"),
            // A plan that is kept while the tables fill would still suit them when they are small.
            ("plan_cache_mode", "force_custom_plan"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // It costs a round trip each time, and a broken connection shows itself anyway.
            .test_before_acquire(false)
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options, schema: schema.to_owned() })
    }

    /// Makes the schema where it is missing and brings it up to date. Safe to run from several processes at once.
    ///
    /// # Errors
    /// When Postgres doesn't answer, or the schema was changed by other means.
    pub async fn migrate(&self) -> Result<(), ReadModelError> {
        let options = self.options.clone().options([("statement_timeout", "0"), ("lock_timeout", "0")]);
        let mut connection = PgConnection::connect_with(&options).await?;
        // CREATE SCHEMA IF NOT EXISTS fails when two run it at once.
        sqlx::query("SELECT pg_advisory_lock(hashtext($1))").bind(&self.schema).execute(&mut connection).await?;
        // The name was checked when the configuration was read: letters, digits and underscores.
        let create = format!("CREATE SCHEMA IF NOT EXISTS \"{}\"", self.schema);
        sqlx::query(AssertSqlSafe(create)).execute(&mut connection).await?;
        let mut migrations = MIGRATIONS;
        // sqlx would lock out everyone else in the database.
        migrations.set_locking(false);
        migrations.run_direct(None, &mut connection, false).await?;
        // The lock goes with the connection.
        Ok(connection.close().await?)
    }

    /// Whether Postgres answers and the schema is there.
    ///
    /// # Errors
    /// When not.
    pub async fn ping(&self) -> Result<(), ReadModelError> {
        sqlx::query("SELECT 1 FROM projection LIMIT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// The pool, for an operation that is counted and timed by name.
    pub(crate) fn pool(&self, operation: &'static str) -> (&PgPool, Timer) {
        metrics::counter!("postgres_queries_total", "operation" => operation).increment(1);
        metrics::gauge!("postgres_connections").set(f64::from(self.pool.size()));
        metrics::gauge!("postgres_connections_idle").set(self.pool.num_idle() as f64);
        (&self.pool, Timer { operation, started: Instant::now() })
    }
}

/// Begins a transaction, with a statement. In a task of its own, for it must not be dropped halfway: sqlx would give
/// the connection back to the pool with the transaction open, and whoever has it next would read what was long ago.
pub(crate) async fn begin(
    pool: &PgPool,
    statement: &'static str,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let pool = pool.clone();
    let begun = tokio::spawn(async move { pool.begin_with(statement).await });
    begun.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}

/// Records how long an operation took when it goes out of scope.
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
