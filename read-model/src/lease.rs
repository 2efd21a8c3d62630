//! Leases: who should work on which partition. Postgres's clock decides, so that nobody else's has to be right.

use std::time::Duration;

use sqlx::{PgConnection, Row};

use crate::connection::{ReadModel, ReadModelError, WRITING, begin};

impl ReadModel {
    /// Renews the owner's leases, gives up those beyond a fair share, and takes free ones up to it. Gives the
    /// partitions that the owner has now, with their next offsets.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn lease(&self, owner: &str, ttl: Duration) -> Result<Vec<(i32, i64)>, ReadModelError> {
        let (pool, _timer) = self.pool("lease");
        let mut transaction = begin(pool, WRITING).await?;
        let share = fair_share(&mut transaction, owner, ttl).await?;
        let seconds = ttl.as_secs_f64();
        // Partitions beyond the share go to others; the rest are kept, expired or not, as long as nobody took them.
        sqlx::query(
            "UPDATE leases SET
                 owner = CASE WHEN kept THEN $1 END,
                 lease_until = CASE WHEN kept THEN now() + make_interval(secs => $2) END
             FROM (SELECT partition AS own, row_number() OVER (ORDER BY partition) <= $3 AS kept
                   FROM leases WHERE owner = $1) AS mine
             -- Looked at again once the row is locked: an expired one may just have gone to another owner.
             WHERE partition = own AND owner = $1",
        )
        .bind(owner)
        .bind(seconds)
        .bind(share)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "UPDATE leases SET owner = $1, lease_until = now() + make_interval(secs => $2)
             WHERE partition IN (
                 SELECT partition FROM leases WHERE owner IS NULL OR lease_until < now()
                 ORDER BY partition
                 LIMIT greatest(0, $3 - (SELECT count(*) FROM leases WHERE owner = $1))
                 FOR UPDATE SKIP LOCKED)",
        )
        .bind(owner)
        .bind(seconds)
        .bind(share)
        .execute(&mut *transaction)
        .await?;
        let rows = sqlx::query(
            "SELECT partition, next_offset FROM leases JOIN partitions USING (partition)
             WHERE owner = $1 ORDER BY partition",
        )
        .bind(owner)
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let leased = rows.iter().map(|row| Ok((row.try_get("partition")?, row.try_get("next_offset")?)));
        Ok(leased.collect::<Result<_, sqlx::Error>>()?)
    }

    /// Gives all of an owner's leases back at once, for others to take over without waiting.
    ///
    /// # Errors
    /// When Postgres doesn't answer; the leases then run out by themselves.
    pub async fn release(&self, owner: &str) -> Result<(), ReadModelError> {
        let (pool, _timer) = self.pool("release");
        let mut transaction = begin(pool, WRITING).await?;
        sqlx::query("UPDATE leases SET owner = NULL, lease_until = NULL WHERE owner = $1")
            .bind(owner)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM projectors WHERE owner = $1").bind(owner).execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }
}

/// Says that the owner lives, and how many partitions each living projector should have.
async fn fair_share(connection: &mut PgConnection, owner: &str, ttl: Duration) -> Result<i64, sqlx::Error> {
    sqlx::query(
        "INSERT INTO projectors (owner, alive_until) VALUES ($1, now() + make_interval(secs => $2))
         ON CONFLICT (owner) DO UPDATE SET alive_until = excluded.alive_until",
    )
    .bind(owner)
    .bind(ttl.as_secs_f64())
    .execute(&mut *connection)
    .await?;
    let row = sqlx::query(
        "WITH gone AS (DELETE FROM projectors WHERE alive_until < now() - interval '1 minute')
         SELECT ceil((SELECT count(*) FROM leases)::numeric
                     / (SELECT count(*) FROM projectors WHERE alive_until > now()))::bigint AS share",
    )
    .fetch_one(connection)
    .await?;
    row.try_get("share")
}
