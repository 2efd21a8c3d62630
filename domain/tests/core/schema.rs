//! The published JSON Schemas: they are the ones that the code generates, and they accept the events on the log.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use domain::event::EventData;
use domain::schema::{self, EventSchema};
use domain::{Event, envelope};
use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::golden;
use crate::support::any_event;

/// How a record is checked.
struct RecordValidators {
    value: Validator,
    headers: Validator,
}

/// The validators of each type.
static SCHEMAS: LazyLock<BTreeMap<String, RecordValidators>> = LazyLock::new(|| {
    let validator = |schema: &Value| jsonschema::options().should_validate_formats(true).build(schema).unwrap();
    let validators = |schema: EventSchema| {
        let EventSchema { event_type, value, headers, .. } = schema;
        (event_type, RecordValidators { value: validator(value.as_value()), headers: validator(&headers) })
    };
    schema::events().into_iter().map(validators).collect()
});

/// The folder of the published schemas.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("schema")
}

fn assert_accepted(what: &str, validator: &Validator, value: &Value) {
    let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}");
}

fn assert_value_accepted(name: &str, bytes: &[u8]) {
    let value: Value = serde_json::from_slice(bytes).unwrap();
    let event_type = value["type"].as_str().unwrap();
    assert_accepted(name, &SCHEMAS[event_type].value, &value);
}

#[test]
fn every_type_has_a_published_schema_which_is_current() {
    let schemas = schema::events();
    let types: BTreeSet<&str> = schemas.iter().map(|schema| schema.event_type.as_str()).collect();
    assert_eq!(types, BTreeSet::from(EventData::TYPE_NAMES));
    for schema in schemas {
        let path = folder().join(format!("{}.schema.json", schema.name()));
        let generated = serde_json::to_string_pretty(&schema.value).unwrap() + "\n";
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &generated).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(published == generated, "{} is outdated; run UPDATE_GOLDEN=1 cargo test -p domain", path.display());
    }
}

#[test]
fn every_schema_is_a_valid_json_schema_and_refers_to_no_other() {
    for schema in schema::events() {
        assert!(jsonschema::meta::is_valid(schema.value.as_value()), "{}", schema.event_type);
        assert!(jsonschema::meta::is_valid(&schema.headers), "{}", schema.event_type);
        assert!(!serde_json::to_string(&schema.value).unwrap().contains("$ref"), "{}", schema.event_type);
    }
}

#[test]
fn every_golden_event_is_accepted_by_the_schema_of_its_type() {
    for (name, bytes) in golden::files() {
        assert_value_accepted(&name, &bytes);
    }
}

fn headers_of(event: &Event) -> Map<String, Value> {
    envelope::headers(event).into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}

proptest! {
    #[test]
    fn every_encoded_event_is_accepted_by_the_schemas_of_its_type(event in any_event()) {
        let event_type = event.data.type_name();
        assert_value_accepted(event_type, &envelope::encode(&event));
        assert_accepted(event_type, &SCHEMAS[event_type].headers, &Value::Object(headers_of(&event)));
    }
}

#[test]
fn the_schema_of_headers_has_those_of_every_record() {
    let event = envelope::decode(&golden::files()["message_sent.full"]).unwrap();
    let schema = schema::events().into_iter().find(|schema| schema.event_type == "MESSAGE_SENT").unwrap();
    let required = schema.headers["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    let headers = headers_of(&event);
    assert_eq!(headers.keys().map(String::as_str).collect::<BTreeSet<_>>(), required.collect());
    let mut other = headers;
    other.insert("ce_type".to_owned(), json!("MESSAGE_EDITED"));
    assert!(!SCHEMAS["MESSAGE_SENT"].headers.is_valid(&Value::Object(other)));
}

/// Replaces the field at a JSON pointer. Null removes the field.
fn with(value: &Value, pointer: &str, new: Value) -> Value {
    let mut value = value.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let object = value.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if new.is_null() {
        object.remove(name)
    } else {
        object.insert(name.to_owned(), new)
    };
    value
}

#[test]
fn a_schema_refuses_events_that_decoding_refuses() {
    let golden: Value = serde_json::from_slice(&golden::files()["message_sent.full"]).unwrap();
    for (pointer, new) in [
        ("/eventId", Value::Null),
        ("/eventId", json!("no id")),
        ("/type", json!("MESSAGE_UNSENT")),
        ("/type", Value::Null),
        ("/version", json!(2)),
        ("/version", Value::Null),
        ("/occurredAt", json!("yesterday")),
        ("/actorId", json!("two words")),
        ("/actorId", json!("a".repeat(129))),
        ("/idempotencyKey", json!("ü")),
        ("/enc", json!("c2VjcmV0")),
        ("/data", Value::Null),
        ("/data", json!([])),
        ("/data/messageId", Value::Null),
        ("/data/messageType", json!("SONG")),
        ("/data/mentions", json!("bob")),
        ("/data/attachments", json!([{"url": "https://a.example"}])),
        // The data of another type.
        ("/type", json!("CONVERSATION_CREATED")),
    ] {
        let wrong = with(&golden, pointer, new);
        assert!(!SCHEMAS["MESSAGE_SENT"].value.is_valid(&wrong), "{pointer}: {wrong}");
        assert!(envelope::decode(wrong.to_string().as_bytes()).is_err(), "{pointer}: {wrong}");
    }
}
