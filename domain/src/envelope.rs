//! The envelope: one JSON value a record, whole by itself. It can never change, only gain versions.

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
struct EncodedEnvelope<'a> {
    event_id: EventId,
    version: u32,
    occurred_at: Timestamp,
    conversation_id: ConversationId,
    actor_id: &'a UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a IdempotencyKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_hash: Option<&'a str>,
    // `type` and `data`, next to each other.
    #[serde(flatten)]
    data: &'a EventData,
}

/// The value of a record on the topic `messages`: one event, whole by itself. A field that is null means the same as
/// one that is absent, and fields that are not named here may come. `x-maxLength` (characters), `x-maxBytes` (of
/// UTF-8) and `x-maxItems` say what commands keep to today: they are no promise about what stands on the log.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Event")]
pub(crate) struct DecodedEnvelope {
    /// The event's own id. A record with an id that came before in the conversation is a copy: the first counts.
    event_id: EventId,
    // The schema has it with `data`, in each of its forms.
    #[serde(rename = "type")]
    #[schemars(skip)]
    event_type: String,
    /// The version of the type.
    #[schemars(extend("const" = VERSION))]
    version: u32,
    /// When the command was accepted. The record's own timestamp is that of the log.
    occurred_at: Timestamp,
    /// Where it happened; also the record's key.
    conversation_id: ConversationId,
    /// Who did it.
    actor_id: UserId,
    /// The key that the command came with; its scope is conversation and actor.
    #[serde(default)]
    idempotency_key: Option<IdempotencyKey>,
    /// SHA-256 in hex over the validated command's canonical JSON (RFC 8785), when there is a key.
    #[serde(default)]
    request_hash: Option<String>,
    /// Reserved for encrypted content, which has no form yet.
    #[serde(default)]
    #[schemars(with = "()")]
    enc: Option<Value>,
    #[serde(default)]
    #[schemars(flatten, with = "EventData")]
    data: Value,
}

/// The bytes of a record's value.
pub fn encode(event: &Event) -> Vec<u8> {
    let encoded = EncodedEnvelope {
        event_id: event.event_id,
        version: VERSION,
        occurred_at: event.occurred_at,
        conversation_id: event.conversation_id,
        actor_id: &event.actor_id,
        idempotency_key: event.request.as_ref().map(|request| &request.key),
        request_hash: event.request.as_ref().map(|request| request.hash.as_str()),
        data: &event.data,
    };
    // Text keys and plain values only: it can't fail.
    serde_json::to_vec(&encoded).unwrap_or_default()
}

/// Reads a record's value, of any version up to [`VERSION`]. Unknown fields are passed over, so that a
/// version can gain optional ones.
///
/// # Errors
/// When it is not an event that this build knows.
pub fn decode(value: &[u8]) -> Result<Event, DecodeError> {
    // Without this, serde would also read the fields from an array, in their order.
    if value.trim_ascii_start().first() != Some(&b'{') {
        return Err(DecodeError::NotAnEvent(Error::custom("must be an object")));
    }
    let decoded: DecodedEnvelope = serde_json::from_slice(value).map_err(DecodeError::NotAnEvent)?;
    let event_type = decoded.event_type;
    if decoded.version == 0 || decoded.version > VERSION {
        return Err(DecodeError::UnknownVersion { event_type, version: decoded.version });
    }
    if decoded.enc.is_some() {
        return Err(DecodeError::Encrypted { event_type });
    }
    if holds_nul(&decoded.data) {
        return Err(DecodeError::Nul);
    }
    let data = data(&event_type, decoded.data).map_err(|source| DecodeError::Data { event_type, source })?;
    let request = match (decoded.idempotency_key, decoded.request_hash) {
        (Some(key), hash) => Some(Request { key, hash: hash.unwrap_or_default() }),
        (None, _) => None,
    };
    Ok(Event {
        event_id: decoded.event_id,
        occurred_at: decoded.occurred_at,
        conversation_id: decoded.conversation_id,
        actor_id: decoded.actor_id,
        request,
        data,
    })
}

fn data(event_type: &str, data: Value) -> Result<EventData, serde_json::Error> {
    let data = match data {
        Value::Null => Value::Object(Map::new()),
        Value::Object(_) => data,
        _ => return Err(Error::custom("data must be an object")),
    };
    EventData::deserialize(Value::Object(Map::from_iter([
        ("type".to_owned(), Value::String(event_type.to_owned())),
        ("data".to_owned(), data),
    ])))
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
