//! Copying rows into the tables of the generation that is being built.

use futures_util::future::try_join_all;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::sync::mpsc;

use super::build::NextGeneration;
use crate::connection::ReadModel;
use crate::derived_rows::{DemandedRow, DerivedTable, Value};
use crate::error::ReadModelError;
use crate::pool::PooledConnection;

/// About how many bytes of rows are sent to Postgres at a time.
const CHUNK_BYTES: usize = 1 << 20;

domain::limit_rows! {
    Memory, "bytes of copied rows that a rebuild hands to a connection at a time", Bytes CHUNK_BYTES, "it sends the others afterwards", "memory";
}

/// Rows of all tables, in the binary format of COPY: a row is the number of its values, and of each value the length and
/// the bytes. Numbers have their highest byte first. See the [documentation of
/// Postgres](https://www.postgresql.org/docs/15/sql-copy.html).
#[derive(Debug, Default)]
pub struct RowBuffers {
    by_table: [Vec<u8>; DerivedTable::ALL.len()],
}

/// What comes before the rows in a COPY: a signature, no flags, and no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What comes after the rows.
const TRAILER: &[u8] = &(-1_i16).to_be_bytes();
/// From when on Postgres counts the microseconds of a time.
const EPOCH: OffsetDateTime = datetime!(2000-01-01 0:00 UTC);
/// The version of the binary form of a `jsonb`.
const JSONB_VERSION: u8 = 1;

impl RowBuffers {
    /// Adds a row.
    pub fn add(&mut self, row: &DemandedRow<'_>) {
        let buffer = &mut self.by_table[row.table as usize];
        buffer.extend_from_slice(&i16::try_from(row.values.len()).unwrap_or(0).to_be_bytes());
        for value in &row.values {
            match value {
                Value::Null => buffer.extend_from_slice(&(-1_i32).to_be_bytes()),
                Value::Uuid(id) => push(buffer, &[id.as_bytes()]),
                Value::Integer(number) => push(buffer, &[&number.to_be_bytes()]),
                Value::Bigint(number) => push(buffer, &[&number.to_be_bytes()]),
                Value::Text(text) => push(buffer, &[text.as_bytes()]),
                Value::Json(json) => push(buffer, &[&[JSONB_VERSION], json.as_bytes()]),
                Value::Time(at) => push(buffer, &[&micros_since_epoch(*at).to_be_bytes()]),
            }
        }
    }

    /// The rows of each table, in the order of [`DerivedTable::ALL`].
    pub fn into_tables(self) -> [Vec<u8>; DerivedTable::ALL.len()] {
        self.by_table
    }
}

/// Writes a value that consists of these bytes.
fn push(buffer: &mut Vec<u8>, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    buffer.extend_from_slice(&i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes());
    parts.iter().for_each(|part| buffer.extend_from_slice(part));
}

fn micros_since_epoch(at: OffsetDateTime) -> i64 {
    // The years of our times fit.
    i64::try_from((at - EPOCH).whole_microseconds()).unwrap_or(i64::MAX)
}

/// Copies the rows of one table, on a connection of its own and in one transaction.
pub struct TableCopier {
    connection: PooledConnection,
    schema: String,
    table: DerivedTable,
}

impl NextGeneration {
    /// A copier for each table, in the order of [`DerivedTable::ALL`].
    pub async fn copiers(&mut self, read_model: &ReadModel) -> Result<Vec<TableCopier>, ReadModelError> {
        let connecting = DerivedTable::ALL.map(|_| read_model.pool.connect_without_limits("copy_rows"));
        let connections = try_join_all(connecting).await?;
        let mut copiers = Vec::new();
        for (table, mut connection) in DerivedTable::ALL.into_iter().zip(connections) {
            self.pids.push(connection.pid());
            copiers.push(TableCopier { connection, schema: self.schema.clone(), table });
        }
        Ok(copiers)
    }
}

impl TableCopier {
    /// Copies rows until no more come.
    pub async fn copy(mut self, rows: mpsc::Receiver<Vec<u8>>) -> Result<(), ReadModelError> {
        let Self { connection, schema, table } = &mut self;
        let columns = table.columns().join(", ");
        let statement = format!("COPY {schema}.{} ({columns}) FROM STDIN (FORMAT binary)", table.name());
        connection.copy_in(&statement, [HEADER, TRAILER], rows, CHUNK_BYTES).await?;
        Ok(self.connection.close().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_its_values_with_their_lengths() {
        let mut rows = RowBuffers::default();
        let at = OffsetDateTime::UNIX_EPOCH;
        let values = vec![Value::Null, Value::Integer(7), Value::Json("[]".to_owned()), Value::Time(at)];
        rows.add(&DemandedRow { table: DerivedTable::Messages, values });
        let micros = -946_684_800_000_000_i64;
        let expected: [&[u8]; 8] = [
            &[0, 4],
            &[255, 255, 255, 255],
            &[0, 0, 0, 4, 0, 0, 0, 7],
            &[0, 0, 0, 3, 1],
            b"[]",
            &[0, 0, 0, 8],
            &micros.to_be_bytes(),
            &[],
        ];
        assert_eq!(rows.by_table[DerivedTable::Messages as usize], expected.concat());
    }
}
