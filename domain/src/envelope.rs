//! The envelope: one JSON value a record, whole by itself. It can never change, only gain versions.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{Event, EventData, Request};
use crate::ids::{ConversationId, EventId, IdempotencyKey, UserId};
use crate::timestamp::Timestamp;

/// The version that is written. Readers know every version up to it.
pub const VERSION: u32 = 1;

/// `ce_source` of every record.
pub const SOURCE: &str = "/messages";

/// Why a record's value is not an event that this build knows.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not one JSON object with the envelope's fields.
    #[error("not an event: {0}")]
    NotAnEvent(#[source] serde_json::Error),
    /// A version from the future.
    #[error("{event_type} has version {version}; this build reads up to {VERSION}")]
    UnknownVersion {
        /// The type as it stands in the envelope.
        event_type: String,
        /// The version as it stands in the envelope.
        version: u32,
    },
    /// A type or data that this build doesn't know.
    #[error("{event_type}: {source}")]
    Data {
        /// The type as it stands in the envelope.
        event_type: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The content is encrypted: reserved, and not known yet.
    #[error("{event_type} is encrypted, which this build can't read")]
    Encrypted {
        /// The type as it stands in the envelope.
        event_type: String,
    },
    /// A text holds U+0000, which Postgres can't store; commands never let it in.
    #[error("a text holds the character U+0000")]
    Nul,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Writing<'a> {
    event_id: EventId,
    #[serde(rename = "type")]
    event_type: &'static str,
    version: u32,
    occurred_at: Timestamp,
    conversation_id: ConversationId,
    actor_id: &'a UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a IdempotencyKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_hash: Option<&'a str>,
    data: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reading {
    event_id: EventId,
    #[serde(rename = "type")]
    event_type: String,
    version: u32,
    occurred_at: Timestamp,
    conversation_id: ConversationId,
    actor_id: UserId,
    #[serde(default)]
    idempotency_key: Option<IdempotencyKey>,
    #[serde(default)]
    request_hash: Option<String>,
    #[serde(default)]
    enc: Option<Value>,
    #[serde(default)]
    data: Value,
}

/// The bytes of a record's value.
pub fn encode(event: &Event) -> Vec<u8> {
    let mut tagged = serde_json::to_value(&event.data).unwrap_or_default();
    let writing = Writing {
        event_id: event.event_id,
        event_type: event.data.type_name(),
        version: VERSION,
        occurred_at: event.occurred_at,
        conversation_id: event.conversation_id,
        actor_id: &event.actor_id,
        idempotency_key: event.request.as_ref().map(|request| &request.key),
        request_hash: event.request.as_ref().map(|request| request.hash.as_str()),
        data: tagged["data"].take(),
    };
    // Text keys and plain values only: it can't fail.
    serde_json::to_vec(&writing).unwrap_or_default()
}

/// Reads a record's value, of any version up to [`VERSION`]. Unknown fields are passed over, so that a
/// version can gain optional ones.
///
/// # Errors
/// When it is not an event that this build knows.
pub fn decode(value: &[u8]) -> Result<Event, DecodeError> {
    let reading: Reading = serde_json::from_slice(value).map_err(DecodeError::NotAnEvent)?;
    let event_type = reading.event_type;
    if reading.version == 0 || reading.version > VERSION {
        return Err(DecodeError::UnknownVersion { event_type, version: reading.version });
    }
    if reading.enc.is_some() {
        return Err(DecodeError::Encrypted { event_type });
    }
    if holds_nul(&reading.data) {
        return Err(DecodeError::Nul);
    }
    // Absent and null mean the same; data is an object.
    let data = if reading.data.is_null() { Value::Object(serde_json::Map::new()) } else { reading.data };
    let data = EventData::deserialize(serde_json::json!({"type": &event_type, "data": data}))
        .map_err(|source| DecodeError::Data { event_type, source })?;
    let request = match (reading.idempotency_key, reading.request_hash) {
        (Some(key), hash) => Some(Request { key, hash: hash.unwrap_or_default() }),
        (None, _) => None,
    };
    Ok(Event {
        event_id: reading.event_id,
        occurred_at: reading.occurred_at,
        conversation_id: reading.conversation_id,
        actor_id: reading.actor_id,
        request,
        data,
    })
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(holds_nul),
        Value::Object(fields) => fields.values().any(holds_nul),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The headers of a record: `CloudEvents` 1.0, Kafka binding, binary mode.
pub fn headers(event: &Event) -> [(&'static str, String); 7] {
    [
        ("ce_specversion", "1.0".to_owned()),
        ("ce_type", event.data.type_name().to_owned()),
        ("ce_id", event.event_id.to_string()),
        ("ce_time", event.occurred_at.to_string()),
        ("ce_subject", event.conversation_id.to_string()),
        ("ce_source", SOURCE.to_owned()),
        ("content-type", "application/json".to_owned()),
    ]
}
