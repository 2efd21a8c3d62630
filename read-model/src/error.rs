//! Why an operation on Postgres failed.

/// Why an operation on Postgres failed. Every method of [`ReadModel`](crate::ReadModel) can fail with it.
#[derive(Debug, thiserror::Error)]
pub enum ReadModelError {
    /// Nobody answers at the address, or the server is starting or stopping, or the connection broke or went silent. A
    /// retry may succeed.
    #[error("Postgres is unreachable: {0}")]
    Unreachable(#[source] sqlx::Error),
    /// Postgres didn't get done in time, because it is busy, or somebody holds what the operation needs. A retry may
    /// succeed, and a smaller operation more likely so.
    #[error("Postgres timed out: {0}")]
    TimedOut(#[source] sqlx::Error),
    /// Postgres takes no writes: it is a standby, or an operator made it read-only. A retry succeeds once the address
    /// leads to a Postgres that takes writes.
    #[error("Postgres is read-only: {0}")]
    ReadOnly(#[source] sqlx::Error),
    /// Another generation has become the live one since the connection was opened. A retry gets another connection.
    #[error("a rebuild has replaced the rows that this connection finds")]
    Retired,
    /// The address is wrong, or what answers there can't be used as it is set up. A retry won't help until somebody
    /// has changed that.
    #[error("Postgres can't be used as it is configured: {0}")]
    Misconfigured(#[source] sqlx::Error),
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
            Self::ReadOnly(_) => "read_only",
            Self::Retired => "retired",
            Self::Misconfigured(_) => "misconfigured",
            Self::Refused(_) | Self::Migration(_) => "refused",
        }
    }

    /// Whether the same operation may succeed later.
    pub fn is_worth_retrying(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::TimedOut(_) | Self::ReadOnly(_) | Self::Retired)
    }

    /// Whether every operation on Postgres fails for this reason, and not only those on the same rows.
    pub fn concerns_everything(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::ReadOnly(_) | Self::Retired | Self::Misconfigured(_))
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
            sqlx::Error::Configuration(_) => Self::Misconfigured(error),
            sqlx::Error::Database(ref database) => match database.code().as_deref() {
                // Waited too long for the statement, a lock, or the next statement of the transaction; deadlocks.
                Some("57014" | "55P03" | "25P03") => Self::TimedOut(error),
                Some(code) if code.starts_with("40") => Self::TimedOut(error),
                Some("25006") => Self::ReadOnly(error),
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

/// Whether the connection on which this happened is of no more use.
pub(crate) fn ends_the_connection(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        // Postgres then closes the connection; a pooler may keep its own end open.
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            code.starts_with("08") || (code.starts_with("57P") || code == "25P03") || is_read_only(error)
        }),
        _ => false,
    }
}

/// Whether Postgres refused to write. After a failover, only a new connection leads to the new primary.
pub(crate) fn is_read_only(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|database| database.code().as_deref() == Some("25006"))
}

/// Whether Postgres is expected to accept connections in a moment.
pub(crate) fn is_starting(failure: &sqlx::Error) -> bool {
    match failure {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        // Starting up, or too many connections.
        sqlx::Error::Database(database) => matches!(database.code().as_deref(), Some("57P03" | "53300")),
        _ => false,
    }
}
