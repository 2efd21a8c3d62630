//! Leases: which projector should work on which partition.
//!
//! A lease only shares the work out. Two projectors may both believe that they own a partition; the compare-and-set in
//! `commit` keeps the data right. Only Postgres's clock decides when a lease ends, so the clocks of projectors don't
//! matter.

use std::time::Duration;

use crate::pool::PooledConnection;
use sqlx::Row;

use crate::connection::{READ_WRITE, ReadModel};
use crate::error::ReadModelError;

/// A partition that a projector owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeasedPartition {
    /// The partition's number.
    pub partition: i32,
    /// Its next offset.
    pub next: i64,
    /// The generation of the projection that the offset belongs to.
    pub generation: i64,
}

impl ReadModel {
    /// Renews the leases of a projector, gives up those beyond its fair share, and takes free ones up to its share.
    /// Returns the partitions that the projector owns now.
    ///
    /// # Errors
    /// [`ReadModelError::Retired`] when another generation has become the live one.
    pub async fn renew_leases(&self, owner: &str, ttl: Duration) -> Result<Vec<LeasedPartition>, ReadModelError> {
        let mut transaction = self.begin("lease", READ_WRITE).await?;
        let share = fair_share(&mut transaction, owner, ttl).await?;
        let seconds = ttl.as_secs_f64();
        // Frees the partitions beyond the share. Keeps the others, also where the lease has expired, unless another
        // projector has taken it.
        sqlx::query(
            "UPDATE leases SET
                 owner = CASE WHEN kept THEN $1 END,
                 lease_until = CASE WHEN kept THEN now() + make_interval(secs => $2) END
             FROM (SELECT partition AS own, row_number() OVER (ORDER BY partition) <= $3 AS kept
                   FROM leases WHERE owner = $1) AS mine
             -- Postgres checks the owner again once it has locked the row: another projector may just have taken an
             -- expired lease.
             WHERE partition = own AND owner = $1",
        )
        .bind(owner)
        .bind(seconds)
        .bind(share)
        .execute(&mut transaction)
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
        .execute(&mut transaction)
        .await?;
        let rows = sqlx::query(
            "SELECT partition, next_offset, generation FROM leases JOIN partitions USING (partition)
             WHERE owner = $1 ORDER BY partition",
        )
        .bind(owner)
        .fetch_all(&mut transaction)
        .await?;
        // The leases are the same for all generations.
        transaction.ensure_live(rows.first().map(|row| row.try_get("generation")).transpose()?)?;
        transaction.commit().await?;
        let leased = rows.iter().map(|row| {
            Ok(LeasedPartition {
                partition: row.try_get("partition")?,
                next: row.try_get("next_offset")?,
                generation: row.try_get("generation")?,
            })
        });
        Ok(leased.collect::<Result<_, sqlx::Error>>()?)
    }

    /// Releases all leases of a projector, so other projectors take its partitions over at once. If this fails, the
    /// leases expire.
    pub async fn release_leases(&self, owner: &str) -> Result<(), ReadModelError> {
        let mut transaction = self.begin("release", READ_WRITE).await?;
        sqlx::query("UPDATE leases SET owner = NULL, lease_until = NULL WHERE owner = $1")
            .bind(owner)
            .execute(&mut transaction)
            .await?;
        sqlx::query("DELETE FROM projectors WHERE owner = $1").bind(owner).execute(&mut transaction).await?;
        Ok(transaction.commit().await?)
    }
}

/// Records that a projector is alive. Returns the fair share: how many partitions each living projector should own.
async fn fair_share(connection: &mut PooledConnection, owner: &str, ttl: Duration) -> Result<i64, sqlx::Error> {
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
