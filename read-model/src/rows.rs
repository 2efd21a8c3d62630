//! Converting columns of rows to the types of `domain`. A value that doesn't fit its type is an error, never a default.

use domain::event::{Attachment, MessageType};
use domain::{MessageId, Timestamp, UserId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

type Result<T> = std::result::Result<T, sqlx::Error>;

fn decode_error(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

pub(crate) fn user(row: &PgRow, column: &str) -> Result<UserId> {
    row.try_get::<&str, _>(column)?.parse().map_err(decode_error)
}

pub(crate) fn users(row: &PgRow, column: &str) -> Result<Vec<UserId>> {
    let ids: Vec<String> = row.try_get(column)?;
    ids.into_iter().map(|id| id.parse().map_err(decode_error)).collect()
}

pub(crate) fn timestamp(row: &PgRow, column: &str) -> Result<Timestamp> {
    Timestamp::from_date_time(row.try_get::<OffsetDateTime, _>(column)?).map_err(decode_error)
}

pub(crate) fn optional_timestamp(row: &PgRow, column: &str) -> Result<Option<Timestamp>> {
    let time: Option<OffsetDateTime> = row.try_get(column)?;
    time.map(|time| Timestamp::from_date_time(time).map_err(decode_error)).transpose()
}

/// Reads a variant of an enum. Columns hold the same text as JSON, such as `GROUP`.
pub(crate) fn enum_value<T: DeserializeOwned>(row: &PgRow, column: &str) -> Result<T> {
    let text: String = row.try_get(column)?;
    serde_json::from_value(serde_json::Value::String(text)).map_err(decode_error)
}

/// The text that a column holds for a variant of an enum.
pub(crate) fn enum_text(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        // Unreachable: callers pass only variants without fields, whose JSON is a text.
        _ => String::new(),
    }
}

/// A row of the table `messages`, without the conversation.
pub(crate) struct MessageRow {
    pub(crate) id: MessageId,
    pub(crate) seq: i64,
    pub(crate) sender_id: UserId,
    pub(crate) content: Option<String>,
    pub(crate) message_type: MessageType,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) mentions: Vec<UserId>,
    pub(crate) reply_to_id: Option<MessageId>,
    pub(crate) created_at: Timestamp,
    pub(crate) edited_at: Option<Timestamp>,
    pub(crate) deleted_at: Option<Timestamp>,
    /// The offset of the last change.
    pub(crate) offset: i64,
}

impl MessageRow {
    pub(crate) fn read(row: &PgRow) -> Result<Self> {
        Ok(Self {
            id: MessageId(row.try_get("id")?),
            seq: row.try_get("seq")?,
            sender_id: user(row, "sender_id")?,
            content: row.try_get("content")?,
            message_type: enum_value(row, "message_type")?,
            attachments: row.try_get::<Json<_>, _>("attachments")?.0,
            mentions: row.try_get::<Json<_>, _>("mentions")?.0,
            reply_to_id: row.try_get::<Option<Uuid>, _>("reply_to_id")?.map(MessageId),
            created_at: timestamp(row, "created_at")?,
            edited_at: optional_timestamp(row, "edited_at")?,
            deleted_at: optional_timestamp(row, "deleted_at")?,
            offset: row.try_get("position")?,
        })
    }
}
