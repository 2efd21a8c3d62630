//! Copying rows into the tables of the generation that is being built.

use sqlx::{Connection, PgConnection};
use tokio::sync::mpsc;

use super::build::NextGeneration;
use crate::connection::ReadModel;
use crate::derived_rows::{DerivedRow, DerivedTable};
use crate::error::ReadModelError;

/// About how many bytes of rows are sent to Postgres at a time.
const CHUNK_BYTES: usize = 1 << 20;

domain::limit_rows! {
    Memory, "bytes of copied rows that a rebuild hands to a connection at a time", Bytes CHUNK_BYTES, "it sends the others afterwards", "memory";
}

/// Rows of all tables, in the text format of COPY.
#[derive(Debug, Default)]
pub struct RowBuffers {
    by_table: [Vec<u8>; DerivedTable::ALL.len()],
}

impl RowBuffers {
    /// Adds a row.
    pub fn add(&mut self, row: &DerivedRow) {
        let buffer = &mut self.by_table[row.table as usize];
        for (index, value) in row.values.iter().enumerate() {
            if index > 0 {
                buffer.push(b'\t');
            }
            match value {
                None => buffer.extend_from_slice(b"\\N"),
                Some(text) => escape(text, buffer),
            }
        }
        buffer.push(b'\n');
    }

    /// The rows of each table, in the order of [`DerivedTable::ALL`].
    pub fn into_tables(self) -> [Vec<u8>; DerivedTable::ALL.len()] {
        self.by_table
    }
}

/// Writes a text as COPY reads it: a backslash before what would end the value or the row.
fn escape(text: &str, buffer: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'\\' => buffer.extend_from_slice(b"\\\\"),
            b'\n' => buffer.extend_from_slice(b"\\n"),
            b'\r' => buffer.extend_from_slice(b"\\r"),
            b'\t' => buffer.extend_from_slice(b"\\t"),
            other => buffer.push(other),
        }
    }
}

/// Copies the rows of one table, on a connection of its own and in one transaction.
pub struct TableCopier {
    connection: PgConnection,
    schema: String,
    table: DerivedTable,
}

impl NextGeneration {
    /// A copier for each table, in the order of [`DerivedTable::ALL`].
    pub async fn copiers(&self, read_model: &ReadModel) -> Result<Vec<TableCopier>, ReadModelError> {
        let mut copiers = Vec::new();
        for table in DerivedTable::ALL {
            let (connection, _) = read_model.pool.connect_without_limits().await?;
            copiers.push(TableCopier { connection, schema: self.schema.clone(), table });
        }
        Ok(copiers)
    }
}

impl TableCopier {
    /// Copies rows until no more come.
    pub async fn copy(mut self, mut rows: mpsc::Receiver<Vec<u8>>) -> Result<(), ReadModelError> {
        let Self { connection, schema, table } = &mut self;
        let statement = format!("COPY {schema}.{} ({}) FROM STDIN", table.name(), table.columns().join(", "));
        let mut copying = connection.copy_in_raw(&statement).await?;
        while let Some(rows) = rows.recv().await {
            for chunk in rows.chunks(CHUNK_BYTES) {
                copying.send(chunk).await?;
            }
        }
        copying.finish().await?;
        Ok(self.connection.close().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_value_or_a_row_is_escaped() {
        let text = |text: &str| Some(text.to_owned());
        let mut rows = RowBuffers::default();
        let values = vec![text("a\tb\\c"), None, text("\\N"), text("x\r\ny"), text("")];
        rows.add(&DerivedRow { table: DerivedTable::Messages, values });
        let written = String::from_utf8(rows.by_table[DerivedTable::Messages as usize].clone()).unwrap();
        assert_eq!(written, "a\\tb\\\\c\t\\N\t\\\\N\tx\\r\\ny\t\n");
    }
}
