//! The swap: the generation that is being built replaces the live one, in one short transaction.

use std::time::Duration;

use domain::PositionVector;
use sqlx::AssertSqlSafe;

use super::build::NextGeneration;
use super::differing_rows::{DifferingRow, differing_rows};
use super::digests::{DifferingConversations, compare_generations};
use super::schema::{offsets, run};
use crate::embedded_migrations::migrator;
use crate::error::ReadModelError;
use crate::parking::{ParkedRecord, storable_text};
use crate::pool::PooledConnection;
use crate::repairs::{EVERYBODY, forget_statements, lock_statement, record_statement};

/// How many conversations with other rows are recorded one by one.
const RECORDED_MAX: usize = 1_000;
/// How long a statement of the swap may take, and wait for the projectors' commits.
const STATEMENT_MAX: Duration = Duration::from_secs(1);

domain::limit_rows! {
    Services, "conversations with other rows that a rebuild records one by one", Count RECORDED_MAX, "every client starts anew", "the projectors, which stand still meanwhile";
    Services, "a statement of the transaction that makes a rebuilt generation the live one", Time STATEMENT_MAX, "the rebuild rolls the transaction back, and tries again", "the projectors, which wait for it";
}

/// Why the swap wasn't made. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// Postgres failed, or didn't get done in time.
    #[error(transparent)]
    ReadModel(#[from] ReadModelError),
    /// A process of another release has migrated the schema meanwhile.
    #[error("the schema has been migrated since the rebuild began; start the rebuild again with that release")]
    Migrated,
    /// Another generation has become the live one.
    #[error("another generation has become the live one since the rebuild began; start the rebuild again")]
    Superseded,
}

impl From<sqlx::Error> for SwapError {
    fn from(error: sqlx::Error) -> Self {
        Self::ReadModel(error.into())
    }
}

/// The live generation, which stands still: no projector can commit while this exists.
pub struct LockedGeneration<'a> {
    next: &'a mut NextGeneration,
    /// How far it is folded.
    pub offsets: PositionVector,
}

impl NextGeneration {
    /// Makes the live generation stand still.
    ///
    /// # Errors
    /// When the projectors' commits take too long, or the live generation isn't what it was.
    pub async fn lock_live(&mut self) -> Result<LockedGeneration<'_>, SwapError> {
        match self.try_lock_live().await {
            Ok(offsets) => Ok(LockedGeneration { next: self, offsets }),
            Err(error) => {
                run(&mut self.connection, "ROLLBACK".to_owned()).await?;
                Err(error)
            }
        }
    }

    async fn try_lock_live(&mut self) -> Result<PositionVector, SwapError> {
        let Self { connection, base, live, live_schema, .. } = self;
        let limit = STATEMENT_MAX.as_millis();
        let begin = format!(
            "BEGIN; SET LOCAL synchronous_commit = on; SET LOCAL statement_timeout = {limit};
             SET LOCAL lock_timeout = {limit}; LOCK TABLE {base}.projection IN SHARE ROW EXCLUSIVE MODE"
        );
        run(connection, begin).await?;
        let present: Option<i64> =
            sqlx::query_scalar(AssertSqlSafe(format!("SELECT generation FROM {base}.projection")))
                .fetch_optional(&mut *connection)
                .await?;
        if present != Some(*live) {
            return Err(SwapError::Superseded);
        }
        run(connection, format!("SELECT FROM {live_schema}.partitions ORDER BY partition FOR UPDATE")).await?;
        Ok(offsets(connection, live_schema).await?)
    }
}

impl LockedGeneration<'_> {
    /// Compares what has changed since these offsets in either generation. Both must be folded equally far.
    pub async fn compare_since(&mut self, since: &PositionVector) -> Result<DifferingConversations, ReadModelError> {
        let NextGeneration { connection, live_schema, schema, columns, .. } = &mut *self.next;
        Ok(compare_generations(connection, columns, [live_schema, schema], since).await?)
    }

    /// Lists rows that differ, at most so many of each table. Both generations must be folded equally far.
    pub async fn differing_rows(
        &mut self,
        conversations: &DifferingConversations,
        limit: usize,
    ) -> Result<Vec<DifferingRow>, ReadModelError> {
        let NextGeneration { connection, live_schema, schema, columns, .. } = &mut *self.next;
        Ok(differing_rows(connection, columns, live_schema, schema, conversations, limit).await?)
    }

    /// Makes the next generation the live one. `parked` are all records that it couldn't fold; without them, dead letters
    /// stay as they are. Clients learn that the rows of `differing` conversations are other ones.
    pub async fn replace(
        self,
        parked: Option<&[ParkedRecord]>,
        differing: &DifferingConversations,
    ) -> Result<(), SwapError> {
        let replaced = self.next.replace_live(parked, differing).await;
        if replaced.is_err() {
            run(&mut self.next.connection, "ROLLBACK".to_owned()).await?;
        }
        replaced
    }

    /// Lets the live generation go on.
    pub async fn release(self) -> Result<(), ReadModelError> {
        Ok(run(&mut self.next.connection, "ROLLBACK".to_owned()).await?)
    }
}

impl NextGeneration {
    async fn replace_live(
        &mut self,
        parked: Option<&[ParkedRecord]>,
        differing: &DifferingConversations,
    ) -> Result<(), SwapError> {
        self.ensure_migrated().await?;
        let last_repair = self.record_repairs(differing).await?;
        let Self { connection, base, live, live_schema, projection, schema, .. } = self;
        if let Some(parked) = parked {
            settle_dead_letters(connection, base, projection.topic_id, parked).await?;
        }
        let number = projection.generation;
        let swap = format!(
            "UPDATE {base}.jobs SET generation = {number}
             WHERE number = (SELECT job FROM {base}.generations WHERE generation = {number});
             UPDATE {base}.projection SET generation = {number},
                    rows_schema = CASE WHEN '{schema}' <> '{base}' THEN '{schema}' END;
             UPDATE {live_schema}.partitions SET generation = -{live};
             DELETE FROM {base}.generations WHERE generation = {number};
             INSERT INTO {base}.generations (generation, rows_schema, status, last_repair)
             VALUES ({live}, '{live_schema}', 'retired', {last_repair});
             COMMIT"
        );
        Ok(run(connection, swap).await?)
    }

    /// Checks that the schema is that of this version. A dry run may be one of another version.
    async fn ensure_migrated(&mut self) -> Result<(), SwapError> {
        let Self { connection, base, .. } = self;
        let migrations: Vec<i64> =
            sqlx::query_scalar(AssertSqlSafe(format!("SELECT version FROM {base}._sqlx_migrations ORDER BY version")))
                .fetch_all(&mut *connection)
                .await?;
        match migrator().iter().map(|migration| migration.version).eq(migrations) {
            true => Ok(()),
            false => Err(SwapError::Migrated),
        }
    }

    /// Records which conversations have other rows in this generation. The caches have nothing of it yet, so nobody needs
    /// to tell them. Returns the number of the last repair before.
    async fn record_repairs(&mut self, differing: &DifferingConversations) -> Result<i64, sqlx::Error> {
        let Self { connection, base, live_schema, schema, undone_after, .. } = self;
        let table = format!("{base}.repairs");
        run(connection, lock_statement(&table)).await?;
        let last = sqlx::query_scalar(AssertSqlSafe(format!("SELECT coalesce(max(number), 0) FROM {table}")));
        let last: i64 = last.fetch_one(&mut *connection).await?;
        let mut scopes = Vec::new();
        match differing.visible() {
            conversations if conversations.len() > RECORDED_MAX => scopes.push(EVERYBODY.to_owned()),
            conversations if conversations.is_empty() => {}
            conversations => {
                let ids: Vec<String> = conversations.iter().map(ToString::to_string).collect();
                let ids = format!("'{{{}}}'::uuid[]", ids.join(","));
                let members = |schema: &str| {
                    format!("SELECT conversation_id, user_id FROM {schema}.members WHERE conversation_id = ANY({ids})")
                };
                let (before, after) = (members(live_schema), members(schema));
                scopes.push(format!("SELECT unnest({ids}), NULL::text"));
                scopes.push(format!("({before} EXCEPT {after}) UNION ALL ({after} EXCEPT {before})"));
            }
        }
        if let Some(undone_after) = undone_after {
            scopes.push(format!("SELECT conversation_id, user_id FROM {table} WHERE number > {undone_after}"));
        }
        if !scopes.is_empty() {
            run(connection, record_statement(&table, &scopes.join(" UNION ALL "), true)).await?;
            for forget in forget_statements(&table) {
                run(connection, forget).await?;
            }
        }
        Ok(last)
    }
}

/// Makes the dead letters those of the next generation: what it couldn't fold is one, and what it has folded is none.
async fn settle_dead_letters(
    connection: &mut PooledConnection,
    base: &str,
    topic_id: uuid::Uuid,
    parked: &[ParkedRecord],
) -> Result<(), sqlx::Error> {
    let partitions: Vec<i32> = parked.iter().map(|it| it.position.partition).collect();
    let offsets: Vec<i64> = parked.iter().map(|it| it.position.offset).collect();
    let folded = format!(
        "UPDATE {base}.dead_letters SET status = 'folded', changed_at = now(), note = NULL
         WHERE topic_id = $1 AND status <> 'folded' AND (partition, position) NOT IN (SELECT * FROM unnest($2::int[], $3::bigint[]))"
    );
    sqlx::query(AssertSqlSafe(folded))
        .bind(topic_id)
        .bind(&partitions)
        .bind(&offsets)
        .execute(&mut *connection)
        .await?;
    let added = format!(
        "INSERT INTO {base}.dead_letters AS known (topic_id, partition, position, reason)
         SELECT $1, * FROM unnest($2::int[], $3::bigint[], $4::text[])
         ON CONFLICT (topic_id, partition, position) DO UPDATE
             SET status = 'parked', changed_at = now(), reason = excluded.reason, conversation_id = NULL
             WHERE known.status IN ('folded', 'folded_untold')"
    );
    sqlx::query(AssertSqlSafe(added))
        .bind(topic_id)
        .bind(partitions)
        .bind(offsets)
        .bind(parked.iter().map(|it| storable_text(&it.reason)).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}
