//! What a process does that stands alone: nothing before it refuses what is no good, and without Redis nobody shares what it
//! counts and tells.

use std::time::{Duration, Instant};

use messages::process::Roles;
use serde_json::{Value, json};

use crate::harness::process::free_port;
use crate::harness::proxy::Proxy;
use crate::harness::sockets::SLACK;
use crate::harness::system::config;
use crate::harness::{Client, System, eventually, unknown_id};

/// Within this time of their last socket's end a user is told to be offline.
const OFFLINE: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_would_refuse_before_it_a_process_refuses_by_name() {
    let system = System::with_roles(config(), Roles::ALL).await;
    let body = json!({"content": "hi"});
    let one = format!("/api/messages/{}", unknown_id());
    for (method, path) in [("POST", "/api/messages"), ("PATCH", &one), ("DELETE", &one), ("GET", &one)] {
        let twice = system.ask("alice", method, path).header("Authorization", "Bearer x").json(&body);
        twice.send().await.assert_problem(401, "invalid_token");
    }
    for method in ["GET", "PATCH", "DELETE"] {
        let refused = system.ask("alice", method, "/api/messages/%00").json(&body).send().await;
        refused.assert_problem(400, "invalid_id");
        assert_eq!(refused.field_errors(), [("messageId", "invalid_id")], "{method}");
    }
    // What services ask one another is not for users.
    let internal = system.get("alice", "/internal/memberships?userId=alice").await;
    internal.assert_problem(401, "invalid_token");
    assert!(system.records().await.is_empty());
}

/// Waits until the client hears that a user is online or offline.
async fn told(client: &mut Client, user: &str, status: &str) -> Value {
    let update = client.frame("presence:update").await;
    assert_eq!((&update.data["userId"], &update.data["status"]), (&json!(user), &json!(status)));
    update.data
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_everything_goes_on() {
    let mut config = config();
    config.redis_url = format!("redis://127.0.0.1:{}", free_port());
    config.limits.limit_messages = 5;
    config.limits.limit_edits = 100;
    let system = System::with_roles(config, Roles::ALL).await;
    system.wait_until_projecting().await;
    let started = Instant::now();
    let conversation = system.conversation("alice", &["bob"]).await;
    let message = system.message("alice", &conversation, "0").await;
    let retry = || {
        let body = json!({"conversationId": conversation, "content": "once"});
        system.ask("alice", "POST", "/api/messages").key("k").json(&body).send()
    };
    let sent = retry().await;
    assert_eq!(sent.status, 201, "{sent:?}");
    let seen = system.get_after(&sent, "bob", "/api/messages").await;
    assert_eq!((seen.header("x-cache"), &seen.data()[0]["lastMessage"]["content"]), ("miss", &json!("once")));
    // The fold remembers what Redis can't.
    let again = retry().await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, "true"), "{again:?}");
    assert_eq!(again.data(), sent.data());
    let edited = system.edit("alice", &message, "edited").await;
    let path = format!("/api/messages/{message}");
    let seen = system.get_after(&edited, "bob", &path).await;
    assert_eq!((seen.header("x-cache"), &seen.data()["content"]), ("miss", &json!("edited")));
    let typing = json!({"action": "typing_start", "conversationId": conversation});
    assert_eq!(system.post("bob", typing).await.status, 202);
    system.get("mallory", &path).await.assert_problem(404, "not_found");
    system
        .post("mallory", json!({"conversationId": conversation, "content": "hi"}))
        .await
        .assert_problem(404, "not_found");
    // Each process keeps the limits by itself.
    let body = json!({"conversationId": conversation, "content": "hi"});
    for left in (0..5).rev() {
        assert_eq!(system.post("bob", body.clone()).await.header("ratelimit-remaining"), left.to_string());
    }
    let limited = system.post("bob", body).await;
    limited.assert_problem(429, "rate_limited");
    // Slower than with it, but each of these waits for Redis, if at all, for less than a second.
    let took = started.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_process_keeps_the_limits_until_redis_is_back() {
    let port = free_port();
    let mut config = config();
    let redis = std::mem::replace(&mut config.redis_url, format!("redis://127.0.0.1:{port}"));
    config.limits.limit_messages = 3;
    let system = System::with_roles(config, Roles::ALL).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let body = json!({"conversationId": conversation, "content": "hi"});
    for left in [2, 1, 0] {
        let asked = Instant::now();
        let sent = system.post("alice", body.clone()).await;
        assert_eq!(sent.status, 201, "{sent:?}");
        sent.assert_rate_limit(3, left);
        assert!(asked.elapsed() < Duration::from_secs(3), "it waits for Redis: {:?}", asked.elapsed());
    }
    let refused = system.post("alice", body.clone()).await;
    refused.assert_problem(429, "rate_limited");
    refused.assert_rate_limit(3, 0);
    assert_eq!(system.records_of(&conversation).await.len(), 1 + 3);
    // From now on, what connects there reaches Redis, in which nothing was counted.
    let _redis = Proxy::at(port, &redis).await;
    eventually("limits are kept in Redis again", async || {
        let sent = system.post("alice", body.clone()).await;
        (sent.status == 201).then(|| sent.assert_rate_limit(3, 2))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_left_while_redis_was_away_is_offline_when_it_is_back() {
    let mut config = config();
    let redis = Proxy::start(&config.redis_url).await;
    config.redis_url = redis.url.clone();
    let system = System::with_roles(config, Roles::ALL).await;
    system.conversation("alice", &["bob", "carol"]).await;
    let mut alice = Client::connect(&system, "alice").await;
    let mut bob = Client::connect(&system, "bob").await;
    told(&mut alice, "bob", "online").await;
    redis.down();
    bob.instruct(json!({"do": "disconnect"})).await;
    let offline = told(&mut alice, "bob", "offline").await;
    // As many come as go: it doesn't show in how many there are.
    let _carol = Client::connect(&system, "carol").await;
    told(&mut alice, "carol", "online").await;
    redis.restore();
    let expected = json!([
        {"userId": "bob", "status": "offline", "lastSeenAt": offline["lastSeenAt"]},
    ]);
    let deadline = Instant::now() + OFFLINE + SLACK;
    while alice.emit_with_ack("presence:get", json!({"userIds": ["bob"]})).await != expected {
        assert!(Instant::now() < deadline, "Redis still has the word that bob is here");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
