//! A single process without a proxy in front of it, and without Redis: it refuses malformed requests itself, and keeps
//! limits and presence by itself until Redis is back.

use std::time::{Duration, Instant};

use domain::Timestamp;
use messages::process::Roles;
use serde_json::{Value, json};

use crate::harness::process::free_port;
use crate::harness::proxy::Proxy;
use crate::harness::sockets::SLACK;
use crate::harness::system::config;
use crate::harness::{Client, System, eventually, unknown_id};

/// Within this time after their last socket closed, a user is published as offline.
const OFFLINE: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn a_process_refuses_by_itself_what_a_proxy_would_refuse() {
    let system = System::with_roles(config(), Roles::ALL).await;
    assert_refuses_two_authorization_headers(&system).await;
    assert_refuses_a_nul_byte_in_an_id(&system).await;
    // Only realtime may ask for memberships, with the service token.
    let internal = system.get("alice", "/internal/memberships?userId=alice").await;
    internal.assert_problem(401, "invalid_token");
    assert!(system.records().await.is_empty(), "a refused command was appended");
}

async fn assert_refuses_two_authorization_headers(system: &System) {
    let body = json!({"content": "hi"});
    let message = format!("/api/messages/{}", unknown_id());
    for (method, path) in [("POST", "/api/messages"), ("PATCH", &message), ("DELETE", &message), ("GET", &message)] {
        let request = system.ask("alice", method, path).header("Authorization", "Bearer x").json(&body);
        request.send().await.assert_problem(401, "invalid_token");
    }
}

async fn assert_refuses_a_nul_byte_in_an_id(system: &System) {
    let body = json!({"content": "hi"});
    for method in ["GET", "PATCH", "DELETE"] {
        let refused = system.ask("alice", method, "/api/messages/%00").json(&body).send().await;
        refused.assert_problem(400, "invalid_id");
        assert_eq!(refused.field_errors(), [("messageId", "invalid_id")], "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_commands_queries_and_limits_still_work() {
    let mut config = config();
    config.redis_url = format!("redis://127.0.0.1:{}", free_port());
    config.limits.limit_messages = 5;
    config.limits.limit_edits = 100;
    let system = System::with_roles(config, Roles::ALL).await;
    system.wait_until_projecting().await;
    let started = Instant::now();
    let conversation = system.conversation("alice", &["bob"]).await;
    let message = system.message("alice", &conversation, "0").await;

    assert_a_retry_is_answered_by_the_fold(&system, &conversation).await;
    assert_an_edit_is_read(&system, &message).await;
    let typing = json!({"action": "typing_start", "conversationId": conversation});
    assert_eq!(system.post("bob", typing).await.status, 202);
    assert_a_stranger_finds_nothing(&system, &conversation, &message).await;
    assert_the_process_counts_bobs_five_messages(&system, &conversation).await;

    // Slower than with Redis, but each request waits for Redis less than a second, if at all.
    let took = started.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
}

async fn assert_a_retry_is_answered_by_the_fold(system: &System, conversation: &str) {
    let send = || system.post_with_key("alice", "k", json!({"conversationId": conversation, "content": "once"}));
    let sent = send().await;
    assert_eq!(sent.status, 201, "{sent:?}");
    let list = system.get_after(&sent, "bob", "/api/messages").await;
    assert_eq!((list.header("x-cache"), &list.data()[0]["lastMessage"]["content"]), ("miss", &json!("once")));
    let retried = send().await;
    assert_eq!((retried.status, retried.header("idempotent-replayed")), (200, "true"), "{retried:?}");
    assert_eq!(retried.data(), sent.data());
}

async fn assert_an_edit_is_read(system: &System, message: &str) {
    let edited = system.edit("alice", message, "edited").await;
    let read = system.get_after(&edited, "bob", &format!("/api/messages/{message}")).await;
    assert_eq!((read.header("x-cache"), &read.data()["content"]), ("miss", &json!("edited")));
}

async fn assert_a_stranger_finds_nothing(system: &System, conversation: &str, message: &str) {
    system.get("mallory", &format!("/api/messages/{message}")).await.assert_problem(404, "not_found");
    let sent = system.post("mallory", json!({"conversationId": conversation, "content": "hi"})).await;
    sent.assert_problem(404, "not_found");
}

async fn assert_the_process_counts_bobs_five_messages(system: &System, conversation: &str) {
    let body = json!({"conversationId": conversation, "content": "hi"});
    for left in (0..5).rev() {
        assert_eq!(system.post("bob", body.clone()).await.header("ratelimit-remaining"), left.to_string());
    }
    system.post("bob", body).await.assert_problem(429, "rate_limited");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_keeps_the_limits_by_itself_until_redis_is_back() {
    let port = free_port();
    let mut config = config();
    let redis_url = std::mem::replace(&mut config.redis_url, format!("redis://127.0.0.1:{port}"));
    config.limits.limit_messages = 3;
    let system = System::with_roles(config, Roles::ALL).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let body = json!({"conversationId": conversation, "content": "hi"});

    for left in [2, 1, 0] {
        let began = Instant::now();
        let sent = system.post("alice", body.clone()).await;
        assert_eq!(sent.status, 201, "{sent:?}");
        sent.assert_rate_limit(3, left);
        assert!(began.elapsed() < Duration::from_secs(3), "the command waits for Redis: {:?}", began.elapsed());
    }
    let refused = system.post("alice", body.clone()).await;
    refused.assert_problem(429, "rate_limited");
    refused.assert_rate_limit(3, 0);
    assert_eq!(system.records_of(&conversation).await.len(), 1 + 3);

    // From now on the process reaches Redis, in which nothing was counted.
    let _redis = Proxy::at(port, &redis_url).await;
    eventually("the limits are kept in Redis again", async || {
        let sent = system.post("alice", body.clone()).await;
        (sent.status == 201).then(|| sent.assert_rate_limit(3, 2))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_left_during_a_redis_outage_is_offline_after_it() {
    let mut config = config();
    let redis = Proxy::start(&config.redis_url).await;
    config.redis_url = redis.url.clone();
    let system = System::with_roles(config, Roles::ALL).await;
    system.conversation("alice", &["bob", "carol"]).await;
    let mut alice = Client::connect(&system, "alice").await;
    let mut bob = Client::connect(&system, "bob").await;
    next_presence(&mut alice, "bob", "online").await;

    redis.down();
    bob.instruct(json!({"do": "disconnect"})).await;
    let bob_offline = next_presence(&mut alice, "bob", "offline").await;
    // Carol comes as bob goes: the number of users online doesn't show that anything changed.
    let _carol = Client::connect(&system, "carol").await;
    next_presence(&mut alice, "carol", "online").await;
    redis.restore();

    let deadline = Instant::now() + OFFLINE + SLACK;
    let known = loop {
        let known = alice.emit_with_ack("presence:get", json!({"userIds": ["bob"]})).await;
        if known[0]["status"] == "offline" {
            break known;
        }
        assert!(Instant::now() < deadline, "Redis still has bob as online");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    // The node's clock says the one time, Redis' the other. He left seconds before Redis was back.
    let [published, stored] = [&bob_offline, &known[0]].map(|presence| {
        let seen = presence["lastSeenAt"].as_str().unwrap();
        seen.parse::<Timestamp>().unwrap().as_millis()
    });
    assert!((published - stored).abs() < 1_000, "{bob_offline} {known}");
}

/// The data of the client's next `presence:update`, which must be of this user and status.
async fn next_presence(client: &mut Client, user: &str, status: &str) -> Value {
    let update = client.frame("presence:update").await;
    assert_eq!((&update.data["userId"], &update.data["status"]), (&json!(user), &json!(status)));
    update.data
}
