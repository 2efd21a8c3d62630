//! Presence: who is here, told to those who may know.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::sockets::SLACK;
use crate::harness::{Client, System};

/// Within this time of their last socket's end a user is told to be offline.
const OFFLINE: Duration = Duration::from_secs(15);

/// Waits until the client hears that a user is online or offline.
async fn told(client: &mut Client, user: &str, status: &str) -> Value {
    let update = client.frame("presence:update").await;
    assert_eq!(update.meta, Value::Null, "presence is in no chain");
    assert_eq!((&update.data["userId"], &update.data["status"]), (&json!(user), &json!(status)));
    update.data
}

fn now() -> String {
    domain::Timestamp::from_date_time(time::OffsetDateTime::now_utc()).unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_online_from_the_first_socket_until_after_the_last() {
    let system = System::start().await;
    system.conversation("alice", &["bob"]).await;
    let mut alice = Client::connect(&system, "alice").await;
    let mut stranger = Client::connect(&system, "stranger").await;
    let order = json!({"url": system.url, "token": system.token("bob"), "sockets": 2});
    let mut bob = Client::open(order).await;
    let before = now();
    told(&mut alice, "bob", "online").await;
    for _ in 0..2 {
        bob.frame("connection:ready").await;
    }
    bob.instruct(json!({"do": "disconnect", "socket": 0})).await;
    bob.wait_for("disconnect").await;
    // Gone and back at once, as when a page is loaded again.
    bob.instruct(json!({"do": "disconnect", "socket": 1})).await;
    bob.wait_for("disconnect").await;
    bob.instruct(json!({"do": "connect", "socket": 1})).await;
    bob.frame("connection:ready").await;
    let asked = alice.emit_with_ack("presence:get", json!({"userIds": ["bob"]})).await;
    assert_eq!(asked[0]["status"], "online");
    assert!(asked[0]["lastSeenAt"].as_str().unwrap() > before.as_str(), "{asked}");

    let left = Instant::now();
    let left_at = now();
    bob.instruct(json!({"do": "disconnect", "socket": 1})).await;
    let offline = told(&mut alice, "bob", "offline").await;
    assert!(left.elapsed() < OFFLINE);
    let seen = offline["lastSeenAt"].as_str().unwrap();
    assert!(seen >= left_at.as_str() && seen <= now().as_str(), "{offline}, left at {left_at}");
    let asked = alice.emit_with_ack("presence:get", json!({"userIds": ["bob"]})).await;
    assert_eq!(asked, json!([{"userId": "bob", "status": "offline", "lastSeenAt": seen}]));
    assert_eq!(alice.unread_frames().await, [""; 0], "no word of what lay between");
    assert_eq!(stranger.unread_frames().await, [""; 0], "who shares no conversation is told nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_dies_silently_is_told_within_fifteen_seconds() {
    let system = System::start().await;
    system.conversation("alice", &["bob", "carol"]).await;
    let mut alice = Client::connect(&system, "alice").await;
    let mut bob = Client::connect(&system, "bob").await;
    told(&mut alice, "bob", "online").await;
    let order = json!({"url": system.url, "token": system.token("carol"), "transports": ["polling"]});
    let mut carol = Client::open(order).await;
    told(&mut alice, "carol", "online").await;
    bob.freeze().await;
    carol.freeze().await;
    let frozen = Instant::now();
    let mut gone = [alice.frame("presence:update").await, alice.frame("presence:update").await];
    let took = frozen.elapsed();
    gone.sort_by_key(|update| update.data["userId"].to_string());
    for (update, user) in gone.iter().zip(["bob", "carol"]) {
        assert_eq!((&update.data["userId"], &update.data["status"]), (&json!(user), &json!("offline")));
    }
    assert!(took < OFFLINE + SLACK, "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_only_known_of_people_one_talks_with() {
    let system = System::start().await;
    system.conversation("alice", &["bob"]).await;
    system.conversation("alice", &["never-here"]).await;
    system.conversation("dave", &["erin"]).await;
    let _bob = Client::connect(&system, "bob").await;
    let _erin = Client::connect(&system, "erin").await;
    let mut alice = Client::connect(&system, "alice").await;
    let all = json!({"userIds": ["erin", "bob", "dave", "nobody-at-all", "never-here", "alice", "bob"]});
    let answer = alice.emit_with_ack("presence:get", all).await;
    let of = |user: &str| answer.as_array().unwrap().iter().find(|one| one["userId"] == user);
    assert_eq!(answer.as_array().unwrap().len(), 3, "each once, and only acquaintances: {answer}");
    assert_eq!(of("bob").unwrap()["status"], "online");
    assert_eq!(*of("never-here").unwrap(), json!({"userId": "never-here", "status": "offline", "lastSeenAt": null}));
    assert_eq!(of("alice").unwrap()["status"], "online");
    assert_eq!(alice.emit_with_ack("presence:get", json!({"userIds": []})).await, json!([]));

    system.conversation("alice", &["erin"]).await;
    alice.frame("conversation:created").await;
    let answer = alice.emit_with_ack("presence:get", json!({"userIds": ["erin"]})).await;
    assert_eq!(answer[0]["status"], "online", "whoever one begins to talk with is known at once");
}
