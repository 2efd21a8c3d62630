//! Records as the rows of an Apache Parquet file: the columns of [`TableRow`], each with a type.
//!
//! The same records always give the same bytes: the borders of pages and row groups depend on the records alone. Ids are
//! texts, because most tools show a binary UUID as bytes.

use std::fmt::{Display, Write as _};
use std::io::Write;
use std::sync::Arc;

use domain::Timestamp;
use domain::event::Attachment;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, Int32Builder, Int64Builder, ListBuilder, StringBuilder, StructBuilder,
    TimestampMillisecondBuilder, UInt64Builder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};

use crate::table_row::TableRow;

/// How many rows are encoded at a time at most.
const BATCH_ROWS_MAX: usize = 4_096;
/// How many bytes the values of these records have, about.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// How many rows are in a row group at most. Readers skip and share row groups.
const ROW_GROUP_ROWS_MAX: usize = 256 << 10;
/// How many bytes of a row group wait in memory, about.
const ROW_GROUP_BYTES_MAX: usize = 32 << 20;
/// How hard zstd tries.
const ZSTD_LEVEL: i32 = 3;
/// The columns that hardly ever repeat a value.
const WITHOUT_DICTIONARY: [&str; 8] =
    ["offset", "logged_at", "occurred_at", "event_id", "content", "idempotency_key", "request_hash", "value"];
/// The columns whose values mostly grow.
const GROWING: [&str; 3] = ["offset", "logged_at", "occurred_at"];

domain::limit_rows! {
    Memory, "rows that `replay` encodes at a time for Parquet", Count BATCH_ROWS_MAX, "it encodes the others afterwards", "memory";
    Memory, "bytes of the values of these rows", Bytes BATCH_BYTES_MAX, "it encodes the others afterwards", "memory";
    Memory, "rows of a row group of a Parquet file", Count ROW_GROUP_ROWS_MAX, "the next row group begins", "the memory of who reads the file";
    Memory, "encoded bytes of a row group that wait to be written", Bytes ROW_GROUP_BYTES_MAX, "the next row group begins", "memory";
}

/// A column that is being built.
trait Column: ArrayBuilder {
    const IS_NULLABLE: bool = true;

    fn new() -> Self;
    fn data_type() -> DataType;
}

/// A column of such values.
trait ColumnOf<V>: Column {
    fn push(&mut self, value: V);
}

macro_rules! columns {
    ($($field:ident $name:literal: $column:ty,)*) => {
        /// The columns of a batch.
        struct Columns { $($field: $column,)* }

        impl Columns {
            fn new() -> Self {
                Self { $($field: <$column as Column>::new(),)* }
            }

            fn push(&mut self, row: &TableRow<'_>) {
                $(self.$field.push(row.$field);)*
            }

            fn finish(&mut self) -> Vec<ArrayRef> {
                vec![$(ArrayBuilder::finish(&mut self.$field),)*]
            }

            fn schema() -> Schema {
                Schema::new(vec![$(Field::new($name, <$column>::data_type(), <$column>::IS_NULLABLE),)*])
            }
        }
    };
}

columns! {
    partition "partition": Int32Builder,
    offset "offset": Int64Builder,
    logged_at "logged_at": TimestampMillisecondBuilder,
    occurred_at "occurred_at": TimestampMillisecondBuilder,
    event_type "type": StringBuilder,
    event_id "event_id": StringBuilder,
    conversation_id "conversation_id": StringBuilder,
    actor_id "actor_id": StringBuilder,
    message_id "message_id": StringBuilder,
    content "content": StringBuilder,
    message_type "message_type": StringBuilder,
    attachments "attachments": ListBuilder<StructBuilder>,
    mentions "mentions": ListBuilder<StringBuilder>,
    reply_to_id "reply_to_id": StringBuilder,
    conversation_type "conversation_type": StringBuilder,
    title "title": StringBuilder,
    participant_ids "participant_ids": ListBuilder<StringBuilder>,
    emoji "emoji": StringBuilder,
    label "label": StringBuilder,
    user_id "user_id": StringBuilder,
    idempotency_key "idempotency_key": StringBuilder,
    request_hash "request_hash": StringBuilder,
    error "error": StringBuilder,
    key "key": BinaryBuilder,
    value "value": BinaryBuilder,
}

impl Column for Int32Builder {
    const IS_NULLABLE: bool = false;

    fn new() -> Self {
        Self::new()
    }

    fn data_type() -> DataType {
        DataType::Int32
    }
}

impl ColumnOf<i32> for Int32Builder {
    fn push(&mut self, value: i32) {
        self.append_value(value);
    }
}

impl Column for Int64Builder {
    const IS_NULLABLE: bool = false;

    fn new() -> Self {
        Self::new()
    }

    fn data_type() -> DataType {
        DataType::Int64
    }
}

impl ColumnOf<i64> for Int64Builder {
    fn push(&mut self, value: i64) {
        self.append_value(value);
    }
}

impl Column for TimestampMillisecondBuilder {
    fn new() -> Self {
        Self::new().with_data_type(Self::data_type())
    }

    fn data_type() -> DataType {
        DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
    }
}

impl ColumnOf<Option<Timestamp>> for TimestampMillisecondBuilder {
    fn push(&mut self, value: Option<Timestamp>) {
        self.append_option(value.map(Timestamp::as_millis));
    }
}

impl Column for StringBuilder {
    fn new() -> Self {
        Self::new()
    }

    fn data_type() -> DataType {
        DataType::Utf8
    }
}

impl<T: Display> ColumnOf<Option<T>> for StringBuilder {
    fn push(&mut self, value: Option<T>) {
        let Some(value) = value else { return self.append_null() };
        // Writes into memory, which can't fail.
        let _ = write!(self, "{value}");
        self.append_value("");
    }
}

/// The elements of a list. Parquet names them so, and PyIceberg takes no other name.
fn element(data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new("element", data_type, true))
}

impl Column for ListBuilder<StringBuilder> {
    fn new() -> Self {
        Self::new(StringBuilder::new()).with_field(element(DataType::Utf8))
    }

    fn data_type() -> DataType {
        DataType::List(element(DataType::Utf8))
    }
}

impl<'a, T: Display> ColumnOf<Option<&'a [T]>> for ListBuilder<StringBuilder> {
    fn push(&mut self, value: Option<&'a [T]>) {
        value.into_iter().flatten().for_each(|item| self.values().push(Some(item)));
        self.append(value.is_some());
    }
}

/// How attachments are split into columns.
fn attachment_fields() -> Fields {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    vec![text("url"), text("name"), text("mime_type"), Field::new("size", DataType::UInt64, true)].into()
}

impl Column for ListBuilder<StructBuilder> {
    fn new() -> Self {
        let attachments = StructBuilder::from_fields(attachment_fields(), 0);
        Self::new(attachments).with_field(element(DataType::Struct(attachment_fields())))
    }

    fn data_type() -> DataType {
        DataType::List(element(DataType::Struct(attachment_fields())))
    }
}

impl<'a> ColumnOf<Option<&'a [Attachment]>> for ListBuilder<StructBuilder> {
    fn push(&mut self, value: Option<&'a [Attachment]>) {
        for Attachment { url, name, mime_type, size } in value.into_iter().flatten() {
            let fields = self.values();
            for (index, text) in [url, name, mime_type].into_iter().enumerate() {
                if let Some(column) = fields.field_builder::<StringBuilder>(index) {
                    column.append_value(text);
                }
            }
            if let Some(column) = fields.field_builder::<UInt64Builder>(3) {
                column.append_value(*size);
            }
            fields.append(true);
        }
        self.append(value.is_some());
    }
}

impl Column for BinaryBuilder {
    fn new() -> Self {
        Self::new()
    }

    fn data_type() -> DataType {
        DataType::Binary
    }
}

impl<'a> ColumnOf<Option<&'a [u8]>> for BinaryBuilder {
    fn push(&mut self, value: Option<&'a [u8]>) {
        self.append_option(value);
    }
}

/// A Parquet file that is being written.
pub(crate) struct ParquetFile<W: Write + Send> {
    writer: ArrowWriter<W>,
    columns: Columns,
    schema: Arc<Schema>,
    batch_rows: usize,
    batch_bytes: usize,
}

impl<W: Write + Send> ParquetFile<W> {
    /// Begins a file.
    pub(crate) fn begin(out: W) -> Result<Self, ParquetError> {
        let schema = Arc::new(Columns::schema());
        let options = ArrowWriterOptions::new().with_properties(properties()?);
        let writer = ArrowWriter::try_new_with_options(out, schema.clone(), options)?;
        Ok(Self { writer, columns: Columns::new(), schema, batch_rows: 0, batch_bytes: 0 })
    }

    /// Adds a row, given how many bytes the record's value has.
    pub(crate) fn write(&mut self, row: &TableRow<'_>, bytes: usize) -> Result<(), ParquetError> {
        self.columns.push(row);
        self.batch_rows += 1;
        self.batch_bytes += bytes;
        if self.batch_rows >= BATCH_ROWS_MAX || self.batch_bytes >= BATCH_BYTES_MAX {
            self.encode()?;
        }
        Ok(())
    }

    fn encode(&mut self) -> Result<(), ParquetError> {
        let batch = RecordBatch::try_new(self.schema.clone(), self.columns.finish())?;
        self.writer.write(&batch)?;
        (self.batch_rows, self.batch_bytes) = (0, 0);
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES_MAX {
            self.writer.flush()?;
        }
        Ok(())
    }

    /// Writes what is left, and the end of the file.
    pub(crate) fn finish(mut self) -> Result<W, ParquetError> {
        if self.batch_rows > 0 {
            self.encode()?;
        }
        self.writer.into_inner()
    }
}

fn properties() -> Result<WriterProperties, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX));
    for column in WITHOUT_DICTIONARY {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(column), false);
    }
    for column in GROWING {
        properties = properties.set_column_encoding(ColumnPath::from(column), Encoding::DELTA_BINARY_PACKED);
    }
    Ok(properties.build())
}
