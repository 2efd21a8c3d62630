//! Several realtime nodes: people on different ones are as close as on the same, also when one dies without a word.

use std::time::{Duration, Instant};

use cache::Cache;
use domain::{Timestamp, UserId};
use serde_json::json;
use uuid::Uuid;

use crate::following::node;
use crate::harness::process::ServiceProcess;
use crate::harness::sockets::SLACK;
use crate::harness::system::config;
use crate::harness::{Client, System};

/// How soon after the end of a user's last socket the others know.
const OFFLINE_WITHIN: Duration = Duration::from_secs(15);

async fn connect(system: &System, node: &ServiceProcess, user: &str) -> Client {
    let mut client = Client::open(json!({"url": node.url, "token": system.token(user)})).await;
    client.frame("connection:ready").await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_begins_is_joined_on_every_node() {
    let system = System::start().await;
    let (one, two) = tokio::join!(node(&system), node(&system));
    let (mut alice, mut bob) = tokio::join!(connect(&system, &one, "alice"), connect(&system, &two, "bob"));
    for number in 0..5 {
        let title = format!("talk {number}");
        let body = json!({"action": "conversation", "participantIds": ["alice", "bob"], "title": title});
        let conversation = system.post("carol", body).await.id();
        let message = system.message("carol", &conversation, "the first").await;
        for client in [&mut alice, &mut bob] {
            assert_eq!(client.frame("conversation:created").await.data["id"], conversation.as_str());
            let frame = client.frame("message:new").await;
            assert_eq!(frame.data["id"], message.as_str());
        }
    }
    for mut client in [alice, bob] {
        let left = client.unread_frames().await;
        assert!(left.iter().all(|name| name == "presence:update"), "nothing comes twice: {left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_told_across_nodes_also_for_one_that_died() {
    let system = System::start().await;
    system.conversation("alice", &["bob", "carol"]).await;
    let (mut one, two) = tokio::join!(node(&system), node(&system));
    let mut bob = connect(&system, &two, "bob").await;
    let _alice = connect(&system, &one, "alice").await;
    let _carol = connect(&system, &one, "carol").await;
    for who in ["alice", "carol"] {
        let update = bob.frame("presence:update").await;
        assert_eq!((&update.data["userId"], &update.data["status"]), (&json!(who), &json!("online")));
    }
    one.child.kill().await.unwrap();
    let died = Instant::now();
    // Carol finds the other node; alice doesn't come back.
    let _carol = connect(&system, &two, "carol").await;
    let update = bob.frame("presence:update").await;
    assert_eq!((&update.data["userId"], &update.data["status"]), (&json!("alice"), &json!("offline")), "{update:?}");
    assert!(died.elapsed() < OFFLINE_WITHIN + SLACK, "{:?}", died.elapsed());
    assert!(update.data["lastSeenAt"].is_string());
    let found = bob.emit_with_ack("presence:get", json!({"userIds": ["alice", "carol", "bob"]})).await;
    let statuses: Vec<_> = found.as_array().unwrap().iter().map(|one| one["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["offline", "online", "online"]);
    assert_eq!(bob.unread_frames().await, Vec::<String>::new(), "carol was never away");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_one_begins_to_talk_with_is_known_although_the_projector_is_late() {
    let system = System::start().await;
    let (one, two) = tokio::join!(node(&system), node(&system));
    let (mut alice, _bob) = tokio::join!(connect(&system, &one, "alice"), connect(&system, &two, "bob"));
    let ask = json!({"userIds": ["bob"]});
    assert_eq!(alice.emit_with_ack("presence:get", ask.clone()).await, json!([]), "nobody knows strangers");
    let hold = system.pause_projection().await;
    let body = json!({"action": "conversation", "participantIds": ["bob"]});
    assert_eq!(system.post("alice", body).await.status, 201);
    alice.frame("conversation:created").await;
    let (answer, ()) = tokio::join!(alice.emit_with_ack("presence:get", ask), async {
        // Long after who doesn't wait has answered.
        tokio::time::sleep(Duration::from_millis(300)).await;
        hold.rollback().await.unwrap();
    });
    assert_eq!(answer[0]["status"], "online", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_stops_by_itself_when_the_process_that_took_the_start_dies() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let (mut commands, node) = tokio::join!(ServiceProcess::start(&system.config, &["command-api"]), node(&system));
    let mut bob = connect(&system, &node, "bob").await;
    let beside = System::attach(system.config.clone(), &commands.url);
    let body = json!({"action": "typing_start", "conversationId": conversation});
    assert_eq!(beside.post("alice", body).await.status, 202);
    assert_eq!(bob.frame("typing:start").await.data, json!({"userId": "alice", "conversationId": conversation}));
    let begun = Instant::now();
    commands.child.kill().await.unwrap();
    assert_eq!(bob.frame("typing:stop").await.data, json!({"userId": "alice", "conversationId": conversation}));
    assert!(begun.elapsed() < Duration::from_secs(5) + SLACK, "{:?}", begun.elapsed());
}

/// Two nodes notice at nearly the same time that a user's last sockets have gone; either may be the one to tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_was_last_seen_when_the_last_socket_ended_whichever_node_tells_it_last() {
    let config = config();
    let cache = Cache::connect(&config.redis_url, &config.redis_prefix).unwrap();
    let user: UserId = "alice".parse().unwrap();
    let at = |second: i64| Timestamp::from_millis(second * 1_000).unwrap();
    let nodes = [Uuid::new_v4(), Uuid::new_v4()];
    for (first, second) in [(0, 1), (1, 0)] {
        for node in nodes {
            cache.presence_heartbeat(node, at(100)).await.unwrap();
            cache.mark_online(std::slice::from_ref(&user), node, at(1)).await.unwrap();
        }
        let left = [at(10), at(20)];
        assert_eq!(cache.mark_offline(&user, nodes[first], left[first]).await.unwrap(), None);
        assert_eq!(cache.mark_offline(&user, nodes[second], left[second]).await.unwrap(), Some(at(20)));
        let found = cache.presence_of(std::slice::from_ref(&user), at(30)).await.unwrap();
        assert_eq!((found[0].online, found[0].last_seen), (false, Some(at(20))));
    }
}
