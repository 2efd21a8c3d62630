//! Several realtime nodes of one system: users on different nodes see each other as if they were on the same one, even
//! after a node died without a word.
//!
//! The last test drives `cache` alone: it takes two nodes at nearly the same moment, which no client can arrange.

use std::time::{Duration, Instant};

use cache::Cache;
use domain::{Timestamp, UserId};
use serde_json::json;
use uuid::Uuid;

use crate::client_sync::start_realtime_node;
use crate::harness::process::ServiceProcess;
use crate::harness::sockets::{Frame, SLACK};
use crate::harness::system::config;
use crate::harness::{Client, System};

/// Within this time after a user's last socket closed, the others see the user as offline.
const OFFLINE_WITHIN: Duration = Duration::from_secs(15);
/// After this time without another `typing_start`, a user no longer types.
const TYPING_STOPS_AFTER: Duration = Duration::from_secs(5);

async fn connect(system: &System, node: &ServiceProcess, user: &str) -> Client {
    let mut client = Client::open(json!({"url": node.url, "token": system.token(user)})).await;
    client.frame("connection:ready").await;
    client
}

#[track_caller]
fn assert_presence(update: &Frame, user: &str, status: &str) {
    assert_eq!((&update.data["userId"], &update.data["status"]), (&json!(user), &json!(status)), "{update:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn participants_on_every_node_receive_a_new_conversation_and_its_first_message_once() {
    let system = System::start().await;
    let (node_of_alice, node_of_bob) = tokio::join!(start_realtime_node(&system), start_realtime_node(&system));
    let (mut alice, mut bob) =
        tokio::join!(connect(&system, &node_of_alice, "alice"), connect(&system, &node_of_bob, "bob"));

    for number in 0..5 {
        let title = format!("conversation {number}");
        let body = json!({"action": "conversation", "participantIds": ["alice", "bob"], "title": title});
        let conversation = system.post("carol", body).await.id();
        let message = system.message("carol", &conversation, "the first").await;
        for client in [&mut alice, &mut bob] {
            assert_eq!(client.frame("conversation:created").await.data["id"], conversation.as_str());
            assert_eq!(client.frame("message:new").await.data["id"], message.as_str());
        }
    }

    for mut client in [alice, bob] {
        let left = client.unread_frames().await;
        assert!(left.iter().all(|name| name == "presence:update"), "a frame came twice: {left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_a_dead_node_go_offline_unless_they_reconnect_to_another() {
    let system = System::start().await;
    system.conversation("alice", &["bob", "carol"]).await;
    let (mut dying, surviving) = tokio::join!(start_realtime_node(&system), start_realtime_node(&system));
    let mut bob = connect(&system, &surviving, "bob").await;
    let _alice = connect(&system, &dying, "alice").await;
    let _carol = connect(&system, &dying, "carol").await;
    for user in ["alice", "carol"] {
        assert_presence(&bob.frame("presence:update").await, user, "online");
    }

    dying.child.kill().await.unwrap();
    let died = Instant::now();
    let _carol_again = connect(&system, &surviving, "carol").await;

    let update = bob.frame("presence:update").await;
    assert_presence(&update, "alice", "offline");
    assert!(died.elapsed() < OFFLINE_WITHIN + SLACK, "{:?}", died.elapsed());
    assert!(update.data["lastSeenAt"].is_string());
    let presence = bob.emit_with_ack("presence:get", json!({"userIds": ["alice", "carol", "bob"]})).await;
    let statuses: Vec<_> = presence.as_array().unwrap().iter().map(|user| user["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["offline", "online", "online"]);
    assert_eq!(bob.unread_frames().await, Vec::<String>::new(), "carol was never offline");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_contacts_presence_is_known_although_the_projector_lags() {
    let system = System::start().await;
    let (node_of_alice, node_of_bob) = tokio::join!(start_realtime_node(&system), start_realtime_node(&system));
    let (mut alice, _bob) =
        tokio::join!(connect(&system, &node_of_alice, "alice"), connect(&system, &node_of_bob, "bob"));
    let about_bob = json!({"userIds": ["bob"]});
    let before = alice.emit_with_ack("presence:get", about_bob.clone()).await;
    assert_eq!(before, json!([]), "alice sees the presence of a stranger");

    let hold = system.pause_projection().await;
    let body = json!({"action": "conversation", "participantIds": ["bob"]});
    assert_eq!(system.post("alice", body).await.status, 201);
    alice.frame("conversation:created").await;
    let (after, ()) = tokio::join!(alice.emit_with_ack("presence:get", about_bob), async {
        // Longer than a node takes that answers without waiting for the projector.
        tokio::time::sleep(Duration::from_millis(300)).await;
        hold.rollback().await.unwrap();
    });

    assert_eq!(after[0]["status"], "online", "{after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_stops_by_itself_when_the_command_api_that_took_the_start_dies() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let (mut command_api, node) =
        tokio::join!(ServiceProcess::start(&system.config, &["command-api"]), start_realtime_node(&system));
    let mut bob = connect(&system, &node, "bob").await;
    let commands = System::attach(system.config.clone(), &command_api.url);
    let alice_in_conversation = json!({"userId": "alice", "conversationId": conversation});

    let start = json!({"action": "typing_start", "conversationId": conversation});
    assert_eq!(commands.post("alice", start).await.status, 202);
    assert_eq!(bob.frame("typing:start").await.data, alice_in_conversation);
    let started = Instant::now();
    command_api.child.kill().await.unwrap();

    assert_eq!(bob.frame("typing:stop").await.data, alice_in_conversation);
    assert!(started.elapsed() < TYPING_STOPS_AFTER + SLACK, "{:?}", started.elapsed());
}

/// Two nodes notice at nearly the same time that a user's last sockets closed; either may be the one to publish it.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_was_last_seen_when_the_last_socket_closed_whichever_node_reports_last() {
    let config = config();
    let cache = Cache::connect(&config.redis_url, &config.redis_prefix).unwrap();
    let user: UserId = "alice".parse().unwrap();
    let second = |second: i64| Timestamp::from_millis(second * 1_000).unwrap();
    let first_to_close = Uuid::new_v4();
    let last_to_close = Uuid::new_v4();
    let socket_closed = |node: Uuid| second(if node == first_to_close { 10 } else { 20 });
    for reports in [[first_to_close, last_to_close], [last_to_close, first_to_close]] {
        for node in [first_to_close, last_to_close] {
            cache.presence_heartbeat(node, second(100)).await.unwrap();
            cache.mark_online(std::slice::from_ref(&user), node, second(1)).await.unwrap();
        }
        let [reports_first, reports_last] = reports;
        let still_online = cache.mark_offline(&user, reports_first, socket_closed(reports_first)).await.unwrap();
        assert_eq!(still_online, None);
        let last_seen = cache.mark_offline(&user, reports_last, socket_closed(reports_last)).await.unwrap();
        assert_eq!(last_seen, Some(second(20)));
        let found = cache.presence_of(std::slice::from_ref(&user), second(30)).await.unwrap();
        assert_eq!((found[0].online, found[0].last_seen), (false, Some(second(20))));
    }
}
