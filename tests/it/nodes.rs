//! Several realtime nodes of one system: users on different nodes see each other as if they were on the same one, even
//! after a node died without a word.
//!
//! The last tests drive `cache` alone: they take times and clocks that no client can arrange.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cache::keys::NODE_TTL;
use cache::{Cache, NodeCounts};
use domain::UserId;
use futures_util::future::join_all;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde_json::json;
use uuid::Uuid;

use crate::client_sync::start_realtime_node;
use crate::harness::process::ServiceProcess;
use crate::harness::proxy::{Observer, Proxy};
use crate::harness::raw_socket::RawSocket;
use crate::harness::sockets::{Frame, SLACK};
use crate::harness::system::config;
use crate::harness::{Client, System, eventually};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_node_stays_alive_although_redis_never_answers_what_it_publishes() {
    /// So many that a publication for each, one after the other, would outlast the node's life several times.
    const USERS: usize = 60;
    let system = System::start().await;
    // After a publication, its connection answers nothing: each takes as long as the node waits for Redis.
    let network = Proxy::holding_after("PUBLISH", &system.config.redis_url).await;
    let mut config = system.config.clone();
    config.redis_url.clone_from(&network.url);
    let others = expiries(&system).await;
    let node = ServiceProcess::start(&config, &["realtime", "--query-api-url", &system.url]).await;
    let users: Vec<String> = (0..USERS).map(|number| format!("arrives{number}")).collect();
    let _sockets = join_all(users.iter().map(|user| RawSocket::connect(&system, &node.url, user))).await;
    eventually("the connection is held", async || network.is_holding().then_some(())).await;

    let mut started = expiries(&system).await;
    started.retain(|id, _| !others.contains_key(id));
    let (id, until) = started.into_iter().next().unwrap();
    // More than the heartbeats from before the hold can explain.
    let until_later = until + 2.0 * NODE_TTL.as_secs_f64() * 1_000.0;
    eventually("later heartbeats extend the node's life", async || {
        let now_until = *expiries(&system).await.get(&id).expect("the others have expired the node");
        (now_until > until_later).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_presence_of_a_hundred_people_costs_one_query_whoever_they_are() {
    let system = System::start().await;
    system.conversation("alice", &["bob"]).await;
    system.conversation("stranger7", &["stranger8"]).await;
    system.wait_until_caught_up().await;
    let queries = Arc::new(AtomicUsize::new(0));
    let counted = queries.clone();
    let count = move || -> Observer {
        let counted = counted.clone();
        Box::new(move |bytes| {
            let requests = String::from_utf8_lossy(bytes).matches("GET /internal/").count();
            counted.fetch_add(requests, Ordering::SeqCst);
        })
    };
    let query_api = Proxy::observed(0, &system.url, count).await;
    let node = ServiceProcess::start(&system.config, &["realtime", "--query-api-url", &query_api.url]).await;
    let mut alice = connect(&system, &node, "alice").await;
    let looked_up = async || node.metric("redis_requests_total", "operation=\"view\"").await;
    let (before, looked_up_before) = (queries.load(Ordering::SeqCst), looked_up().await);

    let strangers = (0..99).map(|number| format!("stranger{number}"));
    let people: Vec<String> = strangers.chain(["bob".to_owned()]).collect();
    let presence = alice.emit_with_ack("presence:get", json!({"userIds": people})).await;

    assert_eq!(presence, json!([{"userId": "bob", "status": "offline", "lastSeenAt": null}]));
    assert_eq!(queries.load(Ordering::SeqCst) - before, 1);
    assert_eq!(looked_up().await - looked_up_before, 0.0, "look-ups of single users");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_who_arrive_at_once_are_published_together() {
    const USERS: usize = 100;
    let system = System::unlimited().await;
    let node = start_realtime_node(&system).await;
    let mut observer = connect(&system, &node, "observer").await;
    let users: Vec<String> = (0..USERS).map(|number| format!("arrives{number}")).collect();
    for user in &users {
        system.conversation("observer", &[user]).await;
    }
    let published = async || node.metric("redis_requests_total", "operation=\"publish_presence\"").await;
    let before = published().await;

    let _sockets = join_all(users.iter().map(|user| RawSocket::connect(&system, &node.url, user))).await;

    for _ in &users {
        assert_eq!(observer.frame("presence:update").await.data["status"], "online");
    }
    let publications = published().await - before;
    assert!(publications < USERS as f64 / 2.0, "{publications} publications");
}

/// When each realtime node of the system expires, in Unix milliseconds by Redis' clock.
async fn expiries(system: &System) -> HashMap<String, f64> {
    let nodes = format!("{}:nodes", system.config.redis_prefix);
    system.redis().await.zrange_withscores(nodes, 0, -1).await.unwrap()
}

/// A cache with a prefix of its own, and a plain connection to its Redis.
async fn cache_alone() -> (Cache, String, MultiplexedConnection) {
    let config = config();
    let cache = Cache::connect(&config.redis_url, &config.redis_prefix).unwrap();
    let redis = redis::Client::open(config.redis_url).unwrap();
    (cache, config.redis_prefix, redis.get_multiplexed_async_connection().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_clock_of_redis_decides_which_node_has_expired() {
    let (cache, prefix, mut redis) = cache_alone().await;
    let user: UserId = "alice".parse().unwrap();
    let [living, dead] = [Uuid::new_v4(), Uuid::new_v4()];
    for node in [living, dead] {
        cache.presence_heartbeat(node, NODE_TTL, NodeCounts::default()).await.unwrap();
        cache.mark_online(std::slice::from_ref(&user), node).await.unwrap();
    }
    assert_eq!(cache.expired_nodes().await.unwrap(), []);

    // The last heartbeat of one node was an hour ago.
    let hour = Duration::from_secs(3_600);
    let now = cache.time_ms().await.unwrap();
    let long_ago = now - i64::try_from(hour.as_millis()).unwrap();
    redis.zadd::<_, _, _, ()>(format!("{prefix}:nodes"), dead.to_string(), long_ago).await.unwrap();

    let expired = cache.expired_nodes().await.unwrap();
    assert_eq!(expired.iter().map(|(node, _)| *node).collect::<Vec<_>>(), [dead]);
    assert!(expired[0].1 >= hour);
    let offline = async |node| cache.mark_offline(&[(user.clone(), hour)], node).await.unwrap()[0];
    assert_eq!(offline(dead).await, None, "the user is online on the living node");
    assert!(cache.presence_of(std::slice::from_ref(&user)).await.unwrap()[0].online);
    assert!(offline(living).await.is_some());
}

/// Two nodes notice at nearly the same time that a user's last sockets closed; either may be the one to publish it.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_was_last_seen_when_the_last_socket_closed_whichever_node_reports_last() {
    let (cache, prefix, mut redis) = cache_alone().await;
    let user: UserId = "alice".parse().unwrap();
    let first_to_close = Uuid::new_v4();
    let last_to_close = Uuid::new_v4();
    let last_closed_ago = Duration::from_secs(10);
    let closed_ago = |node: Uuid| if node == first_to_close { 2 * last_closed_ago } else { last_closed_ago };
    for reports in [[first_to_close, last_to_close], [last_to_close, first_to_close]] {
        for node in [first_to_close, last_to_close] {
            cache.presence_heartbeat(node, NODE_TTL, NodeCounts::default()).await.unwrap();
            cache.mark_online(std::slice::from_ref(&user), node).await.unwrap();
        }
        // The user came long before.
        redis.del::<_, ()>(format!("{prefix}:last-seen:{user}")).await.unwrap();
        let before = cache.time_ms().await.unwrap();
        let mut reported = Vec::new();
        for node in reports {
            reported.extend(cache.mark_offline(&[(user.clone(), closed_ago(node))], node).await.unwrap());
        }
        let after = cache.time_ms().await.unwrap();

        let ago = i64::try_from(last_closed_ago.as_millis()).unwrap();
        let [None, Some(last_seen)] = reported[..] else { panic!("{reported:?}") };
        assert!((before - ago..=after - ago).contains(&last_seen.as_millis()), "{last_seen}");
        let found = cache.presence_of(std::slice::from_ref(&user)).await.unwrap();
        assert_eq!((found[0].online, found[0].last_seen), (false, Some(last_seen)));
    }
}
