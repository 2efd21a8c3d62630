//! The head of records as rows of CSV (RFC 4180).

use crate::table_row::TableRow;

/// The line with the names of the columns.
pub(crate) fn head() -> csv::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.serialize(TableRow::default())?;
    let mut bytes = writer.into_inner().map_err(|error| error.into_error())?;
    let end = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    bytes.truncate(end);
    Ok(bytes)
}
