//! Clients that follow the documented rule end with what the server has: while connections are cut and stall, while
//! nodes are killed, and after frames were dropped.

use std::sync::Arc;
use std::time::Duration;

use domain::event::{MessageSent, MessageType};
use domain::testing::Rng;
use domain::{Event, EventData, EventId, MessageId, Timestamp};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::harness::log::{self, NewRecord};
use crate::harness::process::ServiceProcess;
use crate::harness::proxy::Proxy;
use crate::harness::replicas::Replicas;
use crate::harness::{Client, System, eventually};

const EMOJI: [&str; 4] = ["👍", "❤️", "🎉", "👎"];

/// A system whose limits nobody reaches.
pub(crate) async fn unlimited() -> System {
    System::with(|config| {
        config.limits.limit_messages = 1_000_000;
        config.limits.limit_reactions = 1_000_000;
        config.limits.limit_edits = 1_000_000;
        config.limits.limit_deletions = 1_000_000;
        config.limits.limit_conversations = 1_000_000;
    })
    .await
}

/// A realtime node in a process of its own.
pub(crate) async fn node(system: &System) -> ServiceProcess {
    ServiceProcess::start(&system.config, &["realtime", "--query-api-url", &system.url]).await
}

fn users(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("user-{number}")).collect()
}

/// People who write, edit, delete and react at random in their conversations.
async fn chatter(system: Arc<System>, seed: u64, users: Vec<String>, conversations: Vec<String>, commands: usize) {
    let mut rng = Rng::new(seed);
    let mut sent: Vec<(String, String)> = Vec::new();
    for number in 0..commands {
        let user = &users[rng.below(users.len())];
        let conversation = &conversations[rng.below(conversations.len())];
        let pick = if sent.is_empty() { None } else { Some(sent[rng.below(sent.len())].clone()) };
        let answer = match (rng.below(10), pick) {
            (7, Some((author, id))) => {
                let body = json!({"content": format!("edited {number}")});
                system.ask(&author, "PATCH", &format!("/api/messages/{id}")).json(&body).send().await
            }
            (8, Some((author, id))) if number % 3 == 0 => {
                system.ask(&author, "DELETE", &format!("/api/messages/{id}")).send().await
            }
            (8 | 9, Some((_, id))) => {
                let emoji = EMOJI[rng.below(EMOJI.len())];
                system.post(user, json!({"action": "reaction", "messageId": id, "emoji": emoji})).await
            }
            _ => {
                let answer = system.post(user, json!({"conversationId": conversation, "content": format!("{number}")}));
                let answer = answer.await;
                sent.push((user.clone(), answer.id()));
                answer
            }
        };
        // 422: somebody deleted it before.
        assert!([200, 201, 422].contains(&answer.status), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_network_and_the_nodes_do_clients_end_with_the_servers_state() {
    let system = Arc::new(unlimited().await);
    let (mut one, two) = tokio::join!(node(&system), node(&system));
    let (near, far) = (Proxy::start(&one.url).await, Proxy::start(&two.url).await);
    let users = users(8);
    let mut replicas = Replicas::start(&system, &[&near.url, &far.url], &users).await;
    let everyone: Vec<&str> = users.iter().map(String::as_str).collect();
    let conversations = [
        system.conversation("user-0", &everyone).await,
        system.conversation("user-1", &["user-2"]).await,
        system.conversation("user-3", &["user-0", "user-1", "user-2", "user-4"]).await,
    ];
    // Everyone is in the first; what others refuse would be a 404.
    let all_in = conversations[..1].to_vec();
    let talk = tokio::spawn(chatter(system.clone(), 1, users.clone(), all_in, 600));
    let pair = vec!["user-1".to_owned(), "user-2".to_owned()];
    let beside = tokio::spawn(chatter(system.clone(), 2, pair, conversations[1..].to_vec(), 300));
    for round in 0..3 {
        near.cut();
        tokio::time::sleep(Duration::from_millis(700)).await;
        far.stall();
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        far.restore();
        if round == 1 {
            one.child.kill().await.unwrap();
        }
    }
    talk.await.unwrap();
    beside.await.unwrap();
    replicas.assert_equals_server(&system, &users).await;
}

/// A message of 16 KB, as it stands on the log.
pub(crate) fn long_message(sender: &str, conversation: &str) -> Event {
    Event {
        event_id: EventId(Uuid::now_v7()),
        occurred_at: Timestamp::from_date_time(OffsetDateTime::now_utc()).unwrap(),
        conversation_id: conversation.parse().unwrap(),
        actor_id: sender.parse().unwrap(),
        request: None,
        data: EventData::MessageSent(MessageSent {
            message_id: MessageId(Uuid::now_v7()),
            content: "𝕏".repeat(4_000),
            message_type: MessageType::Text,
            attachments: Vec::new(),
            mentions: Vec::new(),
            reply_to_id: None,
        }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_takes_nothing_delays_nobody_is_closed_and_its_client_catches_up() {
    let system = unlimited().await;
    let node = node(&system).await;
    let proxy = Proxy::start(&node.url).await;
    let users = vec!["alice".to_owned()];
    let mut replicas = Replicas::start(&system, &[&proxy.url], &users).await;
    let mut bob = Client::open(json!({"url": node.url, "token": system.token("bob")})).await;
    bob.frame("connection:ready").await;
    let conversation = system.conversation("bob", &["alice"]).await;
    system.message("bob", &conversation, "before").await;
    bob.frame("message:new").await;
    proxy.stall();
    // More than the buffers of the network and of the socket hold together, faster than a silent socket is given up.
    for _ in 0..20 {
        let long: Vec<NewRecord> = (0..20).map(|_| NewRecord::event(&long_message("bob", &conversation))).collect();
        log::append(&system.config, &long).await;
        for _ in &long {
            bob.frame("message:new").await;
        }
    }
    eventually("a frame is dropped", async || (node.metric("realtime_dropped_total", "").await > 0.0).then_some(()))
        .await;
    assert_eq!(node.metric("realtime_slow_sockets_total", "").await, 1.0, "it is closed, once");
    proxy.restore();
    replicas.assert_equals_server(&system, &users).await;
    assert!(replicas.status().await["readies"].as_u64() >= Some(2), "the client came back");
}
