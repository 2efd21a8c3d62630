//! Who gets a socket, and what a client may send over it.

use std::time::{Duration, SystemTime};

use domain::Timestamp;
use serde_json::{Value, json};
use service::auth::Auth;

use crate::harness::http::Response;
use crate::harness::{Client, System};

/// What a client may emit; each is answered by where to ask instead.
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
async fn without_a_good_token_a_socket_is_refused_with_a_stable_code() {
    let system = System::start().await;
    let user = "alice".parse().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let at = |ahead: i64| Timestamp::from_millis(i64::try_from(now).unwrap() + ahead).unwrap();
    let expired = system.auth.mint(&user, at(-10_000)).unwrap();
    let forged = Auth::new("another secret, of somebody else").mint(&user, at(60_000)).unwrap();
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
    let other = format!("{}/admin", system.url);
    let mut client = Client::open(json!({"url": other, "token": system.token("alice")})).await;
    assert_eq!(client.wait_for("connect_error").await["message"], "Invalid namespace");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_ends_when_its_token_expires() {
    let system = System::start().await;
    // Long enough to connect on a busy machine.
    let token = system.token_for("alice", Duration::from_secs(12));
    let mut client = Client::open(json!({"url": system.url, "token": token})).await;
    client.frame("connection:ready").await;
    assert_eq!(system.get_with(&token, "/api/messages").await.status, 200);
    assert_eq!(client.wait_for("disconnect").await["reason"], "io server disconnect");
    assert_eq!(system.get_with(&token, "/api/messages").await.status, 401);
    client.instruct(json!({"do": "connect"})).await;
    assert_eq!(client.wait_for("connect_error").await["message"], "expired_token");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_answered_by_a_request_that_does_it() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let mut alice = Client::connect(&system, "alice").await;
    let sent =
        follow(&system, &mut alice, "message:send", json!({"conversationId": conversation, "content": "hi"})).await;
    let message = sent.id();
    for (event, given, status) in [
        ("message:edit", json!({"messageId": message, "content": "ho"}), 200),
        ("reaction:add", json!({"messageId": message, "emoji": "👍"}), 201),
        ("reaction:remove", json!({"messageId": message, "emoji": "👍"}), 200),
        ("typing:start", json!({"conversationId": conversation}), 202),
        ("typing:stop", json!({"conversationId": conversation}), 202),
        ("messages:read", json!({"conversationId": conversation, "messageId": message}), 200),
        ("message:delete", json!({"messageId": message}), 200),
    ] {
        assert_eq!(follow(&system, &mut alice, event, given).await.status, status, "{event}");
    }
}

/// Emits an operation, then makes the request that the client is told to make.
async fn follow(system: &System, client: &mut Client, event: &str, given: Value) -> Response {
    client.emit(event, given).await;
    let redirect = client.frame("message:redirect_to_api").await.data;
    assert_eq!(redirect["event"], event);
    let request = system.ask("alice", redirect["method"].as_str().unwrap(), redirect["path"].as_str().unwrap());
    if redirect["body"].is_null() { request.send().await } else { request.json(&redirect["body"]).send().await }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_over_a_socket_hurts_nobody() {
    let system = System::start().await;
    let mut alice = Client::connect(&system, "alice").await;
    let garbage = [
        json!(null),
        json!(7),
        json!("text\u{0}"),
        json!([[], {}]),
        json!({"messageId": {"a": 1}, "conversationId": [], "userIds": {}}),
        json!({"messageId": "../../admin", "userIds": [1]}),
        json!({"id": "%2e%2e", "userIds": ["a b"]}),
        json!({"__proto__": {"x": 1}, "action": "conversation"}),
    ];
    for payload in &garbage {
        for event in OPERATIONS.iter().chain(&["presence:get", "message:new", "error", "no such event"]) {
            alice.instruct(json!({"do": "emit", "name": event, "args": [payload, payload]})).await;
        }
        let answer = alice.emit_with_ack("presence:get", payload.clone()).await;
        assert_eq!(answer["error"]["code"], "invalid_user_ids", "{payload}");
    }
    let redirects = alice.unread_frames().await;
    assert_eq!(redirects, vec!["message:redirect_to_api"; OPERATIONS.len() * garbage.len()]);
    assert_eq!(system.records().await, [], "nothing came of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_packet_ends_its_own_socket_only() {
    let system = System::start().await;
    let mut alice = Client::connect(&system, "alice").await;
    let deep = format!("42[\"message:send\",{}{}]", "[".repeat(20_000), "]".repeat(20_000));
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
        deep.as_str(),
    ] {
        let path = polling(&system).await;
        system.request("POST", &path).raw(connect.clone()).send().await;
        // Whatever is answered, somebody answers.
        system.request("POST", &path).raw(packets.to_owned()).send().await;
    }
    assert_eq!(alice.unread_frames().await, [""; 0], "alice is still there");
}

/// Opens a polling connection without the official client; the path of its requests.
async fn polling(system: &System) -> String {
    let path = "/socket.io/?EIO=4&transport=polling";
    let opened = system.request("GET", path).send().await;
    let opened: Value = serde_json::from_str(opened.body.as_str().unwrap().strip_prefix('0').unwrap()).unwrap();
    format!("{path}&sid={}", opened["sid"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_64_kib_is_not_taken() {
    let system = System::start().await;
    for transport in ["websocket", "polling"] {
        let order = json!({"url": system.url, "token": system.token(transport), "transports": [transport]});
        let mut client = Client::open(order).await;
        client.frame("connection:ready").await;
        client.emit("message:send", json!({"content": "x".repeat(63 << 10)})).await;
        client.frame("message:redirect_to_api").await;
        client.emit("message:send", json!({"content": "x".repeat(65 << 10)})).await;
        client.wait_for("disconnect").await;
        client.frame("connection:ready").await;
        assert_eq!(client.unread_frames().await, [""; 0], "{transport}");
    }
}
