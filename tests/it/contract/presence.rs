//! Presence: who is online, and which users learn it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::sockets::SLACK;
use crate::harness::{Client, System};

/// A user is reported as offline at most this long after their last socket has ended.
const OFFLINE_AFTER: Duration = Duration::from_secs(15);

/// Waits until the client receives that a user is online or offline. Returns the payload.
async fn receive_presence(client: &mut Client, user: &str, status: &str) -> Value {
    let update = client.frame("presence:update").await;
    assert_eq!(update.meta, Value::Null, "presence is in no chain");
    assert_eq!((&update.data["userId"], &update.data["status"]), (&json!(user), &json!(status)));
    update.data
}

/// Queries the presence of users.
async fn get_presence(client: &mut Client, users: &[&str]) -> Value {
    client.emit_with_ack("presence:get", json!({"userIds": users})).await
}

fn now() -> String {
    domain::Timestamp::from_date_time(time::OffsetDateTime::now_utc()).unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_online_from_their_first_socket_until_after_their_last() {
    let system = System::start().await;
    system.conversation("alice", &["bob"]).await;
    let mut alice = Client::connect(&system, "alice").await;
    let mut stranger = Client::connect(&system, "stranger").await;

    let options = json!({"url": system.url, "token": system.token("bob"), "sockets": 2});
    let mut bob = Client::open(options).await;
    let connected_at = now();
    receive_presence(&mut alice, "bob", "online").await;
    for _ in 0..2 {
        bob.frame("connection:ready").await;
    }

    // bob loses both sockets and connects again at once, as when he reloads a page.
    bob.disconnect_socket(0).await;
    bob.disconnect_socket(1).await;
    bob.connect_socket(1).await;
    bob.frame("connection:ready").await;
    let present = get_presence(&mut alice, &["bob"]).await;
    assert_eq!(present[0]["status"], "online");
    assert!(present[0]["lastSeenAt"].as_str().unwrap() > connected_at.as_str(), "{present}");

    let (left, left_at) = (Instant::now(), now());
    bob.disconnect_socket(1).await;
    let offline = receive_presence(&mut alice, "bob", "offline").await;
    assert!(left.elapsed() < OFFLINE_AFTER);
    let last_seen_at = offline["lastSeenAt"].as_str().unwrap();
    assert!(last_seen_at >= left_at.as_str() && last_seen_at <= now().as_str(), "{offline}, left at {left_at}");
    let absent = get_presence(&mut alice, &["bob"]).await;
    assert_eq!(absent, json!([{"userId": "bob", "status": "offline", "lastSeenAt": last_seen_at}]));
    alice.assert_no_unread_frames("the short absence must not be reported").await;
    stranger.assert_no_unread_frames("the stranger shares no conversation with bob").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_dies_silently_is_reported_within_fifteen_seconds() {
    let system = System::start().await;
    system.conversation("alice", &["bob", "carol"]).await;
    let mut alice = Client::connect(&system, "alice").await;
    let mut bob = Client::connect(&system, "bob").await;
    receive_presence(&mut alice, "bob", "online").await;
    let options = json!({"url": system.url, "token": system.token("carol"), "transports": ["polling"]});
    let mut carol = Client::open(options).await;
    receive_presence(&mut alice, "carol", "online").await;

    bob.freeze().await;
    carol.freeze().await;
    let frozen = Instant::now();
    let mut updates = [alice.frame("presence:update").await, alice.frame("presence:update").await];
    let elapsed = frozen.elapsed();

    updates.sort_by_key(|update| update.data["userId"].to_string());
    for (update, user) in updates.iter().zip(["bob", "carol"]) {
        assert_eq!((&update.data["userId"], &update.data["status"]), (&json!(user), &json!("offline")));
    }
    assert!(elapsed < OFFLINE_AFTER + SLACK, "the reports took {elapsed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_learns_the_presence_only_of_users_who_share_a_conversation() {
    let system = System::start().await;
    system.conversation("alice", &["bob"]).await;
    system.conversation("alice", &["never-here"]).await;
    system.conversation("dave", &["erin"]).await;
    let _bob = Client::connect(&system, "bob").await;
    let _erin = Client::connect(&system, "erin").await;
    let mut alice = Client::connect(&system, "alice").await;

    let users = ["erin", "bob", "dave", "nobody-at-all", "never-here", "alice", "bob"];
    let known = get_presence(&mut alice, &users).await;
    let of = |user: &str| known.as_array().unwrap().iter().find(|presence| presence["userId"] == user);
    assert_eq!(known.as_array().unwrap().len(), 3, "only bob, never-here and alice, each once: {known}");
    assert_eq!(of("bob").unwrap()["status"], "online");
    assert_eq!(*of("never-here").unwrap(), json!({"userId": "never-here", "status": "offline", "lastSeenAt": null}));
    assert_eq!(of("alice").unwrap()["status"], "online");
    assert_eq!(get_presence(&mut alice, &[]).await, json!([]));

    system.conversation("alice", &["erin"]).await;
    alice.frame("conversation:created").await;
    let known = get_presence(&mut alice, &["erin"]).await;
    assert_eq!(known[0]["status"], "online", "alice must learn erin's presence as soon as they share a conversation");
}
