//! Connecting a socket, and what a client may send over it: no packet of one client may harm another client.

use std::time::{Duration, SystemTime};

use domain::Timestamp;
use serde_json::{Value, json};
use service::auth::Auth;

use crate::harness::http::Response;
use crate::harness::{Client, System};

/// The operations that a client may emit. The server answers each with the HTTP request to send instead.
const OPERATIONS: [&str; 8] = [
    "message:send",
    "message:edit",
    "message:delete",
    "reaction:add",
    "reaction:remove",
    "typing:start",
    "typing:stop",
    "messages:read",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_without_a_valid_token_is_refused_with_a_stable_code() {
    let system = System::start().await;
    let user = "alice".parse().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let in_ms = |ahead: i64| Timestamp::from_millis(i64::try_from(now).unwrap() + ahead).unwrap();
    let expired = system.auth.mint(&user, in_ms(-10_000)).unwrap();
    let forged = Auth::new("another secret, of somebody else").mint(&user, in_ms(60_000)).unwrap();
    for (auth, code) in [
        (json!({}), "missing_token"),
        (json!({"token": null}), "missing_token"),
        (json!({"token": 7}), "missing_token"),
        (json!({"token": {"sub": "alice"}}), "missing_token"),
        (json!([system.token("alice")]), "missing_token"),
        (json!({"token": ""}), "invalid_token"),
        (json!({"token": "no token"}), "invalid_token"),
        (json!({"token": forged}), "invalid_token"),
        (json!({"token": system.auth.service_token()}), "invalid_token"),
        (json!({"token": expired}), "expired_token"),
    ] {
        let mut client = Client::open(json!({"url": system.url, "auth": auth})).await;
        assert_eq!(client.wait_for("connect_error").await["message"], code, "{auth}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_namespace_is_refused() {
    let system = System::start().await;
    let url = format!("{}/admin", system.url);
    let mut client = Client::open(json!({"url": url, "token": system.token("alice")})).await;
    assert_eq!(client.wait_for("connect_error").await["message"], "Invalid namespace");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_disconnected_when_its_token_expires() {
    let system = System::start().await;
    // A busy machine needs some seconds to connect.
    let token = system.token_for("alice", Duration::from_secs(12));
    let mut client = Client::open(json!({"url": system.url, "token": token})).await;
    client.frame("connection:ready").await;
    assert_eq!(system.get_with(&token, "/api/messages").await.status, 200);

    assert_eq!(client.wait_for("disconnect").await["reason"], "io server disconnect");

    assert_eq!(system.get_with(&token, "/api/messages").await.status, 401);
    client.connect_socket(0).await;
    assert_eq!(client.wait_for("connect_error").await["message"], "expired_token");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emitted_operation_is_answered_with_the_request_that_performs_it() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let mut alice = Client::connect(&system, "alice").await;
    let send = json!({"conversationId": conversation, "content": "hi"});
    let sent = emit_and_follow_redirect(&system, &mut alice, "message:send", send).await;
    let message = sent.id();
    for (operation, payload, status) in [
        ("message:edit", json!({"messageId": message, "content": "ho"}), 200),
        ("reaction:add", json!({"messageId": message, "emoji": "👍"}), 201),
        ("reaction:remove", json!({"messageId": message, "emoji": "👍"}), 200),
        ("typing:start", json!({"conversationId": conversation}), 202),
        ("typing:stop", json!({"conversationId": conversation}), 202),
        ("messages:read", json!({"conversationId": conversation, "messageId": message}), 200),
        ("message:delete", json!({"messageId": message}), 200),
    ] {
        let response = emit_and_follow_redirect(&system, &mut alice, operation, payload).await;
        assert_eq!(response.status, status, "{operation}");
    }
}

/// Emits an operation of alice's, then sends the request that the server names.
async fn emit_and_follow_redirect(system: &System, alice: &mut Client, operation: &str, payload: Value) -> Response {
    alice.emit(operation, payload).await;
    let redirect = alice.frame("message:redirect_to_api").await.data;
    assert_eq!(redirect["event"], operation);
    let request = system.ask("alice", redirect["method"].as_str().unwrap(), redirect["path"].as_str().unwrap());
    if redirect["body"].is_null() { request.send().await } else { request.json(&redirect["body"]).send().await }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_payload_gets_an_answer_and_has_no_effect() {
    let system = System::start().await;
    let mut alice = Client::connect(&system, "alice").await;
    let payloads = [
        json!(null),
        json!(7),
        json!("text\u{0}"),
        json!([[], {}]),
        json!({"messageId": {"a": 1}, "conversationId": [], "userIds": {}}),
        json!({"messageId": "../../admin", "userIds": [1]}),
        json!({"id": "%2e%2e", "userIds": ["a b"]}),
        json!({"__proto__": {"x": 1}, "action": "conversation"}),
    ];
    for payload in &payloads {
        for event in OPERATIONS.iter().chain(&["presence:get", "message:new", "error", "no such event"]) {
            alice.instruct(json!({"do": "emit", "name": event, "args": [payload, payload]})).await;
        }
        let ack = alice.emit_with_ack("presence:get", payload.clone()).await;
        assert_eq!(ack["error"]["code"], "invalid_user_ids", "{payload}");
    }
    let frames = alice.unread_frames().await;
    assert_eq!(frames, vec!["message:redirect_to_api"; OPERATIONS.len() * payloads.len()]);
    assert_eq!(system.records().await, [], "a malformed payload had an effect");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_packet_ends_at_most_the_socket_that_sent_it() {
    let system = System::start().await;
    let mut alice = Client::connect(&system, "alice").await;
    let deeply_nested = format!("42[\"message:send\",{}{}]", "[".repeat(20_000), "]".repeat(20_000));
    let connect = format!("40{}", json!({"token": system.token("bob")}));
    for packets in [
        "",
        "4",
        "49",
        "4nonsense",
        "40{\"token\":",
        "42",
        "42[]",
        "42{}",
        "42[7]",
        "42[\"message:send\"",
        "42999999999999999999999[\"presence:get\",{}]",
        "43[]",
        "430[\"x\"]",
        "451-[\"message:send\",{\"_placeholder\":true,\"num\":0}]",
        "45999999-[\"message:send\"]",
        "bAAAA",
        "2probe",
        "1",
        "6",
        "\u{1e}\u{1e}\u{1e}",
        deeply_nested.as_str(),
    ] {
        let path = open_polling(&system).await;
        system.request("POST", &path).raw(connect.clone()).send().await;
        // The status doesn't matter, but the server must respond.
        system.request("POST", &path).raw(packets.to_owned()).send().await;
    }
    alice.assert_no_unread_frames("alice's socket must stay connected").await;
}

/// Opens a polling connection without the official client. Returns the path of its requests.
async fn open_polling(system: &System) -> String {
    let path = "/socket.io/?EIO=4&transport=polling";
    let opened = system.request("GET", path).send().await;
    let opened: Value = serde_json::from_str(opened.body.as_str().unwrap().strip_prefix('0').unwrap()).unwrap();
    format!("{path}&sid={}", opened["sid"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_over_64_kib_ends_its_connection_and_the_client_reconnects() {
    let system = System::start().await;
    for transport in ["websocket", "polling"] {
        let options = json!({"url": system.url, "token": system.token(transport), "transports": [transport]});
        let mut client = Client::open(options).await;
        client.frame("connection:ready").await;

        client.emit("message:send", json!({"content": "x".repeat(63 << 10)})).await;
        client.frame("message:redirect_to_api").await;

        client.emit("message:send", json!({"content": "x".repeat(65 << 10)})).await;
        client.wait_for("disconnect").await;
        client.frame("connection:ready").await;
        client.assert_no_unread_frames(transport).await;
    }
}
