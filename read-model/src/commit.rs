//! Committing a batch: its rows, its dead letters and its offsets, in one transaction. A compare-and-set on the offsets
//! fences off a projector that is not up to date. This module must never write a batch without its offsets, or twice.

use std::collections::BTreeSet;

use domain::OffsetAdvance;
use domain::state::{Changes, State};
use sqlx::{PgConnection, Row};

use crate::connection::{READ_WRITE, ReadModel, ReadModelError, begin};
use crate::parking::{self, ParkedRecord};
use crate::projection::Projection;
use crate::write::write_rows;

/// Why a commit failed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The read model is not at the offsets, topic or generation that the projector expects, or the projector has lost
    /// its lease. Nothing was written.
    #[error("fenced off: another projector is at work on these partitions, or a rebuild")]
    Fenced,
    /// Somebody holds the rows of these partitions in a transaction of their own. Nothing was written. A commit without
    /// them can go on at once.
    #[error("another transaction holds the partitions {0:?}")]
    Held(Vec<i32>),
    /// Postgres didn't answer. It may have written the batch or not; its offsets show which.
    #[error(transparent)]
    ReadModel(#[from] ReadModelError),
}

impl From<sqlx::Error> for CommitError {
    fn from(error: sqlx::Error) -> Self {
        Self::ReadModel(error.into())
    }
}

impl ReadModel {
    /// Writes the rows that a batch changed, parks the records that the projector can't fold, and moves the offsets:
    /// all of it or nothing. Waits for a transaction that holds the row of a partition only if the batch has no other
    /// partition.
    ///
    /// # Errors
    /// [`CommitError::Fenced`] when the read model is at other offsets than `advances` start from, or holds another
    /// projection. [`CommitError::Held`] when the rows of some of its partitions are held.
    pub async fn commit(
        &self,
        state: &State,
        changes: &Changes,
        parked: &[ParkedRecord],
        advances: &[OffsetAdvance],
        projection: Projection,
    ) -> Result<(), CommitError> {
        let (pool, _timer) = self.pool("commit");
        let mut transaction = begin(pool, READ_WRITE).await?;
        // First: of two projectors that both believe to own a partition, the second finds that the first holds it, or
        // that the offset has moved.
        match advances {
            [advance] => {
                if !advance_offset(&mut transaction, *advance, projection).await? {
                    return Err(CommitError::Fenced);
                }
            }
            advances => advance_free_offsets(&mut transaction, advances, projection).await?,
        }
        write_rows(&mut transaction, state, changes).await?;
        parking::park(&mut transaction, projection.topic_id, parked).await?;
        Ok(transaction.commit().await?)
    }
}

/// Moves the offset of a partition. Waits for a transaction that holds its row. False if the offset is not where the
/// advance starts: the caller must then roll back.
pub(crate) async fn advance_offset(
    connection: &mut PgConnection,
    advance: OffsetAdvance,
    projection: Projection,
) -> Result<bool, sqlx::Error> {
    let moved = sqlx::query(
        "UPDATE partitions SET next_offset = $3
         WHERE partition = $1 AND next_offset = $2 AND topic_id = $4 AND generation = $5",
    )
    .bind(advance.partition)
    .bind(advance.from)
    .bind(advance.to)
    .bind(projection.topic_id)
    .bind(projection.generation)
    .execute(connection)
    .await?;
    Ok(moved.rows_affected() == 1)
}

/// Moves the offsets of partitions without waiting for anybody who holds their rows.
///
/// # Errors
/// [`CommitError::Held`] when somebody holds some of the rows, else [`CommitError::Fenced`] when an offset is not where
/// its advance starts. The caller must then roll back.
async fn advance_free_offsets(
    connection: &mut PgConnection,
    advances: &[OffsetAdvance],
    projection: Projection,
) -> Result<(), CommitError> {
    let partitions: Vec<i32> = advances.iter().map(|advance| advance.partition).collect();
    let rows = sqlx::query(
        "WITH free AS (SELECT partition FROM partitions WHERE partition = ANY($1) FOR UPDATE SKIP LOCKED),
              moved AS (
                  UPDATE partitions SET next_offset = advance.next
                  FROM unnest($1::int[], $2::bigint[], $3::bigint[]) AS advance (partition, expected, next)
                  JOIN free USING (partition)
                  WHERE partitions.partition = advance.partition AND next_offset = advance.expected
                    AND topic_id = $4 AND generation = $5
                  RETURNING partitions.partition)
         SELECT partition, EXISTS (SELECT FROM moved WHERE moved.partition = free.partition) AS has_moved FROM free",
    )
    .bind(&partitions)
    .bind(advances.iter().map(|advance| advance.from).collect::<Vec<_>>())
    .bind(advances.iter().map(|advance| advance.to).collect::<Vec<_>>())
    .bind(projection.topic_id)
    .bind(projection.generation)
    .fetch_all(connection)
    .await?;
    let mut held: BTreeSet<i32> = partitions.into_iter().collect();
    let mut all_moved = true;
    for row in rows {
        held.remove(&row.try_get("partition")?);
        all_moved &= row.try_get::<bool, _>("has_moved")?;
    }
    if !held.is_empty() {
        return Err(CommitError::Held(held.into_iter().collect()));
    }
    if all_moved { Ok(()) } else { Err(CommitError::Fenced) }
}
