//! Committing a batch: its rows, its dead letters and its offsets, in one transaction. A compare-and-set on the offsets
//! fences off a projector that is not up to date. This module must never write a batch without its offsets, or twice.

use crate::pool::PooledConnection;
use domain::OffsetAdvance;
use domain::state::{Changes, State};
use sqlx::Row;

use crate::connection::{READ_WRITE, ReadModel};
use crate::error::ReadModelError;
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
    #[error("another transaction holds the rows of partitions {0:?}")]
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
    /// all of it or nothing. Never waits for a transaction that holds the row of a partition.
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
        let mut transaction = self.begin("commit", READ_WRITE).await?;
        let written: Result<(), CommitError> = async {
            // First: of two projectors that both believe to own a partition, the second finds that the first holds it,
            // or that the offset has moved.
            advance_offsets(&mut transaction, advances, projection).await?;
            write_rows(&mut transaction, state, changes).await?;
            Ok(parking::park(&mut transaction, projection.topic_id, parked).await?)
        }
        .await;
        match written {
            Ok(()) => Ok(transaction.commit().await?),
            Err(error) => {
                // At once: whoever tries again would find these rows held. If it fails, the connection is closed.
                let _ = transaction.rollback().await;
                Err(error)
            }
        }
    }
}

/// Moves the offsets of partitions without waiting for anybody who holds their rows.
///
/// # Errors
/// [`CommitError::Held`] when somebody holds some of the rows, else [`CommitError::Fenced`] when an offset is not where
/// its advance starts. The caller must then roll back.
pub(crate) async fn advance_offsets(
    connection: &mut PooledConnection,
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
         SELECT partition, EXISTS (SELECT FROM free WHERE free.partition = partitions.partition) AS is_free,
                EXISTS (SELECT FROM moved WHERE moved.partition = partitions.partition) AS has_moved
         FROM partitions WHERE partition = ANY($1)",
    )
    .bind(partitions)
    .bind(advances.iter().map(|advance| advance.from).collect::<Vec<_>>())
    .bind(advances.iter().map(|advance| advance.to).collect::<Vec<_>>())
    .bind(projection.topic_id)
    .bind(projection.generation)
    .fetch_all(connection)
    .await?;
    let (mut held, mut moved) = (Vec::new(), 0);
    for row in rows {
        if !row.try_get::<bool, _>("is_free")? {
            held.push(row.try_get("partition")?);
        }
        moved += usize::from(row.try_get::<bool, _>("has_moved")?);
    }
    match held.is_empty() {
        false => Err(CommitError::Held(held)),
        true if moved == advances.len() => Ok(()),
        true => Err(CommitError::Fenced),
    }
}
