//! Malformed requests: bodies, media types, paths, headers, parameters and routes that the API must refuse before it
//! looks at any field. A refused request must have no effect.

use serde_json::json;

use crate::contract::scene::Scene;
use crate::harness::http::Request;
use crate::harness::{System, unknown_id};

impl Scene {
    fn delete(&self) -> Request {
        self.system.ask("alice", "DELETE", &format!("/api/messages/{}", self.message))
    }

    /// The text of a valid message.
    fn valid_body(&self) -> String {
        format!("{{\"conversationId\":\"{}\",\"content\":\"hi\"}}", self.conversation)
    }

    /// The text of a valid message, padded with spaces to this many bytes.
    fn valid_body_of_size(&self, bytes: usize) -> String {
        let body = self.valid_body();
        let padding = " ".repeat(bytes - body.len());
        body + &padding
    }

    /// Asserts that the log has only what [`Self::new`] did.
    async fn assert_nothing_new(&self) {
        assert_eq!(self.system.records().await.len(), 2, "a refused request had an effect");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_json_is_refused() {
    let scene = Scene::with(&["bob"]).await;
    let deeply_nested = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let with_two_byte_order_marks = format!("\u{feff}\u{feff}{}", scene.valid_body());
    let with_a_byte_order_mark_at_the_end = format!("{}\u{feff}", scene.valid_body());
    for body in [
        "",
        "{",
        "{\"content\":\"hi\",}",
        "{\"content\":\"\\ud800\"}",
        "{\"content\":\"a\nb\"}",
        "{} {}",
        "NaN",
        &deeply_nested,
        "\u{feff}",
        &with_two_byte_order_marks,
        &with_a_byte_order_mark_at_the_end,
    ] {
        scene.post().raw(body.to_owned()).send().await.assert_problem(400, "invalid_json");
        scene.patch().raw(body.to_owned()).send().await.assert_problem(400, "invalid_json");
    }
    let invalid_utf8 = [b"{\"content\":\"".as_slice(), &[0xff, 0xc0], b"\"}"].concat();
    scene.post().raw(invalid_utf8).send().await.assert_problem(400, "invalid_json");
    let utf16: Vec<u8> = "\u{feff}{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    scene.post().raw(utf16).send().await.assert_problem(400, "invalid_json");
    scene.assert_nothing_new().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_body_that_is_not_an_object_is_refused() {
    let scene = Scene::with(&["bob"]).await;
    for body in ["null", "[]", "\"hi\"", "7"] {
        scene.post().raw(body.to_owned()).send().await.assert_problem(422, "not_an_object");
        scene.patch().raw(body.to_owned()).send().await.assert_problem(422, "not_an_object");
    }
    scene.assert_nothing_new().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_body_is_accepted_as_json_as_plain_text_and_without_a_media_type() {
    let scene = Scene::with(&["bob"]).await;
    let with_byte_order_mark = format!("\u{feff}{}", scene.valid_body());
    let edit = json!({"content": "ho"}).to_string();
    for media_type in [
        None,
        Some("application/json"),
        Some("text/plain"),
        // What a browser sends with a text for which the page names no type.
        Some("text/plain;charset=UTF-8"),
        Some("text/plain; charset=utf8"),
        Some("Application/JSON; charset=\"UTF8\""),
    ] {
        let with_type = |request: Request| match media_type {
            Some(media_type) => request.header("Content-Type", media_type),
            None => request,
        };
        for body in [scene.valid_body(), with_byte_order_mark.clone()] {
            let sent = with_type(scene.post().body(body)).send().await;
            assert_eq!((sent.status, &sent.data()["content"]), (201, &json!("hi")), "{media_type:?}");
        }
        for body in [edit.clone(), format!("\u{feff}{edit}")] {
            let edited = with_type(scene.patch().body(body)).send().await;
            assert_eq!((edited.status, &edited.data()["content"]), (200, &json!("ho")), "{media_type:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_another_media_type_or_encoding_is_refused() {
    let scene = Scene::with(&["bob"]).await;
    for media_type in [
        "text/html",
        "text/plain; charset=iso-8859-1",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/problem+json",
    ] {
        for request in [scene.post().body(scene.valid_body()), scene.patch().body("{\"content\":\"ho\"}")] {
            let refused = request.header("Content-Type", media_type).send().await;
            refused.assert_problem(415, "unsupported_media_type");
        }
    }
    let compressed = scene.post().raw(scene.valid_body()).header("Content-Encoding", "gzip");
    compressed.send().await.assert_problem(415, "unsupported_media_type");
    scene.assert_nothing_new().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_64_kib_is_accepted_and_a_larger_one_is_refused() {
    let scene = Scene::with(&["bob"]).await;
    for bytes in [(64 << 10) + 1, 65 << 10, 1 << 20] {
        let refused = scene.post().raw(scene.valid_body_of_size(bytes)).send().await;
        refused.assert_problem(413, "body_too_large");
    }
    scene.assert_nothing_new().await;

    // The media type is case-insensitive, and its charset may be quoted.
    let largest = scene.post().body(scene.valid_body_of_size(64 << 10));
    let sent = largest.header("Content-Type", "Application/JSON; charset=\"UTF-8\"").send().await;
    assert_eq!(sent.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_id_in_a_path_is_named() {
    let scene = Scene::with(&["bob"]).await;
    let edit = json!({"content": "hi"});
    let too_short = &scene.message[..35];
    let in_braces = format!("%7B{}%7D", scene.message);
    for id in ["x", "%0a", "%ff", "a%20b", too_short, &in_braces] {
        for method in ["PATCH", "DELETE"] {
            let refused = scene.system.ask("alice", method, &format!("/api/messages/{id}")).json(&edit).send().await;
            refused.assert_field_refused(400, "messageId", "invalid_id");
        }
    }
    scene.assert_nothing_new().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_header_is_named() {
    let scene = Scene::with(&["bob"]).await;
    let message = json!({"conversationId": scene.conversation, "content": "hi"});
    let edit = json!({"content": "hi"});
    let assert_refused = async |name: &str, value: &str, code: &str| {
        for request in [scene.post().json(&message), scene.patch().json(&edit), scene.delete()] {
            request.header(name, value).send().await.assert_field_refused(400, name, code);
        }
    };
    let too_long = "x".repeat(129);
    for key in ["", "a b", "a\tb", "ü", &too_long] {
        assert_refused("Idempotency-Key", key, "invalid_header").await;
    }
    for position in ["", "x", "1", "-1:0", "0:-1", "3:0", "0:99999999999999999999", "0:0:0"] {
        assert_refused("Messages-Position", position, "invalid_position").await;
    }
    assert_refused("Messages-Position", "ü", "invalid_header").await;
    for name in ["Idempotency-Key", "Messages-Position"] {
        let repeated = scene.post().json(&message).header(name, "0:0").header(name, "0:0").send().await;
        assert_eq!(repeated.field_errors(), [(name, "invalid_header")]);
    }
    scene.assert_nothing_new().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_has_no_query_parameters() {
    let scene = Scene::with(&["bob"]).await;
    let edit = json!({"content": "hi"});
    let message_path = format!("/api/messages/{}", scene.message);
    for (method, path) in [("POST", "/api/messages"), ("PATCH", &message_path), ("DELETE", &message_path)] {
        let request = scene.system.ask("alice", method, &format!("{path}?action=message")).json(&edit);
        request.send().await.assert_field_refused(400, "action", "unknown_parameter");
    }
    scene.assert_nothing_new().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_route_is_404() {
    let system = System::start().await;
    for path in ["/api", "/api/nothing", "/api/messages/", "/api/messages/a/b", "/api/conversations", "/API/messages"] {
        for method in ["GET", "POST"] {
            system.ask("alice", method, path).send().await.assert_problem(404, "no_such_route");
        }
    }
    assert!(system.records().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_a_route_lacks_is_405_with_the_methods_that_it_has() {
    struct Route {
        path: String,
        methods: Vec<&'static str>,
    }
    let system = System::start().await;
    let id = unknown_id();
    for Route { path, methods } in [
        Route { path: "/api/messages".to_owned(), methods: vec!["GET", "HEAD", "POST"] },
        Route { path: "/api/messages/sync".to_owned(), methods: vec!["GET", "HEAD"] },
        Route { path: format!("/api/messages/{id}"), methods: vec!["DELETE", "GET", "HEAD", "PATCH"] },
        Route { path: format!("/api/conversations/{id}"), methods: vec!["GET", "HEAD"] },
    ] {
        for method in ["PUT", "OPTIONS", "DELETE", "PATCH", "POST", "BREW"] {
            if methods.contains(&method) {
                continue;
            }
            let refused = system.ask("alice", method, &path).send().await;
            refused.assert_problem(405, "method_not_allowed");
            let mut allowed: Vec<&str> = refused.header("allow").split(',').map(str::trim).collect();
            allowed.sort_unstable();
            assert_eq!(allowed, methods, "{method} {path}");
        }
    }
    assert!(system.records().await.is_empty());
}
