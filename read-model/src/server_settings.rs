//! The settings of each connection, and the check that they stay. Statements set them after connecting, because a pooler
//! such as PgBouncer ignores or refuses them in the start-up packet.
//!
//! The services need *sessions*: settings, prepared statements and locks that belong to one connection until it closes.
//! A pooler that gives each transaction another server connection doesn't keep them, and mixes the settings of its
//! clients. The services would then create and read tables in any schema. The pool therefore never uses a connection
//! whose settings don't stay.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use uuid::Uuid;

use crate::silence::STATEMENT_TIMEOUT_MS;

/// How long a transaction may wait for its next statement, in milliseconds. When a connection dies without a sign,
/// Postgres rolls its transaction back after this time, and frees its locks before the services try again.
const IDLE_IN_TRANSACTION_TIMEOUT_MS: u32 = 3_000;

domain::limit_rows! {
    Services, "wait of a transaction in Postgres for its next statement", Time Duration::from_millis(IDLE_IN_TRANSACTION_TIMEOUT_MS as u64), "Postgres rolls it back, and frees what it holds", "projectors, which need the same rows";
}

/// Why a pooler can't be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "the settings of a connection don't stay, because a pooler sends its statements over several connections to the \
     server; set pool_mode = session in PgBouncer for this database, or connect to Postgres directly"
)]
pub(crate) struct NoSessions;

/// Whose rows the statements of a connection find.
#[derive(Debug, Clone)]
pub(crate) enum GenerationRows {
    /// Those of the generation that is live when the connection is opened.
    Live,
    /// Those of this generation, in this schema.
    Of { generation: i64, schema: String },
    /// None but those in the configured schema itself: for migrations.
    InSchema,
}

/// The settings of the connections of a pool.
#[derive(Debug, Clone)]
pub(crate) struct ServerSettings {
    pub(crate) schema: String,
    rows: GenerationRows,
    /// How long a statement waits for a lock, in milliseconds; 0 for no limit.
    pub(crate) lock_timeout_ms: u32,
    /// How long a statement takes at most, in milliseconds; 0 for no limit.
    pub(crate) statement_timeout_ms: u32,
}

impl ServerSettings {
    /// The usual settings.
    pub(crate) fn new(schema: &str, lock_timeout_ms: u32) -> Self {
        let (schema, rows) = (schema.to_owned(), GenerationRows::Live);
        Self { schema, rows, lock_timeout_ms, statement_timeout_ms: STATEMENT_TIMEOUT_MS }
    }

    /// The same settings, with other rows.
    pub(crate) fn with_rows(&self, rows: GenerationRows) -> Self {
        Self { rows, ..self.clone() }
    }

    /// The settings for migrations, which take as long as they take.
    pub(crate) fn without_limits(&self) -> Self {
        Self { lock_timeout_ms: 0, statement_timeout_ms: 0, ..self.with_rows(GenerationRows::InSchema) }
    }

    /// Connects, makes the settings, and checks that they have stayed. The check is thorough if another connection opens
    /// in the time given for that, and makes settings of its own: a pooler without sessions then overwrites those of the
    /// first one. A pooler may have no other connection left.
    ///
    /// # Errors
    /// [`NoSessions`] when the settings haven't stayed.
    pub(crate) async fn connect(
        &self,
        options: &PgConnectOptions,
        time_for_another: Duration,
    ) -> Result<SettledConnection, sqlx::Error> {
        let Opened { mut raw, mark, generation, search_path } = self.open(options).await?;
        let other = match time_for_another {
            Duration::ZERO => None,
            time => tokio::time::timeout(time, self.open(options)).await.ok().and_then(Result::ok),
        };
        let kept = raw_row(
            &mut raw,
            format!(
                "SELECT coalesce(current_setting('messages.connection', true), '') = '{mark}'
                        AND current_setting('search_path') = '{search_path}' AS is_kept, pg_backend_pid() AS pid"
            ),
        )
        .await?;
        if !kept.try_get("is_kept")? {
            return Err(sqlx::Error::Configuration(Box::new(NoSessions)));
        }
        let is_checked = other.is_some();
        if let Some(other) = other {
            other.raw.close().await?;
        }
        Ok(SettledConnection { raw, pid: kept.try_get("pid")?, generation, is_checked })
    }

    /// Connects and makes the settings.
    async fn open(&self, options: &PgConnectOptions) -> Result<Opened, sqlx::Error> {
        let mut connection = PgConnection::connect_with(options).await?;
        let mark = Uuid::now_v7();
        let (statement, idle) = (self.statement_timeout_ms.to_string(), IDLE_IN_TRANSACTION_TIMEOUT_MS.to_string());
        let settings = [
            ("messages.connection", mark.to_string().as_str()),
            // The configuration admits only letters, digits and underscores in the name.
            ("search_path", &self.schema),
            ("statement_timeout", &statement),
            ("idle_in_transaction_session_timeout", &idle),
            ("lock_timeout", &self.lock_timeout_ms.to_string()),
            // In seconds. Within half a minute, Postgres learns that a client's machine is gone, and frees its locks.
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
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
        ]
        .map(|(name, value)| format!("set_config('{name}', '{value}', false)"));
        // Before the migration that brings generations, there is one, in the configured schema.
        let has_generations = format!(
            "EXISTS (SELECT FROM pg_attribute
                     WHERE attrelid = to_regclass('{}.projection') AND attname = 'rows_schema') AS has_generations",
            self.schema
        );
        let set = raw_row(&mut connection, format!("SELECT {}, {has_generations}", settings.join(", "))).await?;
        let (generation, search_path) = match &self.rows {
            GenerationRows::InSchema => (None, self.schema.clone()),
            GenerationRows::Live if !set.try_get("has_generations")? => (None, self.schema.clone()),
            GenerationRows::Live => self.use_live_rows(&mut connection).await?,
            GenerationRows::Of { generation, schema } => {
                let path = self.path_to(schema);
                raw_row(&mut connection, format!("SELECT set_config('search_path', '{path}', false)")).await?;
                (Some(*generation), path)
            }
        };
        Ok(Opened { raw: connection, mark, generation, search_path })
    }

    /// Makes the statements of a connection find the rows of the live generation.
    async fn use_live_rows(&self, connection: &mut PgConnection) -> Result<(Option<i64>, String), sqlx::Error> {
        let path = self.path_to("' || rows_schema || '");
        let live = format!(
            "SELECT generation, set_config('search_path', coalesce('{path}', '{0}'), false) AS path FROM {0}.projection",
            self.schema
        );
        let row = sqlx::raw_sql(AssertSqlSafe(live)).fetch_optional(connection).await?;
        match row {
            Some(row) => Ok((Some(row.try_get("generation")?), row.try_get("path")?)),
            None => Ok((None, self.schema.clone())),
        }
    }

    /// The search path on which the rows of a schema come first. What all generations share is in the configured schema.
    fn path_to(&self, rows: &str) -> String {
        if rows == self.schema { self.schema.clone() } else { format!("{rows}, {}", self.schema) }
    }
}

/// A connection that was just opened.
struct Opened {
    raw: PgConnection,
    /// No other connection has it.
    mark: Uuid,
    /// The generation whose rows its statements find; none if there is none yet.
    generation: Option<i64>,
    search_path: String,
}

/// A connection that has its settings.
pub(crate) struct SettledConnection {
    pub(crate) raw: PgConnection,
    /// The id of its server process.
    pub(crate) pid: i32,
    /// The generation whose rows its statements find; none if there is none yet.
    pub(crate) generation: Option<i64>,
    /// Whether the check was thorough.
    pub(crate) is_checked: bool,
}

/// Runs a statement without preparing it: a pooler without sessions would lose the prepared statement.
async fn raw_row(connection: &mut PgConnection, statement: String) -> Result<sqlx::postgres::PgRow, sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).fetch_one(connection).await
}
