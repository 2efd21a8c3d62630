//! The envelope: what decoding refuses and what it ignores, and that decoding reverses encoding.

use domain::envelope::{DecodeError, decode, encode, headers};
use domain::event::EventData;
use domain::{Event, envelope};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::golden;
use crate::support::{any_event, at, conversation, id, message, user};

fn golden_event(name: &str) -> Value {
    serde_json::from_slice(&golden::files()[name]).unwrap()
}

/// Decodes a golden event with one field of the envelope replaced.
fn decode_with(name: &str, field: &str, value: Value) -> Result<Event, DecodeError> {
    let mut event = golden_event(name);
    event[field] = value;
    decode(event.to_string().as_bytes())
}

#[test]
fn an_unknown_version_is_refused_and_named() {
    for unknown in [0, 2, u32::MAX] {
        let error = decode_with("message_sent.full", "version", json!(unknown)).unwrap_err();
        let DecodeError::UnknownVersion { event_type, version } = error else { panic!("{error}") };
        assert_eq!((event_type.as_str(), version), ("MESSAGE_SENT", unknown));
    }
}

#[test]
fn an_unknown_type_is_refused_and_named() {
    let error = decode_with("message_sent.full", "type", json!("MESSAGE_UNSENT")).unwrap_err();
    let DecodeError::Data { event_type, .. } = error else { panic!("{error}") };
    assert_eq!(event_type, "MESSAGE_UNSENT");
}

#[test]
fn data_of_another_type_are_refused() {
    let error = decode_with("message_sent.full", "type", json!("CONVERSATION_CREATED")).unwrap_err();
    assert!(matches!(error, DecodeError::Data { .. }), "{error}");
}

#[test]
fn encrypted_content_is_refused_and_null_is_accepted() {
    let error = decode_with("message_sent.full", "enc", json!({"key": 1})).unwrap_err();
    let DecodeError::Encrypted { event_type } = error else { panic!("{error}") };
    assert_eq!(event_type, "MESSAGE_SENT");
    assert!(decode_with("message_sent.full", "enc", Value::Null).is_ok());
}

#[test]
fn nul_is_refused_at_any_depth() {
    for data in [
        json!({"messageId": message(1), "content": "a\0b"}),
        json!({"messageId": message(1), "attachments":
            [{"url": "https://a.example", "name": "\0", "mimeType": "a/b", "size": 1}]}),
    ] {
        let error = decode_with("message_sent.full", "data", data).unwrap_err();
        assert!(matches!(error, DecodeError::Nul), "{error}");
    }
}

#[test]
fn nul_is_refused_next_to_an_unknown_field_that_is_no_text() {
    let mut event = golden_event("message_sent.full");
    event["data"] = json!({"messageId": message(1), "content": "a\0b", "unknown": "SURROGATE"});
    let value = event.to_string().replace("SURROGATE", "\\ud800");
    let error = decode(value.as_bytes()).unwrap_err();
    assert!(matches!(error, DecodeError::NotAnEvent(_)), "{error}");
}

#[test]
fn data_other_than_an_object_are_refused() {
    for data in [json!([]), json!([message(1)]), json!("text"), json!(1), json!(false)] {
        for name in ["message_deleted.full", "typing_start.minimal", "messages_read.minimal"] {
            let error = decode_with(name, "data", data.clone()).unwrap_err();
            assert!(matches!(error, DecodeError::Data { .. }), "{name} {data}: {error}");
        }
    }
}

#[test]
fn absent_and_null_data_are_accepted_where_no_field_is_required() {
    for name in ["typing_start.minimal", "typing_stop.minimal", "messages_read.minimal"] {
        let complete = decode(&golden::files()[name]).unwrap();
        assert_eq!(decode_with(name, "data", Value::Null).unwrap(), complete);
        let mut absent = golden_event(name);
        absent.as_object_mut().unwrap().remove("data");
        assert_eq!(decode(absent.to_string().as_bytes()).unwrap(), complete);
    }
    for name in ["message_deleted.full", "message_sent.full", "conversation_created.full"] {
        let error = decode_with(name, "data", Value::Null).unwrap_err();
        assert!(matches!(error, DecodeError::Data { .. }), "{name}: {error}");
    }
}

#[test]
fn other_values_than_an_envelope_are_refused() {
    let fields_in_order = json!([
        id::<domain::EventId>("0193a5c0-0000-7000-8000-000000000002"),
        "TYPING_START",
        1,
        "2026-11-23T09:00:00.123Z",
        conversation(1),
        "alice",
        null,
        null,
        null,
        {}
    ]);
    for text in ["", "{", "null", "[]", "\"MESSAGE_SENT\"", "{}", "{\"version\":1}", &fields_in_order.to_string()] {
        let error = decode(text.as_bytes()).unwrap_err();
        assert!(matches!(error, DecodeError::NotAnEvent(_)), "{text}: {error}");
    }
    let error = decode(b"{\"eventId\":\"\xff\"}").unwrap_err();
    assert!(matches!(error, DecodeError::NotAnEvent(_)), "{error}");
}

#[test]
fn every_field_of_the_envelope_is_checked() {
    for (field, value) in [
        ("eventId", json!("no id")),
        ("version", json!("1")),
        ("version", json!(1.5)),
        ("occurredAt", json!("yesterday")),
        ("occurredAt", json!(1_795_424_400_123_u64)),
        ("conversationId", json!("{5be73996-f1de-5d12-a535-034a2d576ac2}")),
        ("actorId", json!("two words")),
        ("actorId", json!("")),
        ("idempotencyKey", json!("two words")),
        ("requestHash", json!(1)),
    ] {
        let error = decode_with("message_sent.full", field, value.clone()).unwrap_err();
        assert!(matches!(error, DecodeError::NotAnEvent(_)), "{field} {value}: {error}");
    }
}

#[test]
fn a_hash_without_a_key_is_ignored() {
    let without_key = decode_with("message_sent.full", "idempotencyKey", Value::Null).unwrap();
    assert_eq!(without_key.request, None);
}

#[test]
fn a_key_without_a_hash_has_an_empty_hash() {
    let without_hash = decode_with("message_sent.full", "requestHash", Value::Null).unwrap();
    assert_eq!(without_hash.request.unwrap().hash, "");
}

#[test]
fn the_headers_describe_the_event() {
    let event = Event {
        event_id: id("0193a5c0-0000-7000-8000-000000000002"),
        occurred_at: at(0),
        conversation_id: conversation(1),
        actor_id: user("alice"),
        request: None,
        data: EventData::MessageDeleted { message_id: message(1) },
    };
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_type", "MESSAGE_DELETED"),
        ("ce_id", "0193a5c0-0000-7000-8000-000000000002"),
        ("ce_time", "2026-01-01T00:00:00.000Z"),
        ("ce_subject", "00000000-0000-0000-0000-00000000c001"),
        ("ce_source", envelope::SOURCE),
        ("content-type", "application/json"),
    ];
    assert_eq!(headers(&event), expected.map(|(name, value)| (name, value.to_owned())));
}

proptest! {
    #[test]
    fn decoding_reverses_encoding(event in any_event()) {
        let decoded = decode(&encode(&event));
        prop_assert!(decoded.is_ok(), "{:?}", decoded);
        prop_assert_eq!(decoded.unwrap(), event);
    }

    #[test]
    fn the_type_is_in_the_envelope_and_in_the_headers(event in any_event()) {
        let value: Value = serde_json::from_slice(&encode(&event)).unwrap();
        prop_assert_eq!(&value["type"], event.data.type_name());
        prop_assert_eq!(&headers(&event)[1].1, event.data.type_name());
        prop_assert!(value["data"].is_object());
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }
}
