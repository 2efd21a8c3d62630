//! Commits a batch: rows and offsets in one transaction, fenced by a compare-and-set on the offsets. A batch must never
//! be written without its offsets, or twice.

use domain::OffsetAdvance;
use domain::state::{Changes, State};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::connection::{ReadModel, ReadModelError, WRITING, begin};
use crate::parking::{self, ParkedRecord};
use crate::write::write_rows;

/// Why a batch was not written.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The read model is not where the projector believes it to be: somebody else is at work. Nothing was
    /// written.
    #[error("fenced off: the read model is not at the expected offsets, topic or generation")]
    Fenced,
    /// Postgres doesn't answer. Whether the batch was written isn't known; reading it again tells.
    #[error(transparent)]
    ReadModel(#[from] ReadModelError),
}

impl From<sqlx::Error> for CommitError {
    fn from(error: sqlx::Error) -> Self {
        Self::ReadModel(error.into())
    }
}

impl ReadModel {
    /// Writes what a batch changed, and the records of it that could not be folded, together with the offsets: all or
    /// nothing.
    ///
    /// # Errors
    /// [`CommitError::Fenced`] when the read model is at other offsets, of another topic or generation.
    pub async fn commit(
        &self,
        state: &State,
        changes: &Changes,
        parked: &[ParkedRecord],
        advances: &[OffsetAdvance],
        (topic_id, generation): (Uuid, i64),
    ) -> Result<(), CommitError> {
        let (pool, _timer) = self.pool("commit");
        let mut transaction = begin(pool, WRITING).await?;
        // First, so that of two who believe to own a partition the second waits here, and then finds it moved.
        if !advance(&mut transaction, advances, topic_id, generation).await? {
            return Err(CommitError::Fenced);
        }
        write_rows(&mut transaction, state, changes).await?;
        parking::park(&mut transaction, topic_id, parked).await?;
        Ok(transaction.commit().await?)
    }
}

/// Moves the offsets from where they are expected to be; false where they aren't there.
pub(crate) async fn advance(
    connection: &mut PgConnection,
    advances: &[OffsetAdvance],
    topic_id: Uuid,
    generation: i64,
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
    .bind(topic_id)
    .bind(generation)
    .execute(connection)
    .await?;
    Ok(moved.rows_affected() == advances.len() as u64)
}
