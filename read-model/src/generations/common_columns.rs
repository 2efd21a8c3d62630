//! The columns that the rows of two generations have in common. A dry run by another version may know columns that the
//! schema in use lacks, because its migrations haven't run: these can't be compared.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row;

use crate::derived_rows::DerivedTable;
use crate::pool::PooledConnection;

/// The columns that can be compared, by table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommonColumns(BTreeMap<DerivedTable, Vec<&'static str>>);

impl CommonColumns {
    /// Those of this version that a schema has, too.
    pub(super) async fn with(connection: &mut PooledConnection, schema: &str) -> Result<Self, sqlx::Error> {
        let found = sqlx::query(
            "SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = $1",
        );
        let mut existing = BTreeSet::new();
        for row in found.bind(schema).fetch_all(connection).await? {
            existing.insert((row.try_get::<String, _>(0)?, row.try_get::<String, _>(1)?));
        }
        let of_table = |table: DerivedTable| {
            let exists = |column: &&str| existing.contains(&(table.name().to_owned(), (*column).to_owned()));
            // Without its key, a row is none.
            let has_key = table.columns()[..table.key_length()].iter().all(exists);
            let columns = table.columns().iter().copied().filter(|column| has_key && exists(column));
            (table, columns.collect())
        };
        Ok(Self(DerivedTable::ALL.into_iter().map(of_table).collect()))
    }

    /// The columns of a table; none if the table can't be compared.
    pub(super) fn of(&self, table: DerivedTable) -> &[&'static str] {
        self.0.get(&table).map_or(&[], Vec::as_slice)
    }

    /// The tables that can be compared.
    pub(super) fn tables(&self) -> Vec<DerivedTable> {
        DerivedTable::ALL.into_iter().filter(|table| !self.of(*table).is_empty()).collect()
    }

    /// The columns that can't be compared, such as `messages.edited_at`.
    pub(super) fn missing(&self) -> Vec<String> {
        let of_table = |table: DerivedTable| {
            let columns = table.columns().iter().filter(move |column| !self.of(table).contains(column));
            columns.map(move |column| format!("{}.{column}", table.name()))
        };
        DerivedTable::ALL.into_iter().flat_map(of_table).collect()
    }
}
