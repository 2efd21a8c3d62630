//! Rows in which the generation that is being built differs from the live one.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::common_columns::CommonColumns;
use super::digests::DifferingConversations;
use crate::derived_rows::{DerivedRow, DerivedTable};
use crate::pool::PooledConnection;

/// The values of a primary key.
type Key = Vec<Option<String>>;

/// A row that differs. At least one of the two exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DifferingRow {
    /// The row of the live generation.
    pub live: Option<DerivedRow>,
    /// The row of the generation that is being built.
    pub next: Option<DerivedRow>,
}

/// Lists rows that differ, at most so many of each table and generation, in the order of their keys.
pub(super) async fn differing_rows(
    connection: &mut PooledConnection,
    columns: &CommonColumns,
    live: &str,
    next: &str,
    conversations: &DifferingConversations,
    limit: usize,
) -> Result<Vec<DifferingRow>, sqlx::Error> {
    let mut found = Vec::new();
    for (table, ids) in &conversations.0 {
        let ids: Vec<Uuid> = ids.iter().take(limit).map(|id| id.0).collect();
        let mut rows: BTreeMap<Key, DifferingRow> = BTreeMap::new();
        for row in rows_without(connection, (*table, columns.of(*table)), [live, next], &ids, limit).await? {
            let key = row.values[..table.key_length()].to_vec();
            rows.insert(key, DifferingRow { live: Some(row), next: None });
        }
        for row in rows_without(connection, (*table, columns.of(*table)), [next, live], &ids, limit).await? {
            let key = row.values[..table.key_length()].to_vec();
            rows.entry(key).or_insert(DifferingRow { live: None, next: None }).next = Some(row);
        }
        found.extend(rows.into_values());
    }
    Ok(found)
}

/// The rows of a table in one generation that aren't in another, by the columns that both have.
async fn rows_without(
    connection: &mut PooledConnection,
    (table, common): (DerivedTable, &[&str]),
    [one, other]: [&str; 2],
    conversations: &[Uuid],
    limit: usize,
) -> Result<Vec<DerivedRow>, sqlx::Error> {
    let (name, columns) = (table.name(), table.columns());
    let value = |column: &&str| match common.contains(column) {
        true => format!("{column}::text"),
        false => "NULL::text".to_owned(),
    };
    let values: Vec<String> = columns.iter().map(value).collect();
    let rows =
        |schema: &str| format!("SELECT {} FROM {schema}.{name} WHERE {} = ANY($1)", values.join(", "), columns[0]);
    let key: Vec<String> = (1..=table.key_length()).map(|number| number.to_string()).collect();
    let statement = format!("{} EXCEPT {} ORDER BY {} LIMIT {limit}", rows(one), rows(other), key.join(", "));
    let found = sqlx::query(AssertSqlSafe(statement)).bind(conversations).fetch_all(connection).await?;
    let read = |row: &sqlx::postgres::PgRow| {
        let values = (0..columns.len()).map(|index| row.try_get(index)).collect::<Result<_, _>>()?;
        Ok(DerivedRow { table, values })
    };
    found.iter().map(read).collect()
}
