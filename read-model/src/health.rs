//! The read model as it is, for those who look after it: nothing is made or changed.

use sqlx::Row;
use sqlx::migrate::Migrate;

use crate::connection::{MIGRATIONS, ReadModel, ReadModelError};

/// What Postgres says of itself and of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresHealth {
    /// Its version, such as `15.14`.
    pub version: String,
    /// The same as a number: 150014.
    pub version_number: i32,
    /// The most connections that it takes.
    pub max_connections: i64,
    /// How many of the migrations that this build has were not run in the schema.
    pub pending_migrations: usize,
}

/// Who projects what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leases {
    /// How many projectors there are.
    pub projectors: usize,
    /// The partitions that none of them has.
    pub free: Vec<i32>,
}

impl ReadModel {
    /// Looks Postgres over. It works also where nothing was migrated yet.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
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
        let pending = MIGRATIONS.iter().filter(|migration| applied.iter().all(|it| it.version != migration.version));
        Ok(PostgresHealth {
            version: row.try_get("version")?,
            version_number: row.try_get("version_number")?,
            max_connections: row.try_get("max_connections")?,
            pending_migrations: pending.count(),
        })
    }

    /// Who projects what now.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn leases(&self) -> Result<Leases, ReadModelError> {
        let (pool, _timer) = self.pool("leases");
        let rows = sqlx::query(
            "SELECT partition, CASE WHEN lease_until >= now() THEN owner END AS owner FROM leases ORDER BY partition",
        )
        .fetch_all(pool)
        .await?;
        let (mut owners, mut free) = (std::collections::BTreeSet::new(), Vec::new());
        for row in rows {
            match row.try_get::<Option<String>, _>("owner")? {
                Some(owner) => drop(owners.insert(owner)),
                None => free.push(row.try_get("partition")?),
            }
        }
        Ok(Leases { projectors: owners.len(), free })
    }
}
