//! The envelope: the encoding of an event as a record's value, one complete JSON object. A published version of the
//! format must never change; the format can only gain versions.

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::event::{Event, EventData, Request};
use crate::ids::{ConversationId, EventId, IdempotencyKey, UserId};
use crate::timestamp::Timestamp;

/// The version that [`encode`] writes. [`decode`] reads every version up to it.
pub const VERSION: u32 = 1;

/// The header `ce_source` of every record.
pub const SOURCE: &str = "/messages";

/// Why a record's value is not an event that this build knows.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The value is not one JSON object with the envelope's fields.
    #[error("not an event: {0}")]
    NotAnEvent(#[source] serde_json::Error),
    /// The event has a later version than this build knows.
    #[error("{event_type} has version {version}; this build reads up to {VERSION}")]
    UnknownVersion {
        /// The type in the envelope.
        event_type: String,
        /// The version in the envelope.
        version: u32,
    },
    /// This build doesn't know the type, or the data don't have the type's form.
    #[error("{event_type}: {source}")]
    Data {
        /// The type in the envelope.
        event_type: String,
        /// What is wrong with the type or the data.
        source: serde_json::Error,
    },
    /// The content is encrypted. That is reserved for a later version.
    #[error("{event_type} is encrypted, which this build can't read")]
    Encrypted {
        /// The type in the envelope.
        event_type: String,
    },
    /// A text contains U+0000, which Postgres can't store. No command writes it.
    #[error("a text contains the character U+0000")]
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
    // Serializes as the two fields `type` and `data`.
    #[serde(flatten)]
    data: &'a EventData,
}

/// The value of a record on the topic `messages` is one complete event. Null and absent fields mean the same. An event
/// may have fields that this schema doesn't name. `x-maxLength` (characters), `x-maxBytes` (of UTF-8) and `x-maxItems`
/// are today's limits for commands; the log may contain events beyond them.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Event")]
pub(crate) struct DecodedEnvelope<'a> {
    /// The event's id. A record that repeats an id of its conversation is a duplicate; the first record counts.
    event_id: EventId,
    // The schema lists `type` in each form of `data` instead.
    #[serde(rename = "type")]
    #[schemars(skip)]
    event_type: String,
    /// The version of the event's type.
    #[schemars(extend("const" = VERSION))]
    version: u32,
    /// When a node accepted the command. The record's own timestamp is the time at which the log appended it.
    occurred_at: Timestamp,
    /// The conversation of the event. It is also the record's key.
    conversation_id: ConversationId,
    /// The user who did it.
    actor_id: UserId,
    /// The idempotency key of the command, if the client sent one. Its scope is the conversation and the actor.
    #[serde(default)]
    idempotency_key: Option<IdempotencyKey>,
    /// SHA-256 in hex over the validated command's canonical JSON (RFC 8785). Present if there is an idempotency key.
    #[serde(default)]
    request_hash: Option<String>,
    /// Reserved for encrypted content. Its format is not defined yet.
    #[serde(default)]
    #[schemars(with = "()")]
    enc: Option<Value>,
    #[serde(default, borrow)]
    #[schemars(flatten, with = "EventData")]
    data: Option<&'a RawValue>,
}

/// Encodes an event as the value of a record.
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
    // Plain data with text keys is always valid JSON, so this can't fail.
    serde_json::to_vec(&encoded).unwrap_or_default()
}

/// Decodes a record's value, of any version up to [`VERSION`]. Ignores unknown fields, because a version may gain
/// optional fields.
///
/// # Errors
/// When the value is not an event that this build knows.
pub fn decode(value: &[u8]) -> Result<Event, DecodeError> {
    // Without this check, serde would also accept an array with the fields in their order.
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
    let data = match decoded.data.map(RawValue::get) {
        Some(data) if !data.starts_with('{') => Err(Error::custom("data must be an object")),
        Some(data) if contains_nul(data).map_err(DecodeError::NotAnEvent)? => return Err(DecodeError::Nul),
        // The value has the fields `type` and `data`, among others.
        Some(_) => serde_json::from_slice(value),
        None => EventData::deserialize(json!({"type": event_type, "data": {}})),
    };
    let data = data.map_err(|source| DecodeError::Data { event_type, source })?;
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

/// Whether a text in this JSON contains U+0000. JSON can only write it escaped.
///
/// # Errors
/// When that can't be told: a field that decoding ignores needn't be a valid text.
fn contains_nul(json: &str) -> Result<bool, serde_json::Error> {
    Ok(json.contains("\\u0000") && has_nul(&serde_json::from_str(json)?))
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_nul),
        Value::Object(fields) => fields.values().any(has_nul),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The headers of an event's record: `CloudEvents` 1.0 in the binary mode of its Kafka binding.
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
