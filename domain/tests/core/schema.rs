//! The published JSON Schema: it is the one that the code generates, and it accepts the events on the log.

use std::path::PathBuf;
use std::sync::LazyLock;

use domain::{envelope, schema};
use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::golden;
use crate::support::any_event;

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let schema = serde_json::to_value(schema::event()).unwrap();
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
});

fn assert_accepted(name: &str, bytes: &[u8]) {
    let value: Value = serde_json::from_slice(bytes).unwrap();
    let errors: Vec<String> = SCHEMA.iter_errors(&value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}");
}

#[test]
fn the_published_schema_is_current() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schema/event.v1.schema.json");
    let generated = serde_json::to_string_pretty(&schema::event()).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(published == generated, "{} is outdated; run UPDATE_GOLDEN=1 cargo test -p domain", path.display());
}

#[test]
fn the_schema_is_a_valid_json_schema() {
    assert!(jsonschema::meta::is_valid(&serde_json::to_value(schema::event()).unwrap()));
}

#[test]
fn the_schema_accepts_every_golden_event() {
    for (name, bytes) in golden::files() {
        assert_accepted(&name, &bytes);
    }
}

proptest! {
    #[test]
    fn the_schema_accepts_every_encoded_event(event in any_event()) {
        assert_accepted(event.data.type_name(), &envelope::encode(&event));
    }
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
fn the_schema_refuses_events_that_decoding_refuses() {
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
        assert!(!SCHEMA.is_valid(&wrong), "{pointer}: {wrong}");
        assert!(envelope::decode(wrong.to_string().as_bytes()).is_err(), "{pointer}: {wrong}");
    }
}
