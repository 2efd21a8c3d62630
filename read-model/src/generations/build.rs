//! The generation that is being built.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::PositionVector;
use sqlx::Row;
use uuid::Uuid;

use super::common_columns::CommonColumns;
use super::schema::{self, run};
use crate::connection::ReadModel;
use crate::derived_rows::DerivedTable;
use crate::error::ReadModelError;
use crate::pool::PooledConnection;
use crate::projection::Projection;
use crate::server_settings::GenerationRows;

/// How many connections folding into the next generation opens at most.
const CONNECTIONS: u32 = 2;
/// The longest name that Postgres gives a schema, in bytes.
const POSTGRES_NAME_BYTES: usize = 63;

/// How often dropping a generation of which nothing becomes is tried, and the pause between two attempts. The next
/// rebuild, or a projector, drops it otherwise.
const DROP_ATTEMPTS_MAX: u32 = 50;
const DROP_RETRY_PAUSE: Duration = Duration::from_millis(100);

domain::limit_rows! {
    Services, "attempts to drop the rows of a rebuild of which nothing becomes", Count DROP_ATTEMPTS_MAX, "the next rebuild, or a projector, drops them", "operators, who wait for the command's end";
}

/// How much memory Postgres may use for each part of a statement.
pub(super) const MEMORY: &str = "SET work_mem = '64MB'; SET maintenance_work_mem = '256MB'";

/// Why a generation can't be begun.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Postgres failed.
    #[error(transparent)]
    ReadModel(#[from] ReadModelError),
    /// Somebody else rebuilds.
    #[error("another rebuild is at work on this read model; wait until it has ended")]
    Busy,
    /// There is nothing to replace.
    #[error("the read model is empty: start a projector, which folds the topic from its beginning")]
    Empty,
    /// The read model is folded from another topic.
    #[error(
        "the read model is folded from another topic than {0}: `messages rebuild --reset` folds the present topic instead"
    )]
    AnotherTopic(Uuid),
    /// The schema's name is too long.
    #[error("the schema {0} has a name that is too long to add the number of a generation")]
    LongName(String),
    /// There is no generation to go back to.
    #[error("no earlier generation is left: it is dropped ten minutes after another one has replaced it")]
    NothingRetired,
}

impl From<sqlx::Error> for BeginError {
    fn from(error: sqlx::Error) -> Self {
        Self::ReadModel(error.into())
    }
}

/// The generation that is being built, next to the live one. While it exists, nobody else can build one: its connection
/// holds a lock. Where nothing becomes of it, the next rebuild drops its rows.
pub struct NextGeneration {
    pub(super) connection: PooledConnection,
    /// The ids of the server processes that work on it.
    pub(super) pids: Vec<i32>,
    /// The configured schema.
    pub(super) base: String,
    /// The generation that it is to replace, and the schema of its rows.
    pub(super) live: i64,
    pub(super) live_schema: String,
    pub(super) projection: Projection,
    pub(super) schema: String,
    /// What can be compared with the live generation.
    pub(super) columns: CommonColumns,
    /// If the generation was the live one before: the number of the last repair by then. It lacks the later ones.
    pub(super) undone_after: Option<i64>,
    /// The statements that make its indexes, by table.
    indexes: BTreeMap<String, Vec<String>>,
    read_model: ReadModel,
}

/// The live generation, as the builder of the next one finds it.
struct LiveGeneration {
    number: i64,
    schema: String,
    topic_id: Uuid,
    partitions: i32,
    /// The number of the next one.
    next: i64,
}

impl ReadModel {
    /// Begins a generation without rows, for a job if there is one. Drops what earlier rebuilds have left behind.
    ///
    /// # Errors
    /// When another rebuild is at work, or the read model isn't folded from this topic.
    pub async fn begin_generation(&self, topic_id: Uuid, job: Option<i64>) -> Result<NextGeneration, BeginError> {
        let (mut connection, live) = self.lock_rebuilding(topic_id).await?;
        let next = format!("{}_g{}", self.schema, live.next);
        if next.len() > POSTGRES_NAME_BYTES {
            return Err(BeginError::LongName(self.schema.clone()));
        }
        announce(&mut connection, &self.schema, live.next, &next, job).await?;
        schema::create(&mut connection, &self.schema, &next).await?;
        let indexes = schema::drop_indexes(&mut connection, &next).await?;
        let partitions = format!(
            "INSERT INTO {next}.partitions (partition, next_offset, topic_id, generation)
             SELECT partition, 0, '{topic_id}', {} FROM generate_series(0, {} - 1) AS partition",
            live.next, live.partitions
        );
        run(&mut connection, partitions).await?;
        let columns = CommonColumns::with(&mut connection, &live.schema).await?;
        Ok(self.next_generation((connection, columns), live, next, indexes, None))
    }

    /// Takes the generation that was retired last, to make it the live one again, for a job if there is one. It has its
    /// offsets from then.
    ///
    /// # Errors
    /// When there is none, and as [`ReadModel::begin_generation`].
    pub async fn begin_return(&self, topic_id: Uuid, job: Option<i64>) -> Result<NextGeneration, BeginError> {
        let (mut connection, live) = self.lock_rebuilding(topic_id).await?;
        let base = &self.schema;
        let retired = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT generation, rows_schema, last_repair FROM {base}.generations WHERE status = 'retired'
             ORDER BY changed_at DESC LIMIT 1"
        )));
        let retired = retired.fetch_optional(&mut connection).await?.ok_or(BeginError::NothingRetired)?;
        let (number, next): (i64, String) = (retired.try_get("generation")?, retired.try_get("rows_schema")?);
        let undone_after: Option<i64> = retired.try_get("last_repair")?;
        let job = job.map_or_else(|| "NULL".to_owned(), |job| job.to_string());
        // Its connections of long ago expect its old number.
        let renumber = format!(
            "BEGIN; UPDATE {base}.generations SET generation = {0}, status = 'building', changed_at = now(), job = {job}
                    WHERE generation = {number};
             UPDATE {next}.partitions SET generation = {0}; COMMIT",
            live.next
        );
        run(&mut connection, renumber).await?;
        let columns = CommonColumns::with(&mut connection, &live.schema).await?;
        let undone_after = Some(undone_after.unwrap_or(0));
        Ok(self.next_generation((connection, columns), live, next, BTreeMap::new(), undone_after))
    }

    fn next_generation(
        &self,
        (mut connection, columns): (PooledConnection, CommonColumns),
        live: LiveGeneration,
        schema: String,
        indexes: BTreeMap<String, Vec<String>>,
        undone_after: Option<i64>,
    ) -> NextGeneration {
        let rows = GenerationRows::Of { generation: live.next, schema: schema.clone() };
        let read_model = Self { pool: self.pool.of_rows(rows, CONNECTIONS), schema: self.schema.clone() };
        let projection = Projection { topic_id: live.topic_id, generation: live.next };
        let base = self.schema.clone();
        let (live, live_schema) = (live.number, live.schema);
        NextGeneration {
            pids: vec![connection.pid()],
            connection,
            base,
            live,
            live_schema,
            projection,
            schema,
            columns,
            undone_after,
            indexes,
            read_model,
        }
    }

    /// Takes the lock on rebuilding, and drops what isn't needed any more.
    async fn lock_rebuilding(&self, topic_id: Uuid) -> Result<(PooledConnection, LiveGeneration), BeginError> {
        let mut connection = self.pool.connect_without_limits("rebuild").await?;
        let base = &self.schema;
        if !super::retired::try_lock(&mut connection, base).await? {
            return Err(BeginError::Busy);
        }
        super::retired::drop_unused(&mut connection, base).await?;
        let live = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT generation, coalesce(rows_schema, '{base}') AS rows_schema, topic_id, partitions,
                    greatest(generation, (SELECT max(generation) FROM {base}.generations)) + 1 AS next
             FROM {base}.projection"
        )));
        let live = live.fetch_optional(&mut connection).await?.ok_or(BeginError::Empty)?;
        let live = LiveGeneration {
            number: live.try_get("generation")?,
            schema: live.try_get("rows_schema")?,
            topic_id: live.try_get("topic_id")?,
            partitions: live.try_get("partitions")?,
            next: live.try_get("next")?,
        };
        if live.topic_id != topic_id {
            return Err(BeginError::AnotherTopic(topic_id));
        }
        // The planner has to take what suits whole tables.
        let plans = "SET enable_seqscan = on; SET enable_hashjoin = on; SET enable_mergejoin = on;
                     SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'";
        run(&mut connection, plans.to_owned()).await?;
        run(&mut connection, MEMORY.to_owned()).await?;
        Ok((connection, live))
    }
}

/// Notes that a generation is being built.
async fn announce(
    connection: &mut PooledConnection,
    base: &str,
    number: i64,
    schema: &str,
    job: Option<i64>,
) -> Result<(), sqlx::Error> {
    let statement =
        format!("INSERT INTO {base}.generations (generation, rows_schema, status) VALUES ($1, $2, 'building')");
    sqlx::query(sqlx::AssertSqlSafe(statement)).bind(number).bind(schema).execute(&mut *connection).await?;
    // A dry run may be one before the migration that adds the column.
    if let Some(job) = job {
        let statement = format!("UPDATE {base}.generations SET job = $1 WHERE generation = $2");
        sqlx::query(sqlx::AssertSqlSafe(statement)).bind(job).bind(number).execute(connection).await?;
    }
    Ok(())
}

impl NextGeneration {
    /// Its number, and the topic that it is folded from.
    pub fn projection(&self) -> Projection {
        self.projection
    }

    /// The columns that the live generation lacks, such as `messages.edited_at`. Nobody can compare them.
    pub fn columns_without_live(&self) -> Vec<String> {
        self.columns.missing()
    }

    /// The read model with the rows of this generation. Batches can be folded into it once its indexes exist.
    pub fn read_model(&self) -> &ReadModel {
        &self.read_model
    }

    /// Reads the offsets up to which this generation is folded.
    pub async fn offsets(&mut self) -> Result<PositionVector, ReadModelError> {
        Ok(schema::offsets(&mut self.connection, &self.schema).await?)
    }

    /// Ends copying: the rows are those of the log up to these offsets. Makes the indexes of two tables at a time, and
    /// calls `report` with how many are done, and of how many.
    pub async fn finish_copy(
        &mut self,
        read_model: &ReadModel,
        end: &PositionVector,
        report: impl Fn(u64, u64),
    ) -> Result<(), ReadModelError> {
        let mut other = read_model.pool.connect_without_limits("make_indexes").await?;
        self.pids.push(other.pid());
        let indexes = std::mem::take(&mut self.indexes);
        let (total, done) = (indexes.values().map(Vec::len).sum::<usize>() as u64, AtomicU64::new(0));
        // The table with the most rows and indexes comes first.
        let mut tables: Vec<_> = indexes.into_iter().collect();
        tables.sort_by_key(|(_, statements)| statements.len());
        let (tables, schema) = (Mutex::new(tables), self.schema.clone());
        let report = || report(done.fetch_add(1, Ordering::Relaxed) + 1, total);
        tokio::try_join!(
            make_indexes(&mut self.connection, &schema, &tables, &report),
            make_indexes(&mut other, &schema, &tables, &report),
        )?;
        other.close().await?;
        let statement = format!(
            "UPDATE {schema}.partitions SET next_offset = reached.next
             FROM unnest($1::bigint[]) WITH ORDINALITY AS reached (next, number) WHERE partition = number - 1"
        );
        sqlx::query(sqlx::AssertSqlSafe(statement)).bind(&end.0).execute(&mut self.connection).await?;
        Ok(())
    }
}

/// Makes the indexes of one table after the other, until none is left, and collects statistics of each.
async fn make_indexes(
    connection: &mut PooledConnection,
    schema: &str,
    tables: &Mutex<Vec<(String, Vec<String>)>>,
    report: &impl Fn(),
) -> Result<(), sqlx::Error> {
    run(connection, MEMORY.to_owned()).await?;
    loop {
        let next = tables.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some((table, statements)) = next else { return Ok(()) };
        for statement in statements {
            run(connection, statement).await?;
            report();
        }
        run(connection, format!("ANALYZE {schema}.{table}")).await?;
    }
}

impl ReadModel {
    /// Whether the schema knows generations: the migrations of some release have run that can rebuild.
    pub async fn has_generations(&self) -> Result<bool, ReadModelError> {
        let mut connection = self.acquire("has_generations").await?;
        let found = sqlx::query_scalar("SELECT to_regclass('generations') IS NOT NULL");
        Ok(found.fetch_one(&mut connection).await?)
    }
}

impl ReadModel {
    /// How many bytes the rows of the live generation occupy, with their indexes: about what another one needs.
    pub async fn rows_bytes(&self) -> Result<u64, ReadModelError> {
        let mut connection = self.acquire("rows_bytes").await?;
        let tables = DerivedTable::ALL.map(|table| table.name().to_owned());
        let bytes: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(pg_total_relation_size(name::regclass)), 0)::bigint FROM unnest($1::text[]) AS name",
        )
        .bind(&tables[..])
        .fetch_one(&mut connection)
        .await?;
        Ok(u64::try_from(bytes).unwrap_or(0))
    }

    /// Drops the rows of a generation of which nothing becomes, also while Postgres is still at work on it.
    pub async fn discard_generation(&self, next: NextGeneration) -> Result<(), ReadModelError> {
        let pids = next.pids.clone();
        // Its connection holds the lock on rebuilding.
        drop(next);
        let mut attempt = 1;
        loop {
            let dropped = match self.terminate(&pids).await {
                Ok(()) => self.drop_unused_generations().await,
                Err(error) => Err(error),
            };
            match dropped {
                Ok(true) => return Ok(()),
                // What is left is dropped later.
                Ok(false) if attempt == DROP_ATTEMPTS_MAX => return Ok(()),
                Err(error) if attempt == DROP_ATTEMPTS_MAX => return Err(error),
                Ok(false) | Err(_) => tokio::time::sleep(DROP_RETRY_PAUSE).await,
            }
            attempt += 1;
        }
    }
}
