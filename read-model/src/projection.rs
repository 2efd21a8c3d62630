//! Which projection this is, and how far it has come.

use domain::PositionVector;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::connection::{ReadModel, ReadModelError, WRITING, begin};

/// A projection of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Projection {
    /// Goes up with each rebuild.
    pub generation: i64,
}

/// Why the projection can't be worked on.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Postgres doesn't answer.
    #[error(transparent)]
    ReadModel(#[from] ReadModelError),
    /// The read model was folded from another topic.
    #[error(
        "the read model was made from the topic with id {found} and {found_partitions} partitions, but the topic \
         now has id {wanted} and {wanted_partitions}: it was deleted and made again, or this is another cluster. \
         If the topic is right, run `messages rebuild --reset`"
    )]
    AnotherTopic {
        /// The topic's id in the read model.
        found: Uuid,
        /// Its partitions there.
        found_partitions: i32,
        /// The topic's id now.
        wanted: Uuid,
        /// Its partitions now.
        wanted_partitions: i32,
    },
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        Self::ReadModel(error.into())
    }
}

impl ReadModel {
    /// Opens the projection of a topic; an empty read model becomes it.
    ///
    /// # Errors
    /// When the read model is of another topic, or Postgres doesn't answer.
    pub async fn open(&self, topic_id: Uuid, partitions: usize) -> Result<Projection, OpenError> {
        let wanted_partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        let (pool, _timer) = self.pool("open");
        let mut transaction = begin(pool, WRITING).await?;
        let row = current(&mut transaction).await?;
        let generation = match row {
            None => {
                begin_projection(&mut transaction, 1, topic_id, wanted_partitions).await?;
                1
            }
            Some((generation, found, found_partitions)) => {
                if (found, found_partitions) != (topic_id, wanted_partitions) {
                    return Err(OpenError::AnotherTopic {
                        found,
                        found_partitions,
                        wanted: topic_id,
                        wanted_partitions,
                    });
                }
                generation
            }
        };
        transaction.commit().await?;
        Ok(Projection { generation })
    }

    /// Empties the read model, for it to be folded from the beginning of a topic. Projectors that are at work
    /// are fenced off, and open it again.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn reset(&self, topic_id: Uuid, partitions: usize) -> Result<Projection, ReadModelError> {
        let (pool, _timer) = self.pool("reset");
        let mut transaction = begin(pool, WRITING).await?;
        let generation = current(&mut transaction).await?.map_or(1, |(generation, _, _)| generation + 1);
        // The order in which everyone else comes to these tables: in another, the two would wait for each other.
        sqlx::query(
            "TRUNCATE projection, leases, partitions, conversations, members, messages, reactions, applied_events",
        )
        .execute(&mut *transaction)
        .await?;
        // They will be found again, those that are still none; what somebody decided isn't on the log.
        sqlx::query("DELETE FROM dead_letters WHERE status <> 'discarded'").execute(&mut *transaction).await?;
        begin_projection(&mut transaction, generation, topic_id, i32::try_from(partitions).unwrap_or(i32::MAX)).await?;
        transaction.commit().await?;
        Ok(Projection { generation })
    }

    /// The next offset of every partition.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn offsets(&self) -> Result<PositionVector, ReadModelError> {
        let (pool, _timer) = self.pool("offsets");
        let mut connection = pool.acquire().await?;
        offsets(&mut connection).await
    }

    /// The id of the topic that the read model is folded from; none before a projector first ran.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn topic_id(&self) -> Result<Option<Uuid>, ReadModelError> {
        let (pool, _timer) = self.pool("topic_id");
        let row = sqlx::query("SELECT topic_id FROM projection").fetch_optional(pool).await?;
        Ok(row.map(|row| row.try_get("topic_id")).transpose()?)
    }

    /// The generation that is served; none before a projector first ran.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn generation(&self) -> Result<Option<i64>, ReadModelError> {
        let (pool, _timer) = self.pool("generation");
        let row = sqlx::query("SELECT generation FROM projection").fetch_optional(pool).await?;
        Ok(row.map(|row| row.try_get("generation")).transpose()?)
    }
}

/// The offsets as this transaction sees them.
pub(crate) async fn offsets(connection: &mut PgConnection) -> Result<PositionVector, ReadModelError> {
    let rows = sqlx::query("SELECT partition, next_offset FROM partitions ORDER BY partition");
    let rows = rows.fetch_all(connection).await?;
    let mut offsets = PositionVector::zero(rows.len());
    for row in rows {
        offsets.advance(row.try_get("partition")?, row.try_get("next_offset")?);
    }
    Ok(offsets)
}

async fn current(connection: &mut PgConnection) -> Result<Option<(i64, Uuid, i32)>, sqlx::Error> {
    // One at a time: two that find it empty would both begin it.
    sqlx::query("LOCK TABLE projection IN SHARE ROW EXCLUSIVE MODE").execute(&mut *connection).await?;
    let row = sqlx::query("SELECT generation, topic_id, partitions FROM projection");
    let row = row.fetch_optional(connection).await?;
    row.map(|row| Ok((row.try_get("generation")?, row.try_get("topic_id")?, row.try_get("partitions")?))).transpose()
}

async fn begin_projection(
    connection: &mut PgConnection,
    generation: i64,
    topic_id: Uuid,
    partitions: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO projection (generation, topic_id, partitions) VALUES ($1, $2, $3)")
        .bind(generation)
        .bind(topic_id)
        .bind(partitions)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO partitions (partition, next_offset, topic_id, generation)
         SELECT partition, 0, $1, $2 FROM generate_series(0, $3 - 1) AS partition",
    )
    .bind(topic_id)
    .bind(generation)
    .bind(partitions)
    .execute(&mut *connection)
    .await?;
    sqlx::query("INSERT INTO leases (partition) SELECT generate_series(0, $1 - 1)")
        .bind(partitions)
        .execute(connection)
        .await?;
    Ok(())
}
