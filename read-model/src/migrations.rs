//! How the migrations run: once for each schema, by whichever process comes first.

use sqlx::AssertSqlSafe;

use crate::connection::ReadModel;
use crate::embedded_migrations::migrator;
use crate::error::ReadModelError;
use crate::generations;
use crate::pool::PooledConnection;
use crate::server_settings::NoSessions;

impl ReadModel {
    /// Creates the schema if it is missing and runs the migrations that it lacks. Several processes may do so at once.
    ///
    /// # Errors
    /// When a migration fails, or somebody changed the schema by other means.
    pub async fn migrate(&self) -> Result<(), ReadModelError> {
        let mut connection = self.pool.connect_without_limits("migrate").await?;
        let pid = connection.pid();
        if let Err(error) = self.migrate_on(&mut connection).await {
            // Otherwise the server process of a dead connection keeps the lock until it learns that its client is gone.
            let _ = self.terminate(&[pid]).await;
            return Err(error);
        }
        // Closing the connection releases the lock.
        Ok(connection.close().await?)
    }

    /// Ends server processes.
    pub(crate) async fn terminate(&self, pids: &[i32]) -> Result<(), ReadModelError> {
        let mut connection = self.acquire("terminate").await?;
        sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ANY($1)")
            .bind(pids)
            .execute(&mut connection)
            .await?;
        Ok(())
    }

    async fn migrate_on(&self, connection: &mut PooledConnection) -> Result<(), ReadModelError> {
        // CREATE SCHEMA IF NOT EXISTS fails when two processes run it at once.
        sqlx::query("SELECT pg_advisory_lock(hashtext($1))").bind(&self.schema).execute(&mut *connection).await?;
        // The configuration admits only letters, digits and underscores in the name.
        let create = format!("CREATE SCHEMA IF NOT EXISTS \"{}\"", self.schema);
        sqlx::query(AssertSqlSafe(create)).execute(&mut *connection).await?;
        // A table in another schema could be anybody's.
        let is_current = sqlx::query_scalar("SELECT current_schema() = $1").bind(&self.schema);
        if !is_current.fetch_one(&mut *connection).await? {
            return Err(sqlx::Error::Configuration(Box::new(NoSessions)).into());
        }
        self.find_live_rows(connection).await?;
        Ok(connection.run_migrations(migrator()).await?)
    }
}

impl ReadModel {
    /// Makes the statements of migrations find the rows of the live generation, after what all generations share.
    async fn find_live_rows(&self, connection: &mut PooledConnection) -> Result<(), ReadModelError> {
        let is_known = "SELECT EXISTS (SELECT FROM pg_attribute
                                       WHERE attrelid = to_regclass('projection') AND attname = 'rows_schema')";
        if !sqlx::query_scalar(is_known).fetch_one(&mut *connection).await? {
            return Ok(());
        }
        let rows: Option<Option<String>> =
            sqlx::query_scalar("SELECT rows_schema FROM projection").fetch_optional(&mut *connection).await?;
        let Some(rows) = rows.flatten() else { return Ok(()) };
        let applied: i64 =
            sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations").fetch_one(&mut *connection).await?;
        if usize::try_from(applied) != Ok(migrator().iter().count()) {
            // Otherwise the rows of the first generation, if they are still there, would be found first.
            generations::drop_all_retired(connection, &self.schema).await?;
        }
        let path = format!("{}, {rows}", self.schema);
        sqlx::query("SELECT set_config('search_path', $1, false)").bind(path).execute(connection).await?;
        Ok(())
    }
}
