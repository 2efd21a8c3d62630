//! What `messages doctor` reports about Postgres. This module must never create or change anything: a configured name
//! may be wrong.

use std::collections::BTreeSet;

use sqlx::Row;
use sqlx::migrate::Migrate;

use crate::connection::{ReadModel, ReadModelError};
use crate::migrations::migrator;

/// The state of Postgres and of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresHealth {
    /// Postgres's version, such as `15.14`.
    pub version: String,
    /// The version as a number, such as 150014.
    pub version_number: i32,
    /// The largest number of connections that Postgres accepts.
    pub max_connections: i64,
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
    /// Reads the state of Postgres and of the schema, which need not exist yet.
    pub async fn health(&self) -> Result<PostgresHealth, ReadModelError> {
        let (pool, _timer) = self.pool("checkup");
        let mut connection = pool.acquire().await?;
        let row = sqlx::query(
            "SELECT current_setting('server_version') AS version,
                    current_setting('server_version_num')::integer AS version_number,
                    current_setting('max_connections')::bigint AS max_connections,
                    to_regclass('_sqlx_migrations') IS NOT NULL AS migrated",
        )
        .fetch_one(&mut *connection)
        .await?;
        let applied = if row.try_get("migrated")? {
            connection.list_applied_migrations("_sqlx_migrations").await?
        } else {
            Vec::new()
        };
        let migrator = migrator();
        let pending = migrator.iter().filter(|migration| applied.iter().all(|it| it.version != migration.version));
        Ok(PostgresHealth {
            version: row.try_get("version")?,
            version_number: row.try_get("version_number")?,
            max_connections: row.try_get("max_connections")?,
            pending_migrations: pending.count(),
        })
    }

    /// Reads which partitions have a projector now.
    pub async fn leases(&self) -> Result<Leases, ReadModelError> {
        let (pool, _timer) = self.pool("leases");
        let rows = sqlx::query(
            "SELECT partition, CASE WHEN lease_until >= now() THEN owner END AS owner FROM leases ORDER BY partition",
        )
        .fetch_all(pool)
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
}
