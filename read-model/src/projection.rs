//! The projection that the read model holds: the topic that it is folded from, its generation, and its offsets. A read
//! model must never mix events of two topics.

use crate::pool::PooledConnection;
use domain::PositionVector;
use sqlx::Row;
use uuid::Uuid;

use crate::connection::{READ_WRITE, ReadModel, SNAPSHOT};
use crate::error::ReadModelError;

/// One projection of a topic into the read model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Projection {
    /// Kafka's id of the topic. Another topic of the same name has another id.
    pub topic_id: Uuid,
    /// Increases with each rebuild, from 1.
    pub generation: i64,
}

/// The topic that the read model is folded from, and how far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldedTopic {
    /// Kafka's id of the topic.
    pub id: Uuid,
    /// How many partitions it had.
    pub partitions: i32,
    /// The next offset of each partition.
    pub next: PositionVector,
}

/// Why a projector can't open the projection of its topic.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Postgres failed.
    #[error(transparent)]
    ReadModel(#[from] ReadModelError),
    /// The read model is folded from another topic.
    #[error(
        "the read model is folded from the topic with id {folded_id} and {folded_partitions} partitions, but the topic \
         now has id {current_id} and {current_partitions} partitions: somebody deleted and recreated it, or this is \
         another cluster. If the topic is right, run `messages rebuild --reset`"
    )]
    AnotherTopic {
        /// The id of the topic that the read model is folded from.
        folded_id: Uuid,
        /// How many partitions that topic had.
        folded_partitions: i32,
        /// The id of the topic that the projector reads.
        current_id: Uuid,
        /// How many partitions it has.
        current_partitions: i32,
    },
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        Self::ReadModel(error.into())
    }
}

/// The one row of the table `projection`.
struct ProjectionRow {
    generation: i64,
    /// The schema of the rows; none for the configured one.
    rows_schema: Option<String>,
    topic_id: Uuid,
    partitions: i32,
}

impl ReadModel {
    /// Opens the projection of a topic. Begins one if the read model is empty.
    ///
    /// # Errors
    /// [`OpenError::AnotherTopic`] when the read model is folded from another topic.
    pub async fn open_projection(&self, topic_id: Uuid, partitions: usize) -> Result<Projection, OpenError> {
        match self.try_open_projection(topic_id, partitions).await {
            Err(OpenError::ReadModel(ReadModelError::Retired)) => self.try_open_projection(topic_id, partitions).await,
            opened => opened,
        }
    }

    async fn try_open_projection(&self, topic_id: Uuid, partitions: usize) -> Result<Projection, OpenError> {
        let current_partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        let mut transaction = self.begin("open", READ_WRITE).await?;
        let projection = match lock_projection(&mut transaction).await? {
            None => {
                let first = Projection { topic_id, generation: 1 };
                insert_projection(&mut transaction, first, current_partitions).await?;
                first
            }
            Some(row) if (row.topic_id, row.partitions) == (topic_id, current_partitions) => {
                Projection { topic_id, generation: row.generation }
            }
            Some(row) => {
                return Err(OpenError::AnotherTopic {
                    folded_id: row.topic_id,
                    folded_partitions: row.partitions,
                    current_id: topic_id,
                    current_partitions,
                });
            }
        };
        // A projector must never begin with connections that find the rows of another generation.
        transaction.ensure_live(Some(projection.generation))?;
        transaction.commit().await?;
        Ok(projection)
    }

    /// Empties the read model and begins the next generation, which projectors fold from the beginning of the topic.
    /// The next commit of a running projector is fenced off; it then opens the new generation.
    pub async fn reset(&self, topic_id: Uuid, partitions: usize) -> Result<Projection, ReadModelError> {
        let mut transaction = self.begin("reset", READ_WRITE).await?;
        let current = lock_projection(&mut transaction).await?;
        let generation = current.as_ref().map_or(1, |row| row.generation + 1);
        // TRUNCATE locks the tables in this order. It is the order of all other transactions; another would deadlock.
        sqlx::query(
            "TRUNCATE projection, leases, partitions, conversations, members, messages, reactions, applied_events",
        )
        .execute(&mut transaction)
        .await?;
        // The projector parks a record again if it still can't fold it. An operator's decision isn't on the log, so it
        // stays.
        sqlx::query("DELETE FROM dead_letters WHERE status <> 'discarded'").execute(&mut transaction).await?;
        let projection = Projection { topic_id, generation };
        insert_projection(&mut transaction, projection, i32::try_from(partitions).unwrap_or(i32::MAX)).await?;
        sqlx::query("UPDATE projection SET rows_schema = $1")
            .bind(current.and_then(|row| row.rows_schema))
            .execute(&mut transaction)
            .await?;
        transaction.commit().await?;
        Ok(projection)
    }

    /// Begins a transaction whose statements all see the same state of the live generation. Returns the offsets that it
    /// includes, too.
    pub(crate) async fn snapshot(
        &self,
        operation: &'static str,
    ) -> Result<(PooledConnection, PositionVector), ReadModelError> {
        self.read_live(|| async {
            let mut transaction = self.begin(operation, SNAPSHOT).await?;
            let offsets = offsets(&mut transaction).await?;
            Ok((transaction, offsets))
        })
        .await
    }

    /// Reads the next offset of every partition.
    pub async fn offsets(&self) -> Result<PositionVector, ReadModelError> {
        self.read_live(|| async {
            let mut connection = self.acquire("offsets").await?;
            offsets(&mut connection).await
        })
        .await
    }

    /// Reads what the read model is folded from; none before a projector first ran.
    pub async fn folded_topic(&self) -> Result<Option<FoldedTopic>, ReadModelError> {
        self.read_live(|| async {
            let mut connection = self.acquire("folded_topic").await?;
            folded_topic(&mut connection).await
        })
        .await
    }

    /// Reads the generation of the projection; none before a projector first ran.
    pub async fn generation(&self) -> Result<Option<i64>, ReadModelError> {
        let mut connection = self.acquire("generation").await?;
        let row = sqlx::query("SELECT generation FROM projection").fetch_optional(&mut connection).await?;
        Ok(row.map(|row| row.try_get("generation")).transpose()?)
    }
}

/// Reads the next offset of every partition as this transaction sees it. Transactions do it first, to lock the tables
/// in the same order as [`ReadModel::reset`].
///
/// # Errors
/// [`ReadModelError::Retired`] when another generation has replaced the one that the connection finds.
pub(crate) async fn offsets(connection: &mut PooledConnection) -> Result<PositionVector, ReadModelError> {
    let rows = sqlx::query("SELECT partition, next_offset, generation FROM partitions ORDER BY partition");
    let rows = rows.fetch_all(&mut *connection).await?;
    connection.ensure_live(rows.first().map(|row| row.try_get("generation")).transpose()?)?;
    let mut offsets = PositionVector::zero(rows.len());
    for row in rows {
        offsets.advance(row.try_get("partition")?, row.try_get("next_offset")?);
    }
    Ok(offsets)
}

/// Reads what the read model is folded from; none before a projector first ran.
pub(crate) async fn folded_topic(connection: &mut PooledConnection) -> Result<Option<FoldedTopic>, ReadModelError> {
    // One statement, so that all of it is from one projection.
    let rows = sqlx::query(
        "SELECT projection.topic_id, projection.partitions, partition, next_offset, partitions.generation
         FROM projection JOIN partitions ON true ORDER BY partition",
    )
    .fetch_all(&mut *connection)
    .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    connection.ensure_live(first.try_get("generation")?)?;
    let (id, partitions) = (first.try_get("topic_id")?, first.try_get("partitions")?);
    let next: Result<Vec<i64>, sqlx::Error> = rows.iter().map(|row| row.try_get("next_offset")).collect();
    Ok(Some(FoldedTopic { id, partitions, next: PositionVector(next?) }))
}

/// Reads the current projection, and locks it until the transaction ends.
async fn lock_projection(connection: &mut PooledConnection) -> Result<Option<ProjectionRow>, sqlx::Error> {
    // Without the lock, two projectors that find an empty read model would both begin a projection.
    sqlx::query("LOCK TABLE projection IN SHARE ROW EXCLUSIVE MODE").execute(&mut *connection).await?;
    let row = sqlx::query("SELECT generation, rows_schema, topic_id, partitions FROM projection");
    let row = row.fetch_optional(connection).await?;
    row.map(|row| {
        Ok(ProjectionRow {
            generation: row.try_get("generation")?,
            rows_schema: row.try_get("rows_schema")?,
            topic_id: row.try_get("topic_id")?,
            partitions: row.try_get("partitions")?,
        })
    })
    .transpose()
}

/// Inserts a projection that has folded nothing, with free leases for all of its partitions.
async fn insert_projection(
    connection: &mut PooledConnection,
    projection: Projection,
    partitions: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO projection (generation, topic_id, partitions) VALUES ($1, $2, $3)")
        .bind(projection.generation)
        .bind(projection.topic_id)
        .bind(partitions)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO partitions (partition, next_offset, topic_id, generation)
         SELECT partition, 0, $1, $2 FROM generate_series(0, $3 - 1) AS partition",
    )
    .bind(projection.topic_id)
    .bind(projection.generation)
    .bind(partitions)
    .execute(&mut *connection)
    .await?;
    sqlx::query("INSERT INTO leases (partition) SELECT generate_series(0, $1 - 1)")
        .bind(partitions)
        .execute(connection)
        .await?;
    Ok(())
}
