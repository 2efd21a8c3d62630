//! Rooms: from `connection:ready` on, a user receives every event of their conversations once and in order.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::{Position, UserId};
use event_log::TopicSpec;
use serde_json::{Value, json};
use service::token::PositionTokens;

use crate::harness::log::Record;
use crate::harness::sockets::Frame;
use crate::harness::{Client, System, eventually};

/// How many users connect while other users create conversations.
const USERS: usize = 24;
/// How many of them are in each conversation.
const USERS_PER_CONVERSATION: usize = 6;
/// The users who create conversations, at the same time.
const CREATORS: [&str; 3] = ["c0", "c1", "c2"];

/// The content of the last message of a conversation.
const DONE: &str = "done";

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_connects_while_conversations_are_created_misses_nothing_and_gets_nothing_twice() {
    // Given a client with a socket for each user.
    let system = System::with(|config| {
        config.limits.limit_conversations = 10_000;
        config.limits.limit_messages = 10_000;
    })
    .await;
    // The messages below have keys, and must not wait for the projector.
    system.age_reservation_epoch().await;
    let users: Vec<String> = (0..USERS).map(|number| format!("p{number}")).collect();
    let tokens: Vec<String> = users.iter().map(|user| system.token(user)).collect();
    let options = json!({"url": system.url, "tokens": tokens, "options": {"autoConnect": false}});
    let mut client = Client::open(options).await;

    // When the users connect one after the other while three users create conversations …
    let all_connected = AtomicBool::new(false);
    let [first, second, third] = CREATORS.map(|creator| create_until(&all_connected, &system, creator, &users));
    let connect = connect_all(&mut client, &all_connected);
    let (mut frames, first, second, third) = tokio::join!(connect, first, second, third);
    let conversations = [first, second, third].concat();
    for conversation in &conversations {
        send_until_accepted(&system, CREATORS[0], conversation, DONE).await;
    }
    let mut outstanding = conversations.len() * USERS_PER_CONVERSATION;
    let is_last = |frame: &Frame| {
        outstanding -= usize::from(frame.is_message(DONE));
        outstanding == 0
    };
    frames.extend(client.frames_until("the last message of every conversation", is_last).await);

    // … then every user has everything after the position of their `connection:ready`.
    let topic = TopicSpec { name: system.config.kafka_topic.clone(), partitions: system.config.kafka_partitions };
    let topic = event_log::ensure_topic(&system.config.kafka_brokers, &topic).await.unwrap();
    let tokens = PositionTokens::new(crate::harness::system::SECRET, topic.id, topic.partitions);
    let records = system.records().await;
    let mut created_live = 0;
    for (socket, name) in users.iter().enumerate() {
        let user: UserId = name.parse().unwrap();
        let received = Received::by(&user, &tokens, frames.iter().filter(|frame| frame.socket == socket));
        received.assert_complete(&user, &records);
        created_live += received.created_conversations;
    }
    assert!(created_live > USERS, "too few conversations were created while users connected: {created_live}");
}

/// Connects the client's sockets one after the other. Returns all frames until each socket is ready.
async fn connect_all(client: &mut Client, all_connected: &AtomicBool) -> Vec<Frame> {
    client.connect_socket(0).await;
    let mut frames = client.frames_until("the first socket is ready", |frame| frame.name == "connection:ready").await;
    for socket in 1..USERS {
        client.connect_socket(socket).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut ready = 1;
    let is_last = |frame: &Frame| {
        ready += usize::from(frame.name == "connection:ready");
        ready == USERS
    };
    frames.extend(client.frames_until("every socket is ready", is_last).await);
    all_connected.store(true, Ordering::Release);
    frames
}

/// Creates conversations, and sends a message to each at once, until all users are connected. Returns their ids.
async fn create_until(all_connected: &AtomicBool, system: &System, creator: &str, users: &[String]) -> Vec<String> {
    let mut conversations = Vec::new();
    while !all_connected.load(Ordering::Acquire) {
        let first = conversations.len() * USERS_PER_CONVERSATION;
        let members = (first..first + USERS_PER_CONVERSATION).map(|member| users[member % USERS].as_str());
        let members: Vec<_> = CREATORS.into_iter().chain(members).collect();
        let id = system.post(creator, json!({"action": "conversation", "participantIds": members})).await.id();
        send_until_accepted(system, creator, &id, "the first").await;
        conversations.push(id);
    }
    conversations
}

/// Sends a message with a key, and retries while the system is too busy.
async fn send_until_accepted(system: &System, sender: &str, conversation: &str, content: &str) {
    let key = content.replace(' ', "-");
    let body = json!({"conversationId": conversation, "content": content});
    eventually("the server accepts the message", async || {
        let response = system.ask(sender, "POST", "/api/messages").key(&key).json(&body).send().await;
        assert!([200, 201, 503].contains(&response.status), "{response:?}");
        (response.status != 503).then_some(())
    })
    .await;
}

/// What a user's socket received.
struct Received<'a> {
    /// What the token of `connection:ready` includes.
    included: domain::PositionVector,
    event_ids: HashSet<&'a str>,
    created_conversations: usize,
}

impl<'a> Received<'a> {
    /// Collects a user's frames. Asserts that no event repeats, and that those of a conversation are in order.
    fn by(user: &UserId, tokens: &PositionTokens, frames: impl Iterator<Item = &'a Frame>) -> Self {
        let mut included = None;
        let mut event_ids = HashSet::new();
        let mut last_positions: HashMap<&str, Position> = HashMap::new();
        let mut created_conversations = 0;
        for frame in frames {
            if frame.name == "connection:ready" {
                included = Some(tokens.read(frame.data["position"].as_str().unwrap(), user).unwrap());
            } else if let Some(event_id) = frame.meta["eventId"].as_str() {
                assert!(event_ids.insert(event_id), "{user} received {frame:?} twice");
                created_conversations += usize::from(frame.name == "conversation:created");
                let conversation = frame.data.get("conversationId").or(frame.data.get("id"));
                let position: Position = frame.meta["position"].as_str().unwrap().parse().unwrap();
                let before = last_positions.insert(conversation.and_then(Value::as_str).unwrap(), position);
                assert!(before.is_none_or(|before| before < position), "{user} received {frame:?} after {before:?}");
            }
        }
        Self { included: included.unwrap(), event_ids, created_conversations }
    }

    /// Asserts that the user received every event of their conversations that their token doesn't include, and no event
    /// of another conversation.
    fn assert_complete(&self, user: &UserId, records: &[Record]) {
        let names_user = |record: &&Record| {
            record.value["data"]["participantIds"].as_array().is_some_and(|all| all.contains(&json!(user.as_str())))
        };
        let own: HashSet<&str> = records.iter().filter(names_user).map(|record| record.key.as_str()).collect();
        for record in records {
            let position = Position { partition: record.partition, offset: record.offset };
            let received = self.event_ids.contains(record.value["eventId"].as_str().unwrap());
            if own.contains(record.key.as_str()) {
                assert!(self.included.includes(position) || received, "{user} missed {record:?}");
            } else {
                assert!(!received, "{user} is not in the conversation of {record:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_a_users_sockets_receives_every_event_once() {
    let system = System::start().await;
    let options = json!({"url": system.url, "token": system.token("bob"), "sockets": 3});
    let mut bob = Client::open(options).await;
    for _ in 0..3 {
        bob.frame("connection:ready").await;
    }

    let conversation = system.conversation("alice", &["bob"]).await;
    system.message("alice", &conversation, "to all three").await;
    let received = names_by_socket(&mut bob, "to all three", 3).await;
    assert_eq!(received, [["conversation:created", "message:new"]; 3].map(|names| names.to_vec()));

    bob.disconnect_socket(1).await;
    system.message("alice", &conversation, "to the other two").await;
    let received = names_by_socket(&mut bob, "to the other two", 2).await;
    assert_eq!(received, [vec!["message:new"], vec![], vec!["message:new"]]);
    bob.assert_no_unread_frames("each socket receives the message once").await;
}

/// The names of the frames of each of three sockets, until this many of them have received a message.
async fn names_by_socket(client: &mut Client, content: &str, receivers: usize) -> [Vec<String>; 3] {
    let mut count = 0;
    let is_last = |frame: &Frame| {
        count += usize::from(frame.is_message(content));
        count == receivers
    };
    let frames = client.frames_until(content, is_last).await;
    [0, 1, 2].map(|socket| {
        let of_socket = frames.iter().filter(|frame| frame.socket == socket);
        of_socket.map(|frame| frame.name.clone()).collect()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_reconnects_soon_learns_from_the_chain_what_they_missed() {
    let system = System::start().await;
    let known = system.conversation("alice", &["bob"]).await;
    let mut bob = Client::connect(&system, "bob").await;
    for round in 0..5 {
        bob.disconnect_socket(0).await;
        let missed = system.send("alice", &known, "missed").await;
        let new = system.conversation("alice", &["bob", &format!("carol-{round}")]).await;
        bob.connect_socket(0).await;
        bob.frame("connection:ready").await;
        for conversation in [&known, &new] {
            system.message("alice", conversation, "received").await;
        }

        let one = bob.frames_until("the first message", |frame| frame.is_message("received")).await.pop().unwrap();
        let other = bob.frames_until("the second message", |frame| frame.is_message("received")).await.pop().unwrap();
        let is_known = one.data["conversationId"] == known.as_str();
        let (in_known, in_new) = if is_known { (one, other) } else { (other, one) };
        assert_eq!(in_known.meta["previous"], missed.position());
        assert_eq!(in_new.data["conversationId"], new.as_str());
        assert!(in_new.meta["previous"].is_string(), "the chain must name the creation that bob missed");
    }
}
