//! Committing a batch: its rows, its dead letters and its offsets, in one transaction. A compare-and-set on the offsets
//! fences off a projector that is not up to date. This module must never write a batch without its offsets, or twice.

use domain::OffsetAdvance;
use domain::state::{Changes, State};
use sqlx::PgConnection;

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
    /// all of it or nothing.
    ///
    /// # Errors
    /// [`CommitError::Fenced`] when the read model is at other offsets than `advances` start from, or holds another
    /// projection.
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
        // First: of two projectors that both believe to own a partition, the second waits here for the first, and then
        // finds that the offset has moved.
        if !advance_offsets(&mut transaction, advances, projection).await? {
            return Err(CommitError::Fenced);
        }
        write_rows(&mut transaction, state, changes).await?;
        parking::park(&mut transaction, projection.topic_id, parked).await?;
        Ok(transaction.commit().await?)
    }
}

/// Moves the offsets of a projection. False if any of them is not where its advance starts: the caller must then roll
/// back.
pub(crate) async fn advance_offsets(
    connection: &mut PgConnection,
    advances: &[OffsetAdvance],
    projection: Projection,
) -> Result<bool, sqlx::Error> {
    let partitions: Vec<i32> = advances.iter().map(|advance| advance.partition).collect();
    let from: Vec<i64> = advances.iter().map(|advance| advance.from).collect();
    let to: Vec<i64> = advances.iter().map(|advance| advance.to).collect();
    let moved = sqlx::query(
        "UPDATE partitions SET next_offset = advance.next
         FROM unnest($1::int[], $2::bigint[], $3::bigint[]) AS advance (partition, expected, next)
         WHERE partitions.partition = advance.partition AND next_offset = advance.expected
           AND topic_id = $4 AND generation = $5",
    )
    .bind(partitions)
    .bind(from)
    .bind(to)
    .bind(projection.topic_id)
    .bind(projection.generation)
    .execute(connection)
    .await?;
    Ok(moved.rows_affected() == advances.len() as u64)
}
