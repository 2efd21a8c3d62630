//! The rows that Postgres has, from one snapshot, page by page.

use std::collections::BTreeMap;

use domain::Position;
use domain::event::Attachment;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::table::{DerivedRow, DerivedTable};
use crate::connection::{ReadModel, SNAPSHOT};
use crate::error::ReadModelError;
use crate::parking::DeadLetterStatus;
use crate::pool::PooledConnection;
use crate::projection::{self, FoldedTopic};
use crate::rows;

/// How many rows a page has at most.
const PAGE_ROWS_MAX: i64 = 1_000;
/// How many dead letters a comparison remembers.
const DEAD_LETTERS_MAX: usize = 1_000_000;

domain::limit_rows! {
    Memory, "rows that `verify` reads at a time", Count PAGE_ROWS_MAX, "it reads the others afterwards", "memory, and Postgres";
    Memory, "dead letters that `verify` remembers", Count DEAD_LETTERS_MAX, "it ends with code 1", "memory";
}

/// Reads all rows that are folded from the log, from one snapshot of Postgres. Until it is dropped, Postgres keeps the
/// snapshot, and nobody can empty the tables.
pub struct StoredRows {
    transaction: PooledConnection,
    /// The table of the next page, and those after it.
    tables: &'static [DerivedTable],
    /// The primary key of the last row that was read of the first of them.
    last_key: Option<Vec<Option<String>>>,
}

impl ReadModel {
    /// Begins to read all rows that are folded from the log. The offsets of the result say up to where; none if no
    /// projector has run yet.
    pub async fn stored_rows(&self) -> Result<Option<(FoldedTopic, StoredRows)>, ReadModelError> {
        let (folded, transaction) = begin_rows(self, "stored_rows").await?;
        Ok(folded.map(|folded| (folded, StoredRows { transaction, tables: &DerivedTable::ALL, last_key: None })))
    }
}

/// Begins a snapshot whose rows are read as texts. Also returns up to where the read model is folded; none if no
/// projector has run yet.
pub(super) async fn begin_rows(
    read_model: &ReadModel,
    operation: &'static str,
) -> Result<(Option<FoldedTopic>, PooledConnection), ReadModelError> {
    read_model
        .read_live(|| async {
            let mut transaction = read_model.begin(operation, SNAPSHOT).await?;
            // Texts of times depend on these settings.
            sqlx::query("SELECT set_config('timezone', 'UTC', true), set_config('datestyle', 'ISO, YMD', true)")
                .execute(&mut transaction)
                .await?;
            Ok((projection::folded_topic(&mut transaction).await?, transaction))
        })
        .await
}

impl StoredRows {
    /// The dead letters of a topic, with their statuses. None if there are too many to remember.
    pub async fn dead_letters(
        &mut self,
        topic_id: Uuid,
    ) -> Result<Option<BTreeMap<Position, DeadLetterStatus>>, ReadModelError> {
        let mut found = BTreeMap::new();
        let mut last = Position { partition: -1, offset: 0 };
        while found.len() <= DEAD_LETTERS_MAX {
            let page = sqlx::query(
                "SELECT partition, position, status FROM dead_letters
                 WHERE topic_id = $1 AND (partition, position) > ($2, $3) ORDER BY partition, position LIMIT $4",
            )
            .bind(topic_id)
            .bind(last.partition)
            .bind(last.offset)
            .bind(PAGE_ROWS_MAX)
            .fetch_all(&mut self.transaction)
            .await?;
            if page.is_empty() {
                return Ok(Some(found));
            }
            for row in page {
                last = Position { partition: row.try_get("partition")?, offset: row.try_get("position")? };
                found.insert(last, rows::enum_value(&row, "status")?);
            }
        }
        Ok(None)
    }

    /// The next rows, in the order of the tables and of their primary keys. None after the last.
    pub async fn next_page(&mut self) -> Result<Option<Vec<DerivedRow>>, ReadModelError> {
        while let Some((table, later)) = self.tables.split_first() {
            let page = self.read_page(*table).await?;
            match page.last() {
                Some(last) => {
                    self.last_key = Some(last.values[..table.key_length()].to_vec());
                    return Ok(Some(page));
                }
                None => (self.tables, self.last_key) = (later, None),
            }
        }
        Ok(None)
    }

    async fn read_page(&mut self, table: DerivedTable) -> Result<Vec<DerivedRow>, ReadModelError> {
        let name = table.name();
        // With the table's name: the columns of the result have the same names, but are texts.
        let key_columns = table.columns()[..table.key_length()].iter().map(|column| format!("{name}.{column}"));
        let key_columns = key_columns.collect::<Vec<_>>().join(", ");
        let parameters = table.key_types().iter().zip(2..).map(|(kind, number)| format!("${number}::text::{kind}"));
        let after = match self.last_key {
            Some(_) => format!("WHERE ({key_columns}) > ({})", parameters.collect::<Vec<_>>().join(", ")),
            None => String::new(),
        };
        let values: Vec<String> = table.columns().iter().map(|column| format!("{column}::text")).collect();
        let values = values.join(", ");
        let statement = format!("SELECT {values} FROM {name} {after} ORDER BY {key_columns} LIMIT $1");
        let mut query = sqlx::query(AssertSqlSafe(statement)).bind(PAGE_ROWS_MAX);
        for value in self.last_key.iter().flatten() {
            query = query.bind(value);
        }
        let page = query.fetch_all(&mut self.transaction).await?;
        Ok(page.iter().map(|row| read(table, row)).collect::<Result<_, _>>()?)
    }
}

/// Reads a row whose columns are texts.
pub(super) fn read(table: DerivedTable, row: &PgRow) -> Result<DerivedRow, sqlx::Error> {
    let values = (0..table.columns().len()).map(|index| row.try_get(index));
    let mut values = values.collect::<Result<Vec<Option<String>>, _>>()?;
    for (column, value) in table.columns().iter().zip(&mut values) {
        if let Some(text) = value {
            match *column {
                "attachments" => unify_json::<Vec<Attachment>>(text),
                "mentions" | "user_ids" => unify_json::<Vec<String>>(text),
                _ => {}
            }
        }
    }
    Ok(DerivedRow { table, values })
}

/// Gives JSON the form that the demanded rows have: Postgres writes spaces, and the fields in another order. What isn't
/// exactly such a value stays as it is.
fn unify_json<T: Serialize + DeserializeOwned>(text: &mut String) {
    if text == "[]" {
        return;
    }
    let Ok(typed) = serde_json::from_str::<T>(text) else { return };
    let is_exact = match (serde_json::to_value(&typed), serde_json::from_str::<serde_json::Value>(text)) {
        (Ok(typed), Ok(untyped)) => typed == untyped,
        _ => false,
    };
    if let Ok(unified) = serde_json::to_string(&typed)
        && is_exact
    {
        *text = unified;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_compared_by_its_meaning_and_damaged_json_stays_visible() {
        let unified = |text: &str| {
            let mut text = text.to_owned();
            unify_json::<Vec<Attachment>>(&mut text);
            text
        };
        let compact = r#"[{"url":"https://a","name":"b","mimeType":"c","size":1}]"#;
        assert_eq!(unified(r#"[{"url": "https://a", "name": "b", "size": 1, "mimeType": "c"}]"#), compact);
        for damaged in [r#"{"a": 1}"#, r#"[{"url": "u", "name": "n", "size": 1, "mimeType": "m", "more": 2}]"#, "[7]"] {
            assert_eq!(unified(damaged), damaged);
        }
    }
}
