//! Invalid requests: the response names each invalid field with a stable code, and the request has no effect.

use serde_json::{Value, json};

use crate::contract::scene::Scene;
use crate::harness::http::Request;
use crate::harness::unknown_id;

/// An invalid body and the errors that the response must name, in order.
struct Case {
    body: Value,
    errors: Vec<(&'static str, &'static str)>,
}

/// A case with one error.
fn case(body: Value, field: &'static str, code: &'static str) -> Case {
    Case { body, errors: vec![(field, code)] }
}

impl Scene {
    /// Asserts that `POST` refuses each body with exactly its errors and has no effect.
    async fn assert_post_refuses(&self, cases: Vec<Case>) {
        self.assert_refused(|| self.post(), cases).await;
    }

    async fn assert_refused(&self, request: impl Fn() -> Request, cases: Vec<Case>) {
        let records_before = self.system.records().await;
        for Case { body, errors } in cases {
            let refused = request().json(&body).send().await;
            let code = if let [(_, code)] = errors.as_slice() { code } else { "invalid_body" };
            refused.assert_problem(422, code);
            assert_eq!(refused.field_errors(), errors, "{body}");
            refused.assert_not_counted();
        }
        assert_eq!(self.system.records().await, records_before, "a refused request had an effect");
    }
}

/// The object with a field changed or added.
fn with(object: &Value, field: &str, value: impl Into<Value>) -> Value {
    let mut object = object.clone();
    object[field] = value.into();
    object
}

/// The object without a field.
fn without(object: &Value, field: &str) -> Value {
    let mut object = object.clone();
    object.as_object_mut().unwrap().remove(field);
    object
}

const ACTION: &str = "action";

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_conversation_is_refused_with_every_invalid_field() {
    let scene = Scene::with(&["bob"]).await;
    let good = json!({"action": "conversation", "participantIds": ["bob", "carol"]});
    let pair = json!({"action": "conversation", "type": "DIRECT", "participantIds": ["bob"]});
    let ids = |value: Value| with(&good, "participantIds", value);
    let many: Vec<String> = (0..1_001).map(|number| format!("u{number}")).collect();
    let long = "x".repeat(129);
    scene
        .assert_post_refuses(vec![
            case(without(&good, "participantIds"), "participantIds", "required"),
            case(ids(Value::Null), "participantIds", "required"),
            case(ids(json!("bob")), "participantIds", "wrong_type"),
            case(ids(json!({"0": "bob"})), "participantIds", "wrong_type"),
            case(ids(json!([])), "participantIds", "too_few"),
            case(ids(json!(["alice", "alice"])), "participantIds", "too_few"),
            case(ids(json!(many)), "participantIds", "too_many"),
            case(ids(json!(many[..1_000])), "participantIds", "too_many"),
            Case {
                body: ids(json!(["bob", 7, "a b", null, "", "a\u{0}", "\u{200b}", long])),
                errors: vec![
                    ("participantIds[1]", "wrong_type"),
                    ("participantIds[2]", "invalid_id"),
                    ("participantIds[3]", "wrong_type"),
                    ("participantIds[4]", "invalid_id"),
                    ("participantIds[5]", "invalid_id"),
                    ("participantIds[6]", "invalid_id"),
                    ("participantIds[7]", "invalid_id"),
                ],
            },
            case(with(&good, "type", "direct"), "type", "invalid_value"),
            case(with(&good, "type", 1), "type", "wrong_type"),
            case(with(&good, "type", "DIRECT"), "participantIds", "too_many"),
            case(with(&good, "title", 1), "title", "wrong_type"),
            case(with(&good, "title", " \t"), "title", "empty"),
            case(with(&good, "title", "x".repeat(201)), "title", "too_long"),
            case(with(&good, "title", "a\nb"), "title", "control_character"),
            case(with(&good, "title", "a\u{0}b"), "title", "control_character"),
            case(with(&pair, "title", "Us"), "title", "not_allowed"),
            case(with(&good, "name", "Us"), "name", "unknown_field"),
            case(with(&good, "conversationId", unknown_id()), "conversationId", "unknown_field"),
            Case {
                body: json!({"action": "conversation", "title": 1, "type": "X", "participantIds": 5, "a": 1, "b": 2}),
                errors: vec![
                    ("type", "invalid_value"),
                    ("title", "wrong_type"),
                    ("participantIds", "wrong_type"),
                    ("a", "unknown_field"),
                    ("b", "unknown_field"),
                ],
            },
        ])
        .await;
    let longest = with(&good, "title", "é".repeat(200));
    assert_eq!(scene.post().json(&longest).send().await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_message_is_refused_with_every_invalid_field() {
    let scene = Scene::with(&["bob"]).await;
    let good = json!({"conversationId": scene.conversation, "content": "hi"});
    let id = |value: Value| with(&good, "conversationId", value);
    let content = |value: Value| with(&good, "content", value);
    let braces = format!("{{{}}}", scene.conversation);
    scene
        .assert_post_refuses(vec![
            case(with(&good, ACTION, "send"), ACTION, "unknown_action"),
            case(with(&good, ACTION, "MESSAGE"), ACTION, "unknown_action"),
            case(with(&good, ACTION, ""), ACTION, "unknown_action"),
            case(with(&good, ACTION, 1), ACTION, "wrong_type"),
            Case { body: json!({}), errors: vec![("conversationId", "required"), ("content", "required")] },
            case(id(Value::Null), "conversationId", "required"),
            case(id(json!(7)), "conversationId", "wrong_type"),
            case(id(json!("")), "conversationId", "invalid_id"),
            case(id(json!(braces)), "conversationId", "invalid_id"),
            case(id(json!(scene.conversation.replace('-', ""))), "conversationId", "invalid_id"),
            case(id(json!(format!("{}\n", scene.conversation))), "conversationId", "invalid_id"),
            case(id(json!(format!("{}\u{0}", &scene.conversation[..35]))), "conversationId", "invalid_id"),
            case(without(&good, "content"), "content", "required"),
            case(content(json!(["hi"])), "content", "wrong_type"),
            case(content(json!("")), "content", "empty"),
            case(content(json!(" \t\r\n\u{a0}\u{2003}\u{3000}")), "content", "empty"),
            case(content(json!("x".repeat(4_001))), "content", "too_long"),
            case(content(json!("a\u{0}b")), "content", "control_character"),
            case(with(&good, "messageType", "text"), "messageType", "invalid_value"),
            case(with(&good, "messageType", false), "messageType", "wrong_type"),
            case(with(&good, "replyToId", "x"), "replyToId", "invalid_id"),
            case(with(&good, "replyToId", 1), "replyToId", "wrong_type"),
            case(with(&good, "mentions", "bob"), "mentions", "wrong_type"),
            Case {
                body: with(&good, "mentions", json!([1, "a b"])),
                errors: vec![("mentions[0]", "wrong_type"), ("mentions[1]", "invalid_id")],
            },
            case(with(&good, "mentions", json!(vec!["bob"; 21])), "mentions", "too_many"),
            case(with(&good, "mentions", json!(["bob", "eve"])), "mentions[1]", "not_a_participant"),
            case(with(&good, "senderId", "bob"), "senderId", "unknown_field"),
            case(with(&good, "id", unknown_id()), "id", "unknown_field"),
            case(with(&good, "Content", "x"), "Content", "unknown_field"),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_attachment_is_refused_with_every_invalid_field() {
    let scene = Scene::with(&["bob"]).await;
    let good = json!({"url": "https://files.example/1", "name": "1", "mimeType": "image/png", "size": 1});
    let attached = |list: Value| json!({"conversationId": scene.conversation, "content": "", "attachments": list});
    let one = |attachment: Value| attached(json!([attachment]));
    let mut cases: Vec<Case> = vec![
        case(with(&attached(json!("x")), "content", "hi"), "attachments", "wrong_type"),
        case(with(&attached(json!(vec![&good; 11])), "content", "hi"), "attachments", "too_many"),
        case(attached(json!([good, "x"])), "attachments[1]", "wrong_type"),
        Case {
            body: one(json!({})),
            errors: vec![
                ("attachments[0].url", "required"),
                ("attachments[0].name", "required"),
                ("attachments[0].mimeType", "required"),
                ("attachments[0].size", "required"),
            ],
        },
        case(one(with(&good, "hash", 1)), "attachments[0].hash", "unknown_field"),
    ];
    for url in [
        "http://files.example/1",
        "https://",
        "https://:443/x",
        "https://me@x.example",
        "https://a b",
        "ftp://x",
        "javascript:alert(1)",
        "/1",
    ] {
        cases.push(case(one(with(&good, "url", url)), "attachments[0].url", "invalid_url"));
    }
    for (field, reported_as, max_length) in [
        ("url", "attachments[0].url", 2_048),
        ("name", "attachments[0].name", 255),
        ("mimeType", "attachments[0].mimeType", 255),
    ] {
        cases.push(case(one(with(&good, field, 1)), reported_as, "wrong_type"));
        cases.push(case(one(with(&good, field, "")), reported_as, "empty"));
        cases.push(case(one(with(&good, field, "x".repeat(max_length + 1))), reported_as, "too_long"));
        cases.push(case(one(with(&good, field, "a\u{7f}b")), reported_as, "control_character"));
    }
    for mime_type in ["png", "image/", "/png", "image/p ng", "image/png/x"] {
        cases.push(case(one(with(&good, "mimeType", mime_type)), "attachments[0].mimeType", "invalid_value"));
    }
    for size in [json!(-1), json!(1.5), json!(9_007_199_254_740_992_u64), json!(1e30)] {
        cases.push(case(one(with(&good, "size", size)), "attachments[0].size", "invalid_value"));
    }
    cases.push(case(one(with(&good, "size", "1")), "attachments[0].size", "wrong_type"));
    scene.assert_post_refuses(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_command_of_any_other_action_is_refused_with_every_invalid_field() {
    let scene = Scene::with(&["bob"]).await;
    let message = &scene.message;
    let reaction = json!({"action": "reaction", "messageId": message, "emoji": "👍"});
    let removal = json!({"action": "remove_reaction", "messageId": message, "emoji": "👍"});
    let mark = json!({"action": "mark_read", "conversationId": scene.conversation});
    let mut cases: Vec<Case> = vec![
        case(with(&reaction, "reaction", 1), "reaction", "wrong_type"),
        case(with(&reaction, "reaction", ""), "reaction", "empty"),
        case(with(&reaction, "reaction", "x".repeat(33)), "reaction", "too_long"),
        case(with(&reaction, "reaction", "a\tb"), "reaction", "control_character"),
        case(with(&reaction, "label", "x"), "label", "unknown_field"),
        case(with(&removal, "reaction", "remove"), "reaction", "unknown_field"),
        case(with(&mark, "messageId", "x"), "messageId", "invalid_id"),
        case(with(&mark, "upTo", message.as_str()), "upTo", "unknown_field"),
    ];
    for body in [&reaction, &removal] {
        cases.push(case(without(body, "messageId"), "messageId", "required"));
        cases.push(case(with(body, "messageId", "x"), "messageId", "invalid_id"));
        cases.push(case(without(body, "emoji"), "emoji", "required"));
        cases.push(case(with(body, "emoji", 1), "emoji", "wrong_type"));
        cases.push(case(with(body, "emoji", "👍👍"), "emoji", "not_an_emoji"));
        cases.push(case(with(body, "conversationId", unknown_id()), "conversationId", "unknown_field"));
    }
    for action in ["typing_start", "typing_stop", "mark_read"] {
        cases.push(case(json!({"action": action}), "conversationId", "required"));
        cases.push(case(json!({"action": action, "conversationId": "x"}), "conversationId", "invalid_id"));
        let extra = json!({"action": action, "conversationId": scene.conversation, "content": "x"});
        cases.push(case(extra, "content", "unknown_field"));
    }
    scene.assert_post_refuses(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_edit_is_refused_with_every_invalid_field() {
    let scene = Scene::with(&["bob"]).await;
    let long_with_mentions = json!({"content": "x".repeat(4_001), "mentions": []});
    let cases = vec![
        case(json!({}), "content", "required"),
        case(json!({"content": null}), "content", "required"),
        case(json!({"content": 1}), "content", "wrong_type"),
        case(json!({"content": ""}), "content", "empty"),
        case(json!({"content": "a\u{0}b"}), "content", "control_character"),
        case(json!({"content": "hi", "action": "message"}), "action", "unknown_field"),
        case(json!({"content": "hi", "messageId": scene.message}), "messageId", "unknown_field"),
        Case { body: long_with_mentions, errors: vec![("content", "too_long"), ("mentions", "unknown_field")] },
    ];
    scene.assert_refused(|| scene.patch(), cases).await;
}
