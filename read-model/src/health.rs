//! What `messages doctor` reports about Postgres. This module must never create or change anything: a configured name
//! may be wrong.

use std::collections::BTreeSet;

use sqlx::Row;

use crate::connection::ReadModel;
use crate::embedded_migrations::migrator;
use crate::error::ReadModelError;
use crate::pool::PooledConnection;

/// The state of Postgres and of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresHealth {
    /// Postgres's version, such as `15.14`.
    pub version: String,
    /// The version as a number, such as 150014.
    pub version_number: i32,
    /// The largest number of connections that Postgres accepts.
    pub max_connections: i64,
    /// Whether Postgres refuses writes: it is a standby, or somebody made it read-only.
    pub is_read_only: bool,
    /// How many of this build's migrations the schema still lacks.
    pub pending_migrations: usize,
}

/// Which partitions have a projector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leases {
    /// How many projectors own at least one partition.
    pub projectors: usize,
    /// The partitions that no projector owns.
    pub unowned: Vec<i32>,
}

impl ReadModel {
    /// Checks that Postgres answers and the schema exists: all that a service needs that only reads.
    ///
    /// # Errors
    /// When the schema doesn't exist.
    pub async fn check_readable(&self) -> Result<(), ReadModelError> {
        let mut connection = self.acquire("check_readable").await?;
        sqlx::query("SELECT 1 FROM projection LIMIT 1").execute(&mut connection).await?;
        Ok(())
    }

    /// Checks that Postgres takes writes: commits one, as a projector does. All processes write the same row, which
    /// counts as a projector that is gone.
    ///
    /// # Errors
    /// [`ReadModelError::ReadOnly`] when Postgres is a standby or is read-only, and others when the schema doesn't
    /// exist, or the disk is full.
    pub async fn check_writable(&self) -> Result<(), ReadModelError> {
        let mut connection = self.acquire("check_writable").await?;
        sqlx::query(
            "INSERT INTO projectors (owner, alive_until) VALUES ('health check', now())
             ON CONFLICT (owner) DO UPDATE SET alive_until = excluded.alive_until",
        )
        .execute(&mut connection)
        .await?;
        Ok(())
    }

    /// Reads the state of Postgres and of the schema, which need not exist yet.
    pub async fn health(&self) -> Result<PostgresHealth, ReadModelError> {
        let mut connection = self.acquire("checkup").await?;
        let row = sqlx::query(
            "SELECT current_setting('server_version') AS version,
                    current_setting('server_version_num')::integer AS version_number,
                    current_setting('max_connections')::bigint AS max_connections,
                    current_setting('transaction_read_only')::boolean AS is_read_only,
                    to_regclass('_sqlx_migrations') IS NOT NULL AS migrated",
        )
        .fetch_one(&mut connection)
        .await?;
        let applied: Vec<i64> = if row.try_get("migrated")? {
            sqlx::query_scalar("SELECT version FROM _sqlx_migrations").fetch_all(&mut connection).await?
        } else {
            Vec::new()
        };
        let migrator = migrator();
        let pending = migrator.iter().filter(|migration| !applied.contains(&migration.version));
        Ok(PostgresHealth {
            version: row.try_get("version")?,
            version_number: row.try_get("version_number")?,
            max_connections: row.try_get("max_connections")?,
            is_read_only: row.try_get("is_read_only")?,
            pending_migrations: pending.count(),
        })
    }

    /// Reads which partitions have a projector now.
    pub async fn leases(&self) -> Result<Leases, ReadModelError> {
        Ok(leases(&mut self.acquire("leases").await?).await?)
    }
}

/// Reads which partitions have a projector.
pub(crate) async fn leases(connection: &mut PooledConnection) -> Result<Leases, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT partition, CASE WHEN lease_until >= now() THEN owner END AS owner FROM leases ORDER BY partition",
    )
    .fetch_all(connection)
    .await?;
    let mut owners = BTreeSet::new();
    let mut unowned = Vec::new();
    for row in rows {
        match row.try_get::<Option<String>, _>("owner")? {
            Some(owner) => drop(owners.insert(owner)),
            None => unowned.push(row.try_get("partition")?),
        }
    }
    Ok(Leases { projectors: owners.len(), unowned })
}
