//! Clients that follow the documented sync rule end with the server's state: while connections are cut and stall, while
//! realtime nodes are killed, and after the server dropped frames.

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

/// Two of them are the same.
const EMOJI: [&str; 4] = ["👍", "❤️", "❤", "👎"];

/// Starts a realtime node of the system in a process of its own.
pub(crate) async fn start_realtime_node(system: &System) -> ServiceProcess {
    ServiceProcess::start(&system.config, &["realtime", "--query-api-url", &system.url]).await
}

/// So many messages of 16 KB each, to append to the log directly.
pub(crate) fn long_messages(sender: &str, conversation: &str, count: usize) -> Vec<NewRecord> {
    (0..count).map(|_| NewRecord::event(&long_message(sender, conversation))).collect()
}

fn long_message(sender: &str, conversation: &str) -> Event {
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

/// Users who write, edit, delete and react at random. Each of them is in each of the conversations.
struct RandomWriters {
    seed: u64,
    users: Vec<String>,
    conversations: Vec<String>,
    commands: usize,
}

#[derive(Clone)]
struct SentMessage {
    id: String,
    sender: String,
}

impl RandomWriters {
    /// Sends all the commands, one after the other.
    async fn run(self, system: Arc<System>) {
        let mut rng = Rng::new(self.seed);
        let mut sent: Vec<SentMessage> = Vec::new();
        for number in 0..self.commands {
            let user = &self.users[rng.below(self.users.len())];
            let conversation = &self.conversations[rng.below(self.conversations.len())];
            let earlier = rng.pick(&sent);
            let answer = match (rng.below(10), earlier) {
                (7, Some(message)) => system.edit(&message.sender, &message.id, &format!("edited {number}")).await,
                (8, Some(message)) if number % 3 == 0 => system.delete(&message.sender, &message.id).await,
                (8 | 9, Some(message)) => {
                    let emoji = EMOJI[rng.below(EMOJI.len())];
                    system.post(user, json!({"action": "reaction", "messageId": message.id, "emoji": emoji})).await
                }
                _ => {
                    let body = json!({"conversationId": conversation, "content": format!("{number}")});
                    let answer = system.post(user, body).await;
                    sent.push(SentMessage { id: answer.id(), sender: user.clone() });
                    answer
                }
            };
            // 422: the message was deleted before.
            assert!([200, 201, 422].contains(&answer.status), "{answer:?}");
        }
    }
}

/// Lets users write while their connections are cut and stall, and one of two realtime nodes is killed. Asserts that
/// every client ends with the server's state. Returns the number of commands.
pub(crate) async fn clients_end_with_the_servers_state(seed: u64) -> usize {
    let system = Arc::new(System::unlimited().await);
    let (mut first_node, second_node) = tokio::join!(start_realtime_node(&system), start_realtime_node(&system));
    let first_network = Proxy::start(&first_node.url).await;
    let second_network = Proxy::start(&second_node.url).await;
    let users: Vec<String> = (0..8).map(|number| format!("user-{number}")).collect();
    let mut clients = Replicas::start(&system, &[&first_network.url, &second_network.url], &users).await;
    let everyone: Vec<&str> = users.iter().map(String::as_str).collect();
    let of_everyone = system.conversation("user-0", &everyone).await;
    let of_two = system.conversation("user-1", &["user-2"]).await;
    let of_five = system.conversation("user-3", &["user-0", "user-1", "user-2", "user-4"]).await;

    let everyone_writes = RandomWriters { seed, users: users.clone(), conversations: vec![of_everyone], commands: 600 };
    let two_write = RandomWriters {
        seed: seed + 1,
        users: vec!["user-1".to_owned(), "user-2".to_owned()],
        conversations: vec![of_two, of_five],
        commands: 300,
    };
    let commands = everyone_writes.commands + two_write.commands;
    let everyone_writes = tokio::spawn(everyone_writes.run(system.clone()));
    let two_write = tokio::spawn(two_write.run(system.clone()));
    for round in 0..3 {
        first_network.cut();
        tokio::time::sleep(Duration::from_millis(700)).await;
        second_network.stall();
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        second_network.restore();
        if round == 1 {
            first_node.child.kill().await.unwrap();
        }
    }
    everyone_writes.await.unwrap();
    two_write.await.unwrap();

    clients.assert_equals_server(&system, &users).await;
    commands
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_end_with_the_servers_state_whatever_the_network_and_the_nodes_do() {
    clients_end_with_the_servers_state(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_socket_delays_nobody_and_its_client_catches_up_after_the_server_closed_it() {
    let system = System::unlimited().await;
    let node = start_realtime_node(&system).await;
    let network = Proxy::start(&node.url).await;
    let alice = vec!["alice".to_owned()];
    let mut alices_client = Replicas::start(&system, &[&network.url], &alice).await;
    let mut bob = Client::open(json!({"url": node.url, "token": system.token("bob")})).await;
    bob.frame("connection:ready").await;
    let conversation = system.conversation("bob", &["alice"]).await;
    system.message("bob", &conversation, "before").await;
    bob.frame("message:new").await;

    network.stall();
    // More than the buffers of the network and of the socket hold together, faster than the server gives up a silent
    // socket.
    for _ in 0..20 {
        let messages = long_messages("bob", &conversation, 20);
        log::append(&system.config, &messages).await;
        for _ in &messages {
            bob.frame("message:new").await;
        }
    }
    eventually("a frame is dropped", async || (node.metric("realtime_dropped_total", "").await > 0.0).then_some(()))
        .await;
    assert_eq!(node.metric("realtime_slow_sockets_total", "").await, 1.0, "the server closes the socket, once");

    network.restore();
    alices_client.assert_equals_server(&system, &alice).await;
    assert!(alices_client.status().await["readies"].as_u64() >= Some(2), "alice's client connected again");
}
