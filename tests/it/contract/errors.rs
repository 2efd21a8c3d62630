//! What is wrong with a request is named, and nothing happens.

use serde_json::{Value, json};

use crate::harness::http::{Request, Response};
use crate::harness::{System, unknown_id};

/// What the cases need: a system, a direct conversation of alice and bob, and a message of alice's in it.
struct Scene {
    system: System,
    conversation: String,
    message: String,
}

impl Scene {
    async fn new() -> Self {
        let system = System::start().await;
        let conversation = system.conversation("alice", &["bob"]).await;
        let message = system.message("alice", &conversation, "hi").await;
        Self { system, conversation, message }
    }

    fn post(&self) -> Request {
        self.system.ask("alice", "POST", "/api/messages")
    }

    /// Asserts that each body is refused with exactly these errors, and that nothing new is on the topic.
    async fn refuses(&self, cases: Vec<(Value, Vec<(&str, &str)>)>) {
        let before = self.system.records().await;
        for (body, errors) in cases {
            let refused = self.post().json(&body).send().await;
            let code = if let [(_, code)] = errors.as_slice() { code } else { "invalid_body" };
            refused.assert_problem(422, code);
            assert_eq!(refused.field_errors(), errors, "{body}");
            assert_eq!(refused.header("ratelimit-limit"), "", "what is refused doesn't count");
        }
        assert_eq!(self.system.records().await, before);
    }
}

/// Changes a field of an object, or adds one.
fn with(object: &Value, field: &str, value: impl Into<Value>) -> Value {
    let mut object = object.clone();
    object[field] = value.into();
    object
}

fn without(object: &Value, field: &str) -> Value {
    let mut object = object.clone();
    object.as_object_mut().unwrap().remove(field);
    object
}

const ACTION: &str = "action";

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_field_of_a_conversation_is_named() {
    let scene = Scene::new().await;
    let good = json!({"action": "conversation", "participantIds": ["bob", "carol"]});
    let pair = json!({"action": "conversation", "type": "DIRECT", "participantIds": ["bob"]});
    let ids = |value: Value| with(&good, "participantIds", value);
    let many: Vec<String> = (0..1_001).map(|number| format!("u{number}")).collect();
    let long = "x".repeat(129);
    scene
        .refuses(vec![
            (without(&good, "participantIds"), vec![("participantIds", "required")]),
            (ids(Value::Null), vec![("participantIds", "required")]),
            (ids(json!("bob")), vec![("participantIds", "wrong_type")]),
            (ids(json!({"0": "bob"})), vec![("participantIds", "wrong_type")]),
            (ids(json!([])), vec![("participantIds", "too_few")]),
            (ids(json!(["alice", "alice"])), vec![("participantIds", "too_few")]),
            (ids(json!(many)), vec![("participantIds", "too_many")]),
            (ids(json!(many[..1_000])), vec![("participantIds", "too_many")]),
            (
                ids(json!(["bob", 7, "a b", null, "", "a\u{0}", "\u{200b}", long])),
                vec![
                    ("participantIds[1]", "wrong_type"),
                    ("participantIds[2]", "invalid_id"),
                    ("participantIds[3]", "wrong_type"),
                    ("participantIds[4]", "invalid_id"),
                    ("participantIds[5]", "invalid_id"),
                    ("participantIds[6]", "invalid_id"),
                    ("participantIds[7]", "invalid_id"),
                ],
            ),
            (with(&good, "type", "direct"), vec![("type", "invalid_value")]),
            (with(&good, "type", 1), vec![("type", "wrong_type")]),
            (with(&good, "type", "DIRECT"), vec![("participantIds", "too_many")]),
            (with(&good, "title", 1), vec![("title", "wrong_type")]),
            (with(&good, "title", " \t"), vec![("title", "empty")]),
            (with(&good, "title", "x".repeat(201)), vec![("title", "too_long")]),
            (with(&good, "title", "a\nb"), vec![("title", "control_character")]),
            (with(&good, "title", "a\u{0}b"), vec![("title", "control_character")]),
            (with(&pair, "title", "Us"), vec![("title", "not_allowed")]),
            (with(&good, "name", "Us"), vec![("name", "unknown_field")]),
            (with(&good, "conversationId", unknown_id()), vec![("conversationId", "unknown_field")]),
            (
                json!({"action": "conversation", "title": 1, "type": "X", "participantIds": 5, "a": 1, "b": 2}),
                vec![
                    ("type", "invalid_value"),
                    ("title", "wrong_type"),
                    ("participantIds", "wrong_type"),
                    ("a", "unknown_field"),
                    ("b", "unknown_field"),
                ],
            ),
        ])
        .await;
    let longest = with(&good, "title", "é".repeat(200));
    assert_eq!(scene.post().json(&longest).send().await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_field_of_a_message_is_named() {
    let scene = Scene::new().await;
    let good = json!({"conversationId": scene.conversation, "content": "hi"});
    let id = |value: Value| with(&good, "conversationId", value);
    let content = |value: Value| with(&good, "content", value);
    let braces = format!("{{{}}}", scene.conversation);
    scene
        .refuses(vec![
            (with(&good, ACTION, "send"), vec![(ACTION, "unknown_action")]),
            (with(&good, ACTION, "MESSAGE"), vec![(ACTION, "unknown_action")]),
            (with(&good, ACTION, ""), vec![(ACTION, "unknown_action")]),
            (with(&good, ACTION, 1), vec![(ACTION, "wrong_type")]),
            (json!({}), vec![("conversationId", "required"), ("content", "required")]),
            (id(Value::Null), vec![("conversationId", "required")]),
            (id(json!(7)), vec![("conversationId", "wrong_type")]),
            (id(json!("")), vec![("conversationId", "invalid_id")]),
            (id(json!(braces)), vec![("conversationId", "invalid_id")]),
            (id(json!(scene.conversation.replace('-', ""))), vec![("conversationId", "invalid_id")]),
            (id(json!(format!("{}\n", scene.conversation))), vec![("conversationId", "invalid_id")]),
            (id(json!(format!("{}\u{0}", &scene.conversation[..35]))), vec![("conversationId", "invalid_id")]),
            (without(&good, "content"), vec![("content", "required")]),
            (content(json!(["hi"])), vec![("content", "wrong_type")]),
            (content(json!("")), vec![("content", "empty")]),
            (content(json!(" \t\r\n\u{a0}\u{2003}\u{3000}")), vec![("content", "empty")]),
            (content(json!("x".repeat(4_001))), vec![("content", "too_long")]),
            (content(json!("a\u{0}b")), vec![("content", "control_character")]),
            (with(&good, "messageType", "text"), vec![("messageType", "invalid_value")]),
            (with(&good, "messageType", false), vec![("messageType", "wrong_type")]),
            (with(&good, "replyToId", "x"), vec![("replyToId", "invalid_id")]),
            (with(&good, "replyToId", 1), vec![("replyToId", "wrong_type")]),
            (with(&good, "mentions", "bob"), vec![("mentions", "wrong_type")]),
            (
                with(&good, "mentions", json!([1, "a b"])),
                vec![("mentions[0]", "wrong_type"), ("mentions[1]", "invalid_id")],
            ),
            (with(&good, "mentions", json!(vec!["bob"; 21])), vec![("mentions", "too_many")]),
            (with(&good, "mentions", json!(["bob", "eve"])), vec![("mentions[1]", "not_a_participant")]),
            (with(&good, "senderId", "bob"), vec![("senderId", "unknown_field")]),
            (with(&good, "id", unknown_id()), vec![("id", "unknown_field")]),
            (with(&good, "Content", "x"), vec![("Content", "unknown_field")]),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_field_of_an_attachment_is_named() {
    let scene = Scene::new().await;
    let good = json!({"url": "https://files.example/1", "name": "1", "mimeType": "image/png", "size": 1});
    let attached = |list: Value| json!({"conversationId": scene.conversation, "content": "", "attachments": list});
    let one = |attachment: Value| attached(json!([attachment]));
    let (url, name, mime, size) =
        ("attachments[0].url", "attachments[0].name", "attachments[0].mimeType", "attachments[0].size");
    let mut cases: Vec<(Value, Vec<(&str, &str)>)> = vec![
        (with(&attached(json!("x")), "content", "hi"), vec![("attachments", "wrong_type")]),
        (with(&attached(json!(vec![&good; 11])), "content", "hi"), vec![("attachments", "too_many")]),
        (attached(json!([good, "x"])), vec![("attachments[1]", "wrong_type")]),
        (one(json!({})), vec![(url, "required"), (name, "required"), (mime, "required"), (size, "required")]),
        (one(with(&good, "hash", 1)), vec![("attachments[0].hash", "unknown_field")]),
    ];
    for wrong in
        ["http://files.example/1", "https://", "https:///x", "https://a b", "ftp://x", "javascript:alert(1)", "/1"]
    {
        cases.push((one(with(&good, "url", wrong)), vec![("attachments[0].url", "invalid_url")]));
    }
    for (field, path, max) in [("url", url, 2_048), ("name", name, 255), ("mimeType", mime, 255)] {
        cases.push((one(with(&good, field, 1)), vec![(path, "wrong_type")]));
        cases.push((one(with(&good, field, "")), vec![(path, "empty")]));
        cases.push((one(with(&good, field, "x".repeat(max + 1))), vec![(path, "too_long")]));
        cases.push((one(with(&good, field, "a\u{7f}b")), vec![(path, "control_character")]));
    }
    for wrong in ["png", "image/", "/png", "image/p ng", "image/png/x"] {
        cases.push((one(with(&good, "mimeType", wrong)), vec![("attachments[0].mimeType", "invalid_value")]));
    }
    for wrong in [json!(-1), json!(1.5), json!(9_007_199_254_740_992_u64), json!(1e30)] {
        cases.push((one(with(&good, "size", wrong)), vec![("attachments[0].size", "invalid_value")]));
    }
    cases.push((one(with(&good, "size", "1")), vec![("attachments[0].size", "wrong_type")]));
    scene.refuses(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_field_of_the_other_actions_is_named() {
    let scene = Scene::new().await;
    let message = &scene.message;
    let reaction = json!({"action": "reaction", "messageId": message, "emoji": "👍"});
    let removal = json!({"action": "remove_reaction", "messageId": message, "emoji": "👍"});
    let mark = json!({"action": "mark_read", "conversationId": scene.conversation});
    let mut cases: Vec<(Value, Vec<(&str, &str)>)> = vec![
        (with(&reaction, "reaction", 1), vec![("reaction", "wrong_type")]),
        (with(&reaction, "reaction", ""), vec![("reaction", "empty")]),
        (with(&reaction, "reaction", "x".repeat(33)), vec![("reaction", "too_long")]),
        (with(&reaction, "reaction", "a\tb"), vec![("reaction", "control_character")]),
        (with(&reaction, "label", "x"), vec![("label", "unknown_field")]),
        (with(&removal, "reaction", "remove"), vec![("reaction", "unknown_field")]),
        (with(&mark, "messageId", "x"), vec![("messageId", "invalid_id")]),
        (with(&mark, "upTo", message.as_str()), vec![("upTo", "unknown_field")]),
    ];
    for body in [&reaction, &removal] {
        cases.push((without(body, "messageId"), vec![("messageId", "required")]));
        cases.push((with(body, "messageId", "x"), vec![("messageId", "invalid_id")]));
        cases.push((without(body, "emoji"), vec![("emoji", "required")]));
        cases.push((with(body, "emoji", 1), vec![("emoji", "wrong_type")]));
        cases.push((with(body, "emoji", "👍👍"), vec![("emoji", "not_an_emoji")]));
        cases.push((with(body, "conversationId", unknown_id()), vec![("conversationId", "unknown_field")]));
    }
    for action in ["typing_start", "typing_stop", "mark_read"] {
        cases.push((json!({"action": action}), vec![("conversationId", "required")]));
        cases.push((json!({"action": action, "conversationId": "x"}), vec![("conversationId", "invalid_id")]));
        let extra = json!({"action": action, "conversationId": scene.conversation, "content": "x"});
        cases.push((extra, vec![("content", "unknown_field")]));
    }
    scene.refuses(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_field_of_an_edit_is_named() {
    let scene = Scene::new().await;
    let before = scene.system.records().await;
    let path = format!("/api/messages/{}", scene.message);
    let mut long_mentions = json!({"content": "x".repeat(4_001)});
    long_mentions["mentions"] = json!([]);
    let cases: [(Value, Vec<(&str, &str)>); 8] = [
        (json!({}), vec![("content", "required")]),
        (json!({"content": null}), vec![("content", "required")]),
        (json!({"content": 1}), vec![("content", "wrong_type")]),
        (json!({"content": ""}), vec![("content", "empty")]),
        (json!({"content": "a\u{0}b"}), vec![("content", "control_character")]),
        (json!({"content": "hi", "action": "message"}), vec![("action", "unknown_field")]),
        (json!({"content": "hi", "messageId": scene.message}), vec![("messageId", "unknown_field")]),
        (long_mentions, vec![("content", "too_long"), ("mentions", "unknown_field")]),
    ];
    for (body, errors) in cases {
        let refused = scene.system.ask("alice", "PATCH", &path).json(&body).send().await;
        let code = if let [(_, code)] = errors.as_slice() { code } else { "invalid_body" };
        refused.assert_problem(422, code);
        assert_eq!(refused.field_errors(), errors, "{body}");
    }
    assert_eq!(scene.system.records().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_json_object_is_refused() {
    let scene = Scene::new().await;
    let before = scene.system.records().await;
    let path = format!("/api/messages/{}", scene.message);
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let good = format!("{{\"conversationId\":\"{}\",\"content\":\"hi\"}}", scene.conversation);
    for (body, status, code) in [
        ("", 400, "invalid_json"),
        ("{", 400, "invalid_json"),
        ("{\"content\":\"hi\",}", 400, "invalid_json"),
        ("{\"content\":\"\\ud800\"}", 400, "invalid_json"),
        ("{\"content\":\"a\nb\"}", 400, "invalid_json"),
        ("{} {}", 400, "invalid_json"),
        ("NaN", 400, "invalid_json"),
        (&deep, 400, "invalid_json"),
        (&format!("\u{feff}{good}"), 400, "invalid_json"),
        ("null", 422, "not_an_object"),
        ("[]", 422, "not_an_object"),
        ("\"hi\"", 422, "not_an_object"),
        ("7", 422, "not_an_object"),
    ] {
        for (method, path) in [("POST", "/api/messages"), ("PATCH", &path)] {
            let refused = scene.system.ask("alice", method, path).raw(body.to_owned()).send().await;
            refused.assert_problem(status, code);
        }
    }
    // Bytes that are no UTF-8 are no JSON.
    let bytes = [b"{\"content\":\"".as_slice(), &[0xff, 0xc0], b"\"}"].concat();
    scene.post().raw(bytes).send().await.assert_problem(400, "invalid_json");
    let compressed = scene.post().raw(good.clone()).header("Content-Encoding", "gzip");
    compressed.send().await.assert_problem(415, "unsupported_media_type");
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "application/problem+json",
    ] {
        let request = scene.post().body(good.clone()).header("Content-Type", kind);
        request.send().await.assert_problem(415, "unsupported_media_type");
    }
    scene.post().body(good.clone()).send().await.assert_problem(415, "unsupported_media_type");
    for size in [(64 << 10) + 1, 65 << 10, 1 << 20] {
        let refused = scene.post().raw(good.clone() + &" ".repeat(size - good.len())).send().await;
        refused.assert_problem(413, "body_too_large");
    }
    assert_eq!(scene.system.records().await, before);
    // The largest body, and other ways to say what it is.
    let largest = good.clone() + &" ".repeat((64 << 10) - good.len());
    let request = scene.post().body(largest).header("Content-Type", "Application/JSON; charset=\"UTF-8\"");
    assert_eq!(request.send().await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_path_parameter_or_header_is_named() {
    let scene = Scene::new().await;
    let before = scene.system.records().await;
    let edit = json!({"content": "hi"});
    for id in ["x", "%0a", "%ff", "a%20b", &scene.message[..35], &format!("%7B{}%7D", scene.message)] {
        for method in ["PATCH", "DELETE"] {
            let refused = scene.system.ask("alice", method, &format!("/api/messages/{id}")).json(&edit).send().await;
            refused.assert_problem(400, "invalid_id");
            assert_eq!(refused.field_errors(), [("messageId", "invalid_id")], "{method} {id}");
        }
    }
    let good = json!({"conversationId": scene.conversation, "content": "hi"});
    let path = format!("/api/messages/{}", scene.message);
    let long = "x".repeat(129);
    let header = |name: &'static str, value: &[u8]| {
        [
            scene.post().json(&good).header(name, value),
            scene.system.ask("alice", "PATCH", &path).json(&edit).header(name, value),
            scene.system.ask("alice", "DELETE", &path).header(name, value),
        ]
    };
    for (name, values, code) in [
        ("Idempotency-Key", vec!["", "a b", "a\tb", "ü", long.as_str()], "invalid_header"),
        (
            "Messages-Position",
            vec!["", "x", "1", "-1:0", "0:-1", "3:0", "0:99999999999999999999", "0:0:0"],
            "invalid_position",
        ),
        ("Messages-Position", vec!["ü"], "invalid_header"),
    ] {
        for value in values {
            for request in header(name, value.as_bytes()) {
                let refused = request.send().await;
                refused.assert_problem(400, code);
                assert_eq!(refused.field_errors(), [(name, code)], "{value}");
            }
        }
    }
    for name in ["Idempotency-Key", "Messages-Position"] {
        let refused = scene.post().json(&good).header(name, "0:0").header(name, "0:0").send().await;
        assert_eq!(refused.field_errors(), [(name, "invalid_header")]);
    }
    for (method, path) in [("POST", "/api/messages"), ("PATCH", &path), ("DELETE", &path)] {
        let request = scene.system.ask("alice", method, &format!("{path}?action=message")).json(&edit);
        let refused = request.send().await;
        refused.assert_problem(400, "unknown_parameter");
        assert_eq!(refused.field_errors(), [("action", "unknown_parameter")]);
    }
    assert_eq!(scene.system.records().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_route_is_404_and_a_wrong_method_405_with_those_that_there_are() {
    let system = System::start().await;
    for path in ["/api", "/api/nothing", "/api/messages/", "/api/messages/a/b", "/api/conversations", "/API/messages"] {
        for method in ["GET", "POST"] {
            system.ask("alice", method, path).send().await.assert_problem(404, "no_such_route");
        }
    }
    let id = unknown_id();
    for (path, methods) in [
        ("/api/messages", vec!["GET", "HEAD", "POST"]),
        ("/api/messages/sync", vec!["GET", "HEAD"]),
        (&format!("/api/messages/{id}"), vec!["DELETE", "GET", "HEAD", "PATCH"]),
        (&format!("/api/conversations/{id}"), vec!["GET", "HEAD"]),
    ] {
        for method in ["PUT", "OPTIONS", "DELETE", "PATCH", "POST", "BREW"] {
            if methods.contains(&method) {
                continue;
            }
            let refused = system.ask("alice", method, path).send().await;
            refused.assert_problem(405, "method_not_allowed");
            let mut allowed: Vec<&str> = refused.header("allow").split(',').map(str::trim).collect();
            allowed.sort_unstable();
            assert_eq!(allowed, methods, "{method} {path}");
        }
    }
    assert!(system.records().await.is_empty());
}
