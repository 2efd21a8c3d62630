//! Reading commands from bodies: each error has its field and code, all errors are reported at once, and each limit is
//! exact.

use domain::event::{ConversationKind, MessageType};
use domain::{Command, FieldError, limits};
use serde_json::{Map, Value, json};

use crate::support::{conversation, message, user, users};

fn object(body: Value) -> Map<String, Value> {
    let Value::Object(body) = body else { panic!("not an object") };
    body
}

fn post(body: Value) -> Result<Command, Vec<FieldError>> {
    Command::from_post(&user("alice"), object(body))
}

fn patch(body: Value) -> Result<Command, Vec<FieldError>> {
    Command::from_patch(message(1), object(body))
}

/// The field and code of every error.
fn errors(result: Result<Command, Vec<FieldError>>) -> Vec<(String, &'static str)> {
    let errors = result.expect_err("the command is refused");
    assert!(errors.iter().all(|error| !error.detail.is_empty()), "{errors:?}");
    errors.into_iter().map(|error| (error.field, error.code)).collect()
}

#[track_caller]
pub(crate) fn assert_refused(result: Result<Command, Vec<FieldError>>, field: &str, code: &'static str) {
    assert_eq!(errors(result), [(field.to_owned(), code)]);
}

/// A valid body of an action, with the required fields only.
fn body(action: &str) -> Value {
    match action {
        "conversation" => json!({"action": action, "participantIds": ["bob"]}),
        "message" => json!({"action": action, "conversationId": conversation(1), "content": "hello"}),
        "reaction" | "remove_reaction" => json!({"action": action, "messageId": message(1), "emoji": "👍"}),
        _ => json!({"action": action, "conversationId": conversation(1)}),
    }
}

/// Parses a valid body with one field replaced or added.
fn post_with(action: &str, field: &str, value: Value) -> Result<Command, Vec<FieldError>> {
    let mut body = body(action);
    body[field] = value;
    post(body)
}

fn attachment() -> Value {
    json!({"url": "https://files.example/1", "name": "one.png", "mimeType": "image/png", "size": 7})
}

pub(crate) fn post_with_attachment(field: &str, value: Value) -> Result<Command, Vec<FieldError>> {
    let mut attachment = attachment();
    attachment[field] = value;
    post_with("message", "attachments", json!([attachment]))
}

const ACTIONS: [&str; 7] =
    ["conversation", "message", "reaction", "remove_reaction", "typing_start", "typing_stop", "mark_read"];

#[test]
fn every_action_is_accepted_and_message_is_the_default() {
    for action in ACTIONS {
        assert!(post(body(action)).is_ok(), "{action}");
    }
    let with_action = post(body("message")).unwrap();
    assert_eq!(post_with("message", "action", Value::Null).unwrap(), with_action);
    assert_refused(post_with("message", "action", json!("shout")), "action", "unknown_action");
    assert_refused(post_with("message", "action", json!("Message")), "action", "unknown_action");
    assert_refused(post_with("message", "action", json!(1)), "action", "wrong_type");
}

#[test]
fn unknown_fields_are_refused_and_named() {
    for action in ACTIONS {
        assert_refused(post_with(action, "colour", json!("red")), "colour", "unknown_field");
        // A null field is unknown, too, because its name is wrong.
        assert_refused(post_with(action, "colour", Value::Null), "colour", "unknown_field");
    }
    // So is a field of another action.
    assert_refused(post_with("mark_read", "content", json!("hello")), "content", "unknown_field");
    assert_refused(patch(json!({"content": "hello", "mentions": ["bob"]})), "mentions", "unknown_field");
    assert_refused(post_with_attachment("colour", json!("red")), "attachments[0].colour", "unknown_field");
}

#[test]
fn all_errors_are_reported_at_once() {
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
fn required_fields_may_be_neither_absent_nor_null() {
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
        assert_refused(post_with(action, field, Value::Null), field, "required");
        let mut absent = object(body(action));
        absent.remove(field);
        assert_refused(post(Value::Object(absent)), field, "required");
        assert_eq!(errors(post_with(action, field, json!({})))[0], (field.to_owned(), "wrong_type"), "{action}");
    }
    for field in ["url", "name", "mimeType", "size"] {
        assert_refused(post_with_attachment(field, Value::Null), &format!("attachments[0].{field}"), "required");
        assert_refused(post_with_attachment(field, json!([])), &format!("attachments[0].{field}"), "wrong_type");
    }
    assert_refused(patch(json!({})), "content", "required");
    assert_refused(patch(json!({"content": null})), "content", "required");
    assert_refused(patch(json!({"content": 1})), "content", "wrong_type");
}

#[test]
fn optional_fields_may_be_null() {
    for (action, fields) in [
        ("conversation", &["type", "title"][..]),
        ("message", &["messageType", "attachments", "replyToId", "mentions"]),
        ("reaction", &["reaction"]),
        ("mark_read", &["messageId"]),
    ] {
        let absent = post(body(action)).unwrap();
        for field in fields {
            assert_eq!(post_with(action, field, Value::Null).unwrap(), absent, "{action} {field}");
            assert_refused(post_with(action, field, json!(true)), field, "wrong_type");
        }
    }
}

#[test]
fn ids_are_hyphenated_uuids() {
    let id = conversation(1).to_string();
    for wrong in ["", "x", &id[1..], &id.replace('-', ""), &format!("{{{id}}}"), &format!("urn:uuid:{id}")] {
        assert_refused(post_with("typing_start", "conversationId", json!(wrong)), "conversationId", "invalid_id");
    }
    assert_eq!(post_with("typing_start", "conversationId", json!(id.to_uppercase())), post(body("typing_start")));
}

#[test]
fn content_has_up_to_4000_characters_and_is_not_blank() {
    let longest = "😀".repeat(limits::MAX_CONTENT_CHARS);
    let too_long = format!("{longest}a");
    for (content, code) in [
        (too_long.as_str(), "too_long"),
        ("", "empty"),
        (" \t\n\u{a0}\u{2003}", "empty"),
        ("\u{200b}", "empty"),
        ("\u{3164} \u{2800}", "empty"),
        ("\u{fe0f}\u{2060}\n", "empty"),
        ("a\0b", "control_character"),
    ] {
        assert_refused(post_with("message", "content", json!(content)), "content", code);
    }
    assert!(post_with("message", "content", json!(longest)).is_ok());
    assert!(patch(json!({"content": longest})).is_ok());
    assert_refused(patch(json!({"content": too_long})), "content", "too_long");
    assert_refused(patch(json!({"content": "\0"})), "content", "control_character");
    // Whether an edit may leave the content empty depends on the message.
    assert!(patch(json!({"content": ""})).is_ok());
}

#[test]
fn content_may_be_empty_or_absent_with_attachments() {
    for content in [json!(""), json!("  "), Value::Null] {
        let body = json!({"conversationId": conversation(1), "content": content, "attachments": [attachment()]});
        assert!(post(body).is_ok(), "{content}");
    }
    let absent = json!({"conversationId": conversation(1), "attachments": [attachment()]});
    let Command::Message(send) = post(absent).unwrap() else { panic!("not a message") };
    assert_eq!((send.content.as_str(), send.attachments.len()), ("", 1));
    let no_attachments = json!({"conversationId": conversation(1), "attachments": []});
    assert_refused(post(no_attachments), "content", "required");
}

#[test]
fn every_message_type_is_accepted_and_text_is_the_default() {
    for (word, message_type) in [
        (json!(null), MessageType::Text),
        (json!("TEXT"), MessageType::Text),
        (json!("IMAGE"), MessageType::Image),
        (json!("VIDEO"), MessageType::Video),
        (json!("AUDIO"), MessageType::Audio),
        (json!("FILE"), MessageType::File),
    ] {
        let Command::Message(send) = post_with("message", "messageType", word).unwrap() else {
            panic!("not a message")
        };
        assert_eq!(send.message_type, message_type);
    }
    assert_refused(post_with("message", "messageType", json!("text")), "messageType", "invalid_value");
}

#[test]
fn a_message_has_up_to_ten_attachments() {
    let ten = vec![attachment(); limits::MAX_ATTACHMENTS];
    assert!(post_with("message", "attachments", json!(ten)).is_ok());
    assert_refused(post_with("message", "attachments", json!(vec![attachment(); 11])), "attachments", "too_many");
    let mixed = json!([attachment(), "https://files.example"]);
    assert_refused(post_with("message", "attachments", mixed), "attachments[1]", "wrong_type");
}

#[test]
fn a_message_lists_up_to_twenty_mentions_each_once() {
    let names: Vec<String> = (0..=limits::MAX_MENTIONS).map(|number| format!("user-{number}")).collect();
    assert!(post_with("message", "mentions", json!(names[1..])).is_ok());
    assert_refused(post_with("message", "mentions", json!(names)), "mentions", "too_many");
    let Command::Message(send) = post_with("message", "mentions", json!(["bob", "zoë", "bob"])).unwrap() else {
        panic!("not a message")
    };
    assert_eq!(send.mentions, users(&["bob", "zoë"]));
    assert_eq!(
        errors(post_with("message", "mentions", json!(["bob", "two words", 3]))),
        [("mentions[1]".to_owned(), "invalid_id"), ("mentions[2]".to_owned(), "wrong_type"),]
    );
}

#[test]
fn the_caller_is_the_first_participant() {
    for others in [json!(["bob", "zoë"]), json!(["bob", "alice", "zoë", "bob"])] {
        let Command::Conversation { participant_ids, .. } =
            post_with("conversation", "participantIds", others).unwrap()
        else {
            panic!("not a conversation")
        };
        assert_eq!(participant_ids, users(&["alice", "bob", "zoë"]));
    }
    for nobody_else in [json!([]), json!(["alice"])] {
        assert_refused(post_with("conversation", "participantIds", nobody_else), "participantIds", "too_few");
    }
}

#[test]
fn a_conversation_has_up_to_1000_participants() {
    let names: Vec<String> = (0..limits::MAX_PARTICIPANTS).map(|number| format!("user-{number}")).collect();
    assert!(post_with("conversation", "participantIds", json!(names[1..])).is_ok());
    // The caller would be number 1,001.
    assert_refused(post_with("conversation", "participantIds", json!(names)), "participantIds", "too_many");
    let too_many: Vec<&str> = names.iter().map(String::as_str).chain(["alice"]).collect();
    assert_refused(post_with("conversation", "participantIds", json!(too_many)), "participantIds", "too_many");
    assert_refused(post_with("conversation", "participantIds", json!(["a b"])), "participantIds[0]", "invalid_id");
}

#[test]
fn a_pair_without_a_title_is_a_direct_conversation_by_default() {
    let kind = |body: Value| {
        let mut body = body;
        body["action"] = json!("conversation");
        let Command::Conversation { kind, .. } = post(body).unwrap() else { panic!("not a conversation") };
        kind
    };
    assert_eq!(kind(json!({"participantIds": ["bob"]})), ConversationKind::Direct);
    assert_eq!(kind(json!({"participantIds": ["bob"], "title": "Us"})), ConversationKind::Group);
    assert_eq!(kind(json!({"participantIds": ["bob"], "type": "GROUP"})), ConversationKind::Group);
    assert_eq!(kind(json!({"participantIds": ["bob", "zoë"]})), ConversationKind::Group);
}

#[test]
fn a_direct_conversation_has_two_participants_and_no_title() {
    let with_three = json!({"action": "conversation", "type": "DIRECT", "participantIds": ["bob", "zoë"]});
    assert_refused(post(with_three), "participantIds", "too_many");
    let with_title = json!({"action": "conversation", "type": "DIRECT", "participantIds": ["bob"], "title": "Us"});
    assert_refused(post(with_title), "title", "not_allowed");
    assert_refused(post_with("conversation", "type", json!("direct")), "type", "invalid_value");
}

#[test]
fn a_title_is_one_visible_line_of_up_to_200_characters() {
    let longest = "ü".repeat(limits::MAX_TITLE_CHARS);
    assert!(post_with("conversation", "title", json!(longest)).is_ok());
    for (title, code) in [
        (format!("{longest}a"), "too_long"),
        (" ".to_owned(), "empty"),
        (String::new(), "empty"),
        ("\u{200b}\u{3164}".to_owned(), "empty"),
        ("a\tb".to_owned(), "control_character"),
        ("safe\u{202e}evil".to_owned(), "control_character"),
        ("a\u{2066}b\u{2069}".to_owned(), "control_character"),
    ] {
        assert_refused(post_with("conversation", "title", json!(title)), "title", code);
    }
}

#[test]
fn a_reaction_is_added_with_or_without_a_label_or_removed() {
    let message_id = message(1);
    let emoji = "👍".to_owned();
    let add =
        |label: Option<&str>| Command::Reaction { message_id, emoji: emoji.clone(), label: label.map(str::to_owned) };
    let longest = "ü".repeat(limits::MAX_LABEL_CHARS);
    assert_eq!(post(body("reaction")).unwrap(), add(None));
    assert_eq!(post_with("reaction", "reaction", json!("add")).unwrap(), add(None));
    assert_eq!(post_with("reaction", "reaction", json!("Add")).unwrap(), add(Some("Add")));
    assert_eq!(post_with("reaction", "reaction", json!(longest)).unwrap(), add(Some(&longest)));
    let removal = Command::RemoveReaction { message_id, emoji: emoji.clone() };
    assert_eq!(post_with("reaction", "reaction", json!("remove")).unwrap(), removal);
    assert_eq!(post(body("remove_reaction")).unwrap(), removal);
    for (label, code) in [(format!("{longest}a"), "too_long"), (String::new(), "empty")] {
        assert_refused(post_with("reaction", "reaction", json!(label)), "reaction", code);
    }
    for action in ["reaction", "remove_reaction"] {
        for emoji in ["", "a", "👍👍", "👍 "] {
            assert_refused(post_with(action, "emoji", json!(emoji)), "emoji", "not_an_emoji");
        }
    }
}

#[test]
fn a_read_mark_names_a_message_or_means_the_newest() {
    let conversation_id = conversation(1);
    let mark_read = |message_id| Command::MarkRead { conversation_id, message_id };
    assert_eq!(post(body("mark_read")).unwrap(), mark_read(None));
    assert_eq!(post_with("mark_read", "messageId", json!(message(2))).unwrap(), mark_read(Some(message(2))));
    assert_refused(post_with("mark_read", "messageId", json!("x")), "messageId", "invalid_id");
}
