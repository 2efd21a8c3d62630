//! Retired generations, and what rebuilds that came to nothing have left behind.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Row};

use super::schema::{self, run};
use crate::connection::ReadModel;
use crate::error::ReadModelError;
use crate::pool::PooledConnection;

/// How long the rows of a retired generation are kept.
const RETIRED_FOR: Duration = Duration::from_secs(600);

domain::limit_rows! {
    Services, "rows of a generation that another one has replaced", Time RETIRED_FOR, "a projector drops them", "Postgres' disk";
}

/// Takes the lock on rebuilding, which the connection holds until it closes. False if another one has it.
pub(super) async fn try_lock(connection: &mut PooledConnection, base: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtext($1))").bind(lock_name(base)).fetch_one(connection).await
}

/// Drops the generations that have been retired for long, and those that nobody builds any more. The caller has the lock
/// on rebuilding.
pub(super) async fn drop_unused(connection: &mut PooledConnection, base: &str) -> Result<(), sqlx::Error> {
    drop_older(connection, base, RETIRED_FOR).await
}

/// Drops all retired generations, however long they have been. Waits until no rebuild is at work.
pub(crate) async fn drop_all_retired(connection: &mut PooledConnection, base: &str) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_lock(hashtext($1))").bind(lock_name(base)).execute(&mut *connection).await?;
    drop_older(connection, base, Duration::ZERO).await
}

/// Drops the generations that nobody builds any more, and those that have been retired for so long.
async fn drop_older(connection: &mut PooledConnection, base: &str, retired_for: Duration) -> Result<(), sqlx::Error> {
    // A generation that was to become the live one again, and didn't: there is still a way back. A dry run may be one before
    // the migration that adds the column.
    let returned = "status = 'building' AND to_jsonb(kept) ->> 'last_repair' IS NOT NULL";
    run(connection, format!("UPDATE {base}.generations AS kept SET status = 'retired' WHERE {returned}")).await?;
    let unused = sqlx::query(AssertSqlSafe(format!(
        "SELECT generation, rows_schema FROM {base}.generations
         WHERE status = 'building' OR changed_at <= now() - make_interval(secs => $1)"
    )));
    for row in unused.bind(retired_for.as_secs_f64()).fetch_all(&mut *connection).await? {
        let (number, rows): (i64, String) = (row.try_get("generation")?, row.try_get("rows_schema")?);
        schema::drop(connection, base, &rows).await?;
        run(connection, format!("DELETE FROM {base}.generations WHERE generation = {number}")).await?;
        tracing::info!(generation = number, schema = rows, "dropped the rows of a generation that isn't in use");
    }
    Ok(())
}

/// The name of the lock on rebuilding.
pub(crate) fn lock_name(base: &str) -> String {
    format!("rebuild {base}")
}

impl ReadModel {
    /// Drops the generations that aren't in use any more. False if a rebuild is at work, which does so itself.
    pub async fn drop_unused_generations(&self) -> Result<bool, ReadModelError> {
        let mut connection = self.acquire("unused_generations").await?;
        let unused: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM generations
             WHERE status = 'building' OR changed_at < now() - make_interval(secs => $1)",
        )
        .bind(RETIRED_FOR.as_secs_f64())
        .fetch_one(&mut connection)
        .await?;
        drop(connection);
        if unused == 0 {
            return Ok(true);
        }
        let mut connection = self.pool.connect_without_limits("drop_generations").await?;
        let is_free = try_lock(&mut connection, &self.schema).await?;
        if is_free {
            drop_unused(&mut connection, &self.schema).await?;
        }
        connection.close().await?;
        Ok(is_free)
    }
}
