//! Commands from bodies: every error has its field and code, all errors come at once, and limits hold at their edge.

use domain::event::{ConversationKind, MessageType};
use domain::{Command, FieldError, limits};
use serde_json::{Map, Value, json};

use crate::support::{conversation, message, user, users};

fn object(body: Value) -> Map<String, Value> {
    let Value::Object(body) = body else { panic!("no object") };
    body
}

fn post(body: Value) -> Result<Command, Vec<FieldError>> {
    Command::from_post(&user("alice"), object(body))
}

fn patch(body: Value) -> Result<Command, Vec<FieldError>> {
    Command::from_patch(message(1), object(body))
}

/// Field and code of every error.
fn errors(result: Result<Command, Vec<FieldError>>) -> Vec<(String, &'static str)> {
    let errors = result.expect_err("is refused");
    assert!(errors.iter().all(|error| !error.detail.is_empty()), "{errors:?}");
    errors.into_iter().map(|error| (error.field, error.code)).collect()
}

#[track_caller]
fn assert_one(result: Result<Command, Vec<FieldError>>, field: &str, code: &'static str) {
    assert_eq!(errors(result), [(field.to_owned(), code)]);
}

/// A whole body of an action.
fn body(action: &str) -> Value {
    match action {
        "conversation" => json!({"action": action, "participantIds": ["bob"]}),
        "message" => json!({"action": action, "conversationId": conversation(1), "content": "hello"}),
        "reaction" | "remove_reaction" => json!({"action": action, "messageId": message(1), "emoji": "👍"}),
        _ => json!({"action": action, "conversationId": conversation(1)}),
    }
}

/// A whole body with one field replaced; null leaves it out.
fn with(action: &str, field: &str, value: Value) -> Result<Command, Vec<FieldError>> {
    let mut body = body(action);
    body[field] = value;
    post(body)
}

fn attachment() -> Value {
    json!({"url": "https://files.example/1", "name": "one.png", "mimeType": "image/png", "size": 7})
}

fn with_attachment(field: &str, value: Value) -> Result<Command, Vec<FieldError>> {
    let mut attachment = attachment();
    attachment[field] = value;
    with("message", "attachments", json!([attachment]))
}

const ACTIONS: [&str; 7] =
    ["conversation", "message", "reaction", "remove_reaction", "typing_start", "typing_stop", "mark_read"];

#[test]
fn every_action_is_known_and_a_message_needs_none() {
    for action in ACTIONS {
        assert!(post(body(action)).is_ok(), "{action}");
    }
    let with_action = post(body("message")).unwrap();
    assert_eq!(with("message", "action", Value::Null).unwrap(), with_action);
    assert_one(with("message", "action", json!("shout")), "action", "unknown_action");
    assert_one(with("message", "action", json!("Message")), "action", "unknown_action");
    assert_one(with("message", "action", json!(1)), "action", "wrong_type");
}

#[test]
fn unknown_fields_are_refused_by_name() {
    for action in ACTIONS {
        assert_one(with(action, "colour", json!("red")), "colour", "unknown_field");
        // Also when they are null: the name is wrong.
        assert_one(with(action, "colour", Value::Null), "colour", "unknown_field");
    }
    // A field of another action is unknown here.
    assert_one(with("mark_read", "content", json!("hello")), "content", "unknown_field");
    assert_one(patch(json!({"content": "hello", "mentions": ["bob"]})), "mentions", "unknown_field");
    assert_one(with_attachment("colour", json!("red")), "attachments[0].colour", "unknown_field");
}

#[test]
fn all_errors_come_at_once() {
    let body = json!({"conversationId": "x", "content": 1, "messageType": "SONG", "replyToId": 2, "colour": 3});
    let expected = [
        ("conversationId", "invalid_id"),
        ("messageType", "invalid_value"),
        ("content", "wrong_type"),
        ("replyToId", "wrong_type"),
        ("colour", "unknown_field"),
    ];
    assert_eq!(errors(post(body)), expected.map(|(field, code)| (field.to_owned(), code)));
}

#[test]
fn what_is_required_may_be_neither_absent_nor_null() {
    for (action, field) in [
        ("conversation", "participantIds"),
        ("message", "conversationId"),
        ("message", "content"),
        ("reaction", "messageId"),
        ("reaction", "emoji"),
        ("remove_reaction", "messageId"),
        ("remove_reaction", "emoji"),
        ("typing_start", "conversationId"),
        ("typing_stop", "conversationId"),
        ("mark_read", "conversationId"),
    ] {
        assert_one(with(action, field, Value::Null), field, "required");
        let mut absent = object(body(action));
        absent.remove(field);
        assert_one(post(Value::Object(absent)), field, "required");
        assert_eq!(errors(with(action, field, json!({})))[0], (field.to_owned(), "wrong_type"), "{action}");
    }
    for field in ["url", "name", "mimeType", "size"] {
        assert_one(with_attachment(field, Value::Null), &format!("attachments[0].{field}"), "required");
        assert_one(with_attachment(field, json!([])), &format!("attachments[0].{field}"), "wrong_type");
    }
    assert_one(patch(json!({})), "content", "required");
    assert_one(patch(json!({"content": null})), "content", "required");
    assert_one(patch(json!({"content": 1})), "content", "wrong_type");
}

#[test]
fn what_is_optional_may_be_null() {
    for (action, fields) in [
        ("conversation", &["type", "title"][..]),
        ("message", &["messageType", "attachments", "replyToId", "mentions"]),
        ("reaction", &["reaction"]),
        ("mark_read", &["messageId"]),
    ] {
        let absent = post(body(action)).unwrap();
        for field in fields {
            assert_eq!(with(action, field, Value::Null).unwrap(), absent, "{action} {field}");
            assert_one(with(action, field, json!(true)), field, "wrong_type");
        }
    }
}

#[test]
fn ids_are_uuids_in_one_spelling() {
    let id = conversation(1).to_string();
    for wrong in ["", "x", &id[1..], &id.replace('-', ""), &format!("{{{id}}}"), &format!("urn:uuid:{id}")] {
        assert_one(with("typing_start", "conversationId", json!(wrong)), "conversationId", "invalid_id");
    }
    assert_eq!(with("typing_start", "conversationId", json!(id.to_uppercase())), post(body("typing_start")));
}

#[test]
fn content_is_up_to_4000_characters_and_not_blank() {
    let longest = "😀".repeat(limits::CONTENT_CHARS);
    let too_long = format!("{longest}a");
    for (content, code) in [
        (too_long.as_str(), "too_long"),
        ("", "empty"),
        (" \t\n\u{a0}\u{2003}", "empty"),
        ("a\0b", "control_character"),
    ] {
        assert_one(with("message", "content", json!(content)), "content", code);
    }
    assert!(with("message", "content", json!(longest)).is_ok());
    assert!(patch(json!({"content": longest})).is_ok());
    assert_one(patch(json!({"content": too_long})), "content", "too_long");
    assert_one(patch(json!({"content": "\0"})), "content", "control_character");
    // What an edit may leave empty is known only with the message.
    assert!(patch(json!({"content": ""})).is_ok());
}

#[test]
fn content_may_be_empty_or_absent_with_attachments() {
    for content in [json!(""), json!("  "), Value::Null] {
        let body = json!({"conversationId": conversation(1), "content": content, "attachments": [attachment()]});
        assert!(post(body).is_ok(), "{content}");
    }
    let absent = json!({"conversationId": conversation(1), "attachments": [attachment()]});
    let Command::Message(send) = post(absent).unwrap() else { panic!("a message") };
    assert_eq!((send.content.as_str(), send.attachments.len()), ("", 1));
    let none = json!({"conversationId": conversation(1), "attachments": []});
    assert_one(post(none), "content", "required");
}

#[test]
fn every_kind_of_message_has_its_word() {
    for (word, kind) in [
        (json!(null), MessageType::Text),
        (json!("TEXT"), MessageType::Text),
        (json!("IMAGE"), MessageType::Image),
        (json!("VIDEO"), MessageType::Video),
        (json!("AUDIO"), MessageType::Audio),
        (json!("FILE"), MessageType::File),
    ] {
        let Command::Message(send) = with("message", "messageType", word).unwrap() else { panic!("a message") };
        assert_eq!(send.message_type, kind);
    }
    assert_one(with("message", "messageType", json!("text")), "messageType", "invalid_value");
}

#[test]
fn attachments_are_up_to_ten_objects() {
    let ten = vec![attachment(); limits::ATTACHMENTS];
    assert!(with("message", "attachments", json!(ten)).is_ok());
    assert_one(with("message", "attachments", json!(vec![attachment(); 11])), "attachments", "too_many");
    let mixed = json!([attachment(), "https://files.example"]);
    assert_one(with("message", "attachments", mixed), "attachments[1]", "wrong_type");
}

#[test]
fn attachments_are_checked_field_by_field() {
    let url = |length: usize| format!("https://a.example/{}", "x".repeat(length - 18));
    for (field, code, wrong) in [
        ("url", "invalid_url", json!("http://files.example/1")),
        ("url", "invalid_url", json!("https://")),
        ("url", "invalid_url", json!("https:///path")),
        ("url", "invalid_url", json!("https://a.example/a b")),
        ("url", "invalid_url", json!("höttps://a")),
        ("url", "invalid_url", json!("javascript:alert(1)")),
        ("url", "too_long", json!(url(limits::URL_CHARS + 1))),
        ("url", "empty", json!(" ")),
        ("url", "control_character", json!("https://a.example/\u{7f}")),
        ("name", "empty", json!("")),
        ("name", "too_long", json!("ü".repeat(limits::NAME_CHARS + 1))),
        ("name", "control_character", json!("a\nb")),
        ("mimeType", "invalid_value", json!("png")),
        ("mimeType", "invalid_value", json!("image/")),
        ("mimeType", "invalid_value", json!("/png")),
        ("mimeType", "invalid_value", json!("a/b/c")),
        ("size", "invalid_value", json!(-1)),
        ("size", "invalid_value", json!(1.5)),
        ("size", "invalid_value", json!(1_u64 << 53)),
    ] {
        assert_one(with_attachment(field, wrong), &format!("attachments[0].{field}"), code);
    }
    for (field, right) in [
        ("url", json!("HTTPS://a.example")),
        ("url", json!(url(limits::URL_CHARS))),
        ("name", json!("ü".repeat(limits::NAME_CHARS))),
        ("mimeType", json!("text/plain; charset=utf-8")),
        ("size", json!(0)),
        ("size", json!((1_u64 << 53) - 1)),
    ] {
        assert!(with_attachment(field, right.clone()).is_ok(), "{field} {right}");
    }
}

#[test]
fn mentions_are_up_to_twenty_users_each_once() {
    let names: Vec<String> = (0..=limits::MENTIONS).map(|number| format!("user-{number}")).collect();
    assert!(with("message", "mentions", json!(names[1..])).is_ok());
    assert_one(with("message", "mentions", json!(names)), "mentions", "too_many");
    let Command::Message(send) = with("message", "mentions", json!(["bob", "zoë", "bob"])).unwrap() else {
        panic!("a message")
    };
    assert_eq!(send.mentions, users(&["bob", "zoë"]));
    assert_eq!(
        errors(with("message", "mentions", json!(["bob", "two words", 3]))),
        [("mentions[1]".to_owned(), "invalid_id"), ("mentions[2]".to_owned(), "wrong_type"),]
    );
}

#[test]
fn the_caller_is_in_the_conversation_first_and_once() {
    for others in [json!(["bob", "zoë"]), json!(["bob", "alice", "zoë", "bob"])] {
        let Command::Conversation { participant_ids, .. } = with("conversation", "participantIds", others).unwrap()
        else {
            panic!("a conversation")
        };
        assert_eq!(participant_ids, users(&["alice", "bob", "zoë"]));
    }
    for nobody in [json!([]), json!(["alice"])] {
        assert_one(with("conversation", "participantIds", nobody), "participantIds", "too_few");
    }
}

#[test]
fn a_conversation_is_of_up_to_1000() {
    let names: Vec<String> = (0..limits::PARTICIPANTS).map(|number| format!("user-{number}")).collect();
    assert!(with("conversation", "participantIds", json!(names[1..])).is_ok());
    // With the caller it would be one more.
    assert_one(with("conversation", "participantIds", json!(names)), "participantIds", "too_many");
    let too_many: Vec<&str> = names.iter().map(String::as_str).chain(["alice"]).collect();
    assert_one(with("conversation", "participantIds", json!(too_many)), "participantIds", "too_many");
    assert_one(with("conversation", "participantIds", json!(["a b"])), "participantIds[0]", "invalid_id");
}

#[test]
fn two_without_a_title_are_direct_by_default() {
    let kind = |body: Value| {
        let mut body = body;
        body["action"] = json!("conversation");
        let Command::Conversation { kind, .. } = post(body).unwrap() else { panic!("a conversation") };
        kind
    };
    assert_eq!(kind(json!({"participantIds": ["bob"]})), ConversationKind::Direct);
    assert_eq!(kind(json!({"participantIds": ["bob"], "title": "Us"})), ConversationKind::Group);
    assert_eq!(kind(json!({"participantIds": ["bob"], "type": "GROUP"})), ConversationKind::Group);
    assert_eq!(kind(json!({"participantIds": ["bob", "zoë"]})), ConversationKind::Group);
}

#[test]
fn a_direct_conversation_is_of_two_and_has_no_title() {
    let three = json!({"action": "conversation", "type": "DIRECT", "participantIds": ["bob", "zoë"]});
    assert_one(post(three), "participantIds", "too_many");
    let titled = json!({"action": "conversation", "type": "DIRECT", "participantIds": ["bob"], "title": "Us"});
    assert_one(post(titled), "title", "not_allowed");
    assert_one(with("conversation", "type", json!("direct")), "type", "invalid_value");
}

#[test]
fn a_title_is_one_visible_line_of_up_to_200() {
    let longest = "ü".repeat(limits::TITLE_CHARS);
    assert!(with("conversation", "title", json!(longest)).is_ok());
    for (title, code) in [
        (format!("{longest}a"), "too_long"),
        (" ".to_owned(), "empty"),
        (String::new(), "empty"),
        ("a\tb".to_owned(), "control_character"),
    ] {
        assert_one(with("conversation", "title", json!(title)), "title", code);
    }
}

#[test]
fn a_reaction_adds_removes_or_labels() {
    let (message_id, emoji) = (message(1), "👍".to_owned());
    let add =
        |label: Option<&str>| Command::Reaction { message_id, emoji: emoji.clone(), label: label.map(str::to_owned) };
    let longest = "ü".repeat(limits::LABEL_CHARS);
    assert_eq!(post(body("reaction")).unwrap(), add(None));
    assert_eq!(with("reaction", "reaction", json!("add")).unwrap(), add(None));
    assert_eq!(with("reaction", "reaction", json!("Add")).unwrap(), add(Some("Add")));
    assert_eq!(with("reaction", "reaction", json!(longest)).unwrap(), add(Some(&longest)));
    let removal = Command::RemoveReaction { message_id, emoji: emoji.clone() };
    assert_eq!(with("reaction", "reaction", json!("remove")).unwrap(), removal);
    assert_eq!(post(body("remove_reaction")).unwrap(), removal);
    for (label, code) in [(format!("{longest}a"), "too_long"), (String::new(), "empty")] {
        assert_one(with("reaction", "reaction", json!(label)), "reaction", code);
    }
    for action in ["reaction", "remove_reaction"] {
        for emoji in ["", "a", "👍👍", "👍 "] {
            assert_one(with(action, "emoji", json!(emoji)), "emoji", "not_an_emoji");
        }
    }
}

#[test]
fn a_mark_is_up_to_a_message_or_the_newest() {
    let conversation_id = conversation(1);
    let read = |message_id| Command::MarkRead { conversation_id, message_id };
    assert_eq!(post(body("mark_read")).unwrap(), read(None));
    assert_eq!(with("mark_read", "messageId", json!(message(2))).unwrap(), read(Some(message(2))));
    assert_one(with("mark_read", "messageId", json!("x")), "messageId", "invalid_id");
}
