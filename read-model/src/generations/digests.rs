//! Comparing the generation that is being built with the live one: by digests of each conversation's rows in each table,
//! which Postgres computes. A digest is the number of rows, and two sums of hashes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use domain::{ConversationId, PositionVector};
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::build::{MEMORY, NextGeneration};
use super::common_columns::CommonColumns;
use super::schema::{live_digests, offsets, run};
use crate::connection::ReadModel;
use crate::derived_rows::DerivedTable;
use crate::error::ReadModelError;
use crate::pool::PooledConnection;

/// Conversations whose rows differ, by table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DifferingConversations(pub BTreeMap<DerivedTable, BTreeSet<ConversationId>>);

impl DifferingConversations {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many conversations have rows that differ.
    pub fn conversations(&self) -> BTreeSet<ConversationId> {
        self.0.values().flatten().copied().collect()
    }

    /// The conversations with differences that clients can see.
    pub(super) fn visible(&self) -> BTreeSet<ConversationId> {
        self.0.iter().filter(|(table, _)| table.is_visible()).flat_map(|(_, ids)| ids).copied().collect()
    }

    /// Adds others.
    pub fn extend(&mut self, others: Self) {
        for (table, conversations) in others.0 {
            self.0.entry(table).or_default().extend(conversations);
        }
    }

    fn read(rows: &[sqlx::postgres::PgRow], table: DerivedTable, into: &mut Self) -> Result<(), sqlx::Error> {
        for row in rows {
            let conversation = ConversationId(row.try_get::<Uuid, _>("conversation")?);
            into.0.entry(table).or_default().insert(conversation);
        }
        Ok(())
    }
}

/// The statement that computes the digests of a table's rows. `condition` chooses the rows.
fn digests(schema: &str, table: DerivedTable, columns: &[&str], condition: &str) -> String {
    let (name, columns) = (table.name(), columns.join(", "));
    let conversation = table.columns()[0];
    // With OFFSET, Postgres hashes each row once: a row's second hash is that of its first one.
    format!(
        "SELECT conversation, count(*) AS rows, sum(hash) AS first_sum, sum(hashint8extended(hash, 2)) AS second_sum
         FROM (SELECT {conversation} AS conversation, hash_record_extended(ROW({columns}), 1) AS hash
               FROM {schema}.{name} {condition} OFFSET 0) AS hashed
         GROUP BY conversation"
    )
}

/// The statement that lists the conversations whose digests differ.
fn differing(one: &str, other: &str) -> String {
    format!(
        "SELECT conversation FROM ({one}) AS one FULL JOIN ({other}) AS other USING (conversation)
         WHERE (one.rows, one.first_sum, one.second_sum) IS DISTINCT FROM (other.rows, other.first_sum, other.second_sum)"
    )
}

impl NextGeneration {
    /// Begins a snapshot of the live generation, of which [`Self::store_live_digests`] stores the digests. Returns the
    /// offsets that it includes.
    pub async fn begin_live_digests(&mut self) -> Result<PositionVector, ReadModelError> {
        let Self { connection, live_schema, .. } = self;
        run(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ".to_owned()).await?;
        Ok(offsets(connection, live_schema).await?)
    }

    /// Stores the digests of the live generation: of all conversations, or of those that have changed since some
    /// offsets.
    pub async fn store_live_digests(&mut self, since: Option<&PositionVector>) -> Result<(), ReadModelError> {
        let Self { connection, schema, live_schema, columns, .. } = self;
        for table in columns.tables() {
            let condition = since.map_or(String::new(), |since| {
                let id = table.columns()[0];
                format!("WHERE {id} IN ({})", changed(live_schema, since))
            });
            let digests = digests(live_schema, table, columns.of(table), &condition);
            // An earlier way back to this generation may have ended in the middle.
            let stored = live_digests(schema, table);
            run(connection, format!("DROP TABLE IF EXISTS {stored}; CREATE TABLE {stored} AS {digests}")).await?;
        }
        Ok(run(connection, "COMMIT".to_owned()).await?)
    }

    /// Compares all rows of this generation with the stored digests, two tables at a time. This generation must be folded
    /// as far as the digests include.
    pub async fn compare_all(&mut self, read_model: &ReadModel) -> Result<DifferingConversations, ReadModelError> {
        let mut other = read_model.pool.connect_without_limits("compare_generations").await?;
        self.pids.push(other.pid());
        let Self { connection, schema, columns, .. } = self;
        let tables = Mutex::new(columns.tables());
        let (mut found, more) = tokio::try_join!(
            compare_tables(connection, schema, columns, &tables),
            compare_tables(&mut other, schema, columns, &tables),
        )?;
        found.extend(more);
        other.close().await?;
        Ok(found)
    }

    /// The same with digests of the conversations that have changed since some offsets, and these conversations' rows.
    pub async fn compare_changed(&mut self, since: &PositionVector) -> Result<DifferingConversations, ReadModelError> {
        let mut found = DifferingConversations::default();
        let Self { connection, schema, columns, .. } = self;
        for table in columns.tables() {
            let (changed, id, stored) = (changed(schema, since), table.columns()[0], live_digests(schema, table));
            let condition = format!("WHERE {id} IN ({changed} UNION SELECT conversation FROM {stored})");
            let digests = digests(schema, table, columns.of(table), &condition);
            compare_with_stored(connection, &stored, &digests, table, &mut found).await?;
        }
        Ok(found)
    }
}

/// Compares one table after the other with its stored digests, until none is left.
async fn compare_tables(
    connection: &mut PooledConnection,
    schema: &str,
    columns: &CommonColumns,
    tables: &Mutex<Vec<DerivedTable>>,
) -> Result<DifferingConversations, sqlx::Error> {
    let mut found = DifferingConversations::default();
    run(connection, MEMORY.to_owned()).await?;
    loop {
        let next = tables.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(table) = next else { return Ok(found) };
        let digests = digests(schema, table, columns.of(table), "");
        compare_with_stored(connection, &live_digests(schema, table), &digests, table, &mut found).await?;
    }
}

/// Compares the digests of a table's rows with the stored ones, and drops those.
async fn compare_with_stored(
    connection: &mut PooledConnection,
    stored: &str,
    digests: &str,
    table: DerivedTable,
    found: &mut DifferingConversations,
) -> Result<(), sqlx::Error> {
    let statement = differing(&format!("SELECT * FROM {stored}"), digests);
    let rows = sqlx::query(AssertSqlSafe(statement)).fetch_all(&mut *connection).await?;
    DifferingConversations::read(&rows, table, found)?;
    run(connection, format!("DROP TABLE {stored}")).await
}

/// The statement that lists the conversations that have changed since some offsets.
fn changed(schema: &str, since: &PositionVector) -> String {
    let since: Vec<String> = since.0.iter().map(i64::to_string).collect();
    format!(
        "SELECT id FROM unnest('{{{}}}'::bigint[]) WITH ORDINALITY AS since (next, number)
         JOIN {schema}.conversations ON partition = number - 1 AND changed >= next",
        since.join(",")
    )
}

/// Compares the rows of the conversations that have changed since these offsets, in either of two generations.
pub(super) async fn compare_generations(
    connection: &mut PooledConnection,
    columns: &CommonColumns,
    schemas: [&str; 2],
    since: &PositionVector,
) -> Result<DifferingConversations, sqlx::Error> {
    let changed = format!("{} UNION {}", changed(schemas[0], since), changed(schemas[1], since));
    let ids: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(changed)).fetch_all(&mut *connection).await?;
    let mut found = DifferingConversations::default();
    if ids.is_empty() {
        return Ok(found);
    }
    for table in columns.tables() {
        let condition = format!("WHERE {} = ANY($1)", table.columns()[0]);
        let [one, other] = schemas.map(|schema| digests(schema, table, columns.of(table), &condition));
        let statement = sqlx::query(AssertSqlSafe(differing(&one, &other))).bind(&ids);
        DifferingConversations::read(&statement.fetch_all(&mut *connection).await?, table, &mut found)?;
    }
    Ok(found)
}
