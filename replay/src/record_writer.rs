//! Writing records in one of the forms.

use std::io::{self, BufWriter, Write};

use parquet::errors::ParquetError;
use serde::Serialize;

use crate::parquet_file::ParquetFile;
use crate::replayed_record::{ContentChoice, ReplayedRecord};
use crate::table_row::TableRow;
use crate::{csv_rows, json_lines};

/// How many bytes are written at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// The form in which records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ReplayFormat {
    /// One JSON object a line: the record's value with `partition`, `offset` and `loggedAt` before its fields.
    #[serde(rename = "jsonl")]
    JsonLines,
    /// CSV with a head, and the same columns for every type.
    #[serde(rename = "csv")]
    Csv,
    /// Apache Parquet, with the same columns as CSV, and types for them.
    #[serde(rename = "parquet")]
    Parquet,
}

impl ReplayFormat {
    /// What the names of its files end with, after the point.
    pub fn extension(self) -> &'static str {
        match self {
            Self::JsonLines => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}

/// The output in one of the forms.
pub(crate) enum RecordWriter<W: Write + Send> {
    JsonLines(BufWriter<W>),
    Csv(Box<csv::Writer<W>>),
    Parquet(Box<ParquetFile<W>>),
}

impl<W: Write + Send> RecordWriter<W> {
    pub(crate) fn begin(format: ReplayFormat, mut out: W) -> io::Result<Self> {
        match format {
            ReplayFormat::JsonLines => Ok(Self::JsonLines(BufWriter::with_capacity(BUFFER_BYTES, out))),
            ReplayFormat::Csv => {
                out.write_all(&csv_rows::head()?)?;
                let mut builder = csv::WriterBuilder::new();
                builder.has_headers(false).buffer_capacity(BUFFER_BYTES);
                Ok(Self::Csv(Box::new(builder.from_writer(out))))
            }
            ReplayFormat::Parquet => Ok(Self::Parquet(Box::new(ParquetFile::begin(out).map_err(io_error)?))),
        }
    }

    pub(crate) fn write(&mut self, record: &ReplayedRecord, content: ContentChoice) -> io::Result<()> {
        match self {
            Self::JsonLines(out) => json_lines::write(record, content, out),
            Self::Csv(out) => Ok(out.serialize(TableRow::new(record, content))?),
            Self::Parquet(out) => out.write(&TableRow::new(record, content), record.value.len()).map_err(io_error),
        }
    }

    /// Writes what has waited for more. Parquet can't do that.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::JsonLines(out) => out.flush(),
            Self::Csv(out) => out.flush(),
            Self::Parquet(_) => Ok(()),
        }
    }

    /// Writes the rest, and returns the output.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::JsonLines(out) => Ok(out.into_inner()?),
            Self::Csv(out) => out.into_inner().map_err(|error| error.into_error()),
            Self::Parquet(out) => out.finish().map_err(io_error),
        }
    }
}

/// The error of the output, or what else failed.
fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast() {
            Ok(error) => *error,
            Err(source) => io::Error::other(source),
        },
        error => io::Error::other(error),
    }
}
