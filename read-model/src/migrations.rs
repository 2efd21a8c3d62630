//! How the migrations run: once for each schema, by whichever process comes first.

use std::pin::pin;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::connection::ReadModel;
use crate::embedded_migrations::migrator;
use crate::error::ReadModelError;
use crate::generations;
use crate::server_settings::NoSessions;
use crate::silence::silent;

/// How often a migration is watched.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// At how many looks in a row Postgres may not be at work on the migration.
const IDLE_LOOKS_MAX: u32 = 3;

domain::limit_rows! {
    Services, "looks, 5 s apart, at which Postgres isn't at work on the migration that a process waits for", Count IDLE_LOOKS_MAX, "the attempt has failed, and the next one begins", "the start of the process";
}

impl ReadModel {
    /// Creates the schema if it is missing and runs the migrations that it lacks. Several processes may do so at once.
    ///
    /// # Errors
    /// When a migration fails, or somebody changed the schema by other means.
    pub async fn migrate(&self) -> Result<(), ReadModelError> {
        let (mut connection, pid) = self.pool.connect_without_limits().await?;
        {
            let mut migration = pin!(self.migrate_on(&mut connection));
            // A migration may take hours, so no time-out can tell whether its connection is dead.
            let mut idle_looks = 0;
            while idle_looks < IDLE_LOOKS_MAX {
                tokio::select! {
                    done = &mut migration => { done?; break }
                    () = tokio::time::sleep(WATCH_INTERVAL) => {}
                }
                let works = self.works_for(pid).await.unwrap_or(false);
                idle_looks = if works { 0 } else { idle_looks + 1 };
            }
            if idle_looks == IDLE_LOOKS_MAX {
                // Otherwise the server process keeps the lock until it learns that its client is gone.
                let _ = self.terminate(pid).await;
                return Err(silent().into());
            }
        }
        // Closing the connection releases the lock.
        Ok(connection.close().await?)
    }

    /// Whether this server process has had something to do in the last seconds.
    async fn works_for(&self, pid: i32) -> Result<bool, ReadModelError> {
        let mut connection = self.acquire("watch_migration").await?;
        let query = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_stat_activity
                            WHERE pid = $1 AND (state = 'active' OR state_change > now() - make_interval(secs => $2)))",
        );
        Ok(query.bind(pid).bind(WATCH_INTERVAL.as_secs_f64()).fetch_one(&mut connection).await?)
    }

    /// Ends a server process.
    pub(crate) async fn terminate(&self, pid: i32) -> Result<(), ReadModelError> {
        let mut connection = self.acquire("end_migration").await?;
        sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1")
            .bind(pid)
            .execute(&mut connection)
            .await?;
        Ok(())
    }

    async fn migrate_on(&self, connection: &mut PgConnection) -> Result<(), ReadModelError> {
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
        let mut migrator = migrator();
        // sqlx's own lock would also block processes that use other schemas of the database.
        migrator.set_locking(false);
        migrator.run_direct(None, connection, false).await?;
        Ok(())
    }
}

impl ReadModel {
    /// Makes the statements of migrations find the rows of the live generation, after what all generations share.
    async fn find_live_rows(&self, connection: &mut PgConnection) -> Result<(), ReadModelError> {
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
