//! Rooms: whoever is told that they are connected gets everything from then on, once.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::{Position, PositionVector, UserId};
use event_log::TopicSpec;
use serde_json::{Value, json};
use service::token::PositionTokens;

use crate::harness::log::Record;
use crate::harness::sockets::Frame;
use crate::harness::{Client, System, eventually};

/// How many people connect while conversations are created.
const PEOPLE: usize = 24;
/// How many of them are in one conversation.
const IN_ONE: usize = 6;
/// Who create them, at the same time.
const CREATORS: [&str; 3] = ["c0", "c1", "c2"];

const DONE: &str = "done";

#[tokio::test(flavor = "multi_thread")]
async fn whoever_connects_while_conversations_begin_misses_nothing_and_gets_nothing_twice() {
    let system = System::with(|config| {
        config.limits.limit_conversations = 10_000;
        config.limits.limit_messages = 10_000;
    })
    .await;
    // Otherwise the messages below, which have keys, would wait for the projector.
    system.age_reservation_epoch().await;
    let people: Vec<String> = (0..PEOPLE).map(|number| format!("p{number}")).collect();
    let tokens: Vec<String> = people.iter().map(|user| system.token(user)).collect();
    let order = json!({"url": system.url, "tokens": tokens, "options": {"autoConnect": false}});
    let mut client = Client::open(order).await;

    client.instruct(json!({"do": "connect"})).await;
    let everyone_is_here = AtomicBool::new(false);
    let [first, second, third] = CREATORS.map(|creator| create(&system, creator, &people, &everyone_is_here));
    let connecting = async {
        let mut frames = client.frames_until("the first is ready", |frame| frame.name == "connection:ready").await;
        for socket in 1..PEOPLE {
            client.instruct(json!({"do": "connect", "socket": socket})).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut ready = 1;
        let rest = client.frames_until("everyone is ready", |frame| {
            ready += usize::from(frame.name == "connection:ready");
            ready == PEOPLE
        });
        frames.extend(rest.await);
        everyone_is_here.store(true, Ordering::Release);
        frames
    };
    let (mut frames, first, second, third) = tokio::join!(connecting, first, second, third);
    let conversations = [first, second, third].concat();
    for conversation in &conversations {
        say(&system, CREATORS[0], conversation, DONE).await;
    }
    let mut left = conversations.len() * IN_ONE;
    frames.extend(
        client
            .frames_until("the last message of every conversation", |frame| {
                left -= usize::from(frame.is_message(DONE));
                left == 0
            })
            .await,
    );
    let topic = TopicSpec { name: system.config.kafka_topic.clone(), partitions: system.config.kafka_partitions };
    let topic = event_log::ensure_topic(&system.config.kafka_brokers, &topic).await.unwrap();
    let tokens = PositionTokens::new(crate::harness::system::SECRET, topic.id, topic.partitions);
    let records = system.records().await;
    let mut live = 0;
    for (socket, name) in people.iter().enumerate() {
        let user: UserId = name.parse().unwrap();
        live += assert_complete(&tokens, &user, frames.iter().filter(|frame| frame.socket == socket), &records);
    }
    assert!(live > PEOPLE, "conversations began while people connected: {live}");
}

/// Creates conversations, and says something in each at once, until everyone is here; their ids.
async fn create(system: &System, creator: &str, people: &[String], everyone_is_here: &AtomicBool) -> Vec<String> {
    let mut conversations = Vec::new();
    while !everyone_is_here.load(Ordering::Acquire) {
        let from = conversations.len() * IN_ONE;
        let members = (from..from + IN_ONE).map(|member| people[member % PEOPLE].as_str());
        let members: Vec<_> = CREATORS.into_iter().chain(members).collect();
        let id = system.post(creator, json!({"action": "conversation", "participantIds": members})).await.id();
        say(system, creator, &id, "the first").await;
        conversations.push(id);
    }
    conversations
}

/// Sends a message; where the system is too busy, again.
async fn say(system: &System, sender: &str, conversation: &str, content: &str) {
    let key = content.replace(' ', "-");
    let body = json!({"conversationId": conversation, "content": content});
    eventually("the message is sent", async || {
        let answer = system.ask(sender, "POST", "/api/messages").key(&key).json(&body).send().await;
        assert!([200, 201, 503].contains(&answer.status), "{answer:?}");
        (answer.status != 503).then_some(())
    })
    .await;
}

/// That a user's socket got every event of their conversations that its token doesn't include, none twice, each
/// conversation's in order. How many conversations it saw begin.
fn assert_complete<'a>(
    tokens: &PositionTokens,
    user: &UserId,
    frames: impl Iterator<Item = &'a Frame>,
    records: &[Record],
) -> usize {
    let mut included = None;
    let mut got = HashSet::new();
    let mut last: HashMap<&str, Position> = HashMap::new();
    let mut begun = 0;
    for frame in frames {
        if frame.name == "connection:ready" {
            included = Some(tokens.read(frame.data["position"].as_str().unwrap(), user).unwrap());
        } else if let Some(event) = frame.meta["eventId"].as_str() {
            assert!(got.insert(event), "{user} got {frame:?} twice");
            begun += usize::from(frame.name == "conversation:created");
            let conversation =
                frame.data.get("conversationId").or(frame.data.get("id")).and_then(Value::as_str).unwrap();
            let position: Position = frame.meta["position"].as_str().unwrap().parse().unwrap();
            let before = last.insert(conversation, position);
            assert!(before.is_none_or(|before| before < position), "{user} got {frame:?} after {before:?}");
        }
    }
    let included: PositionVector = included.unwrap();
    let is_in = |record: &&Record| {
        record.value["data"]["participantIds"].as_array().is_some_and(|all| all.contains(&json!(user.as_str())))
    };
    let mine: HashSet<&str> = records.iter().filter(is_in).map(|record| record.key.as_str()).collect();
    for record in records.iter().filter(|record| mine.contains(record.key.as_str())) {
        let position = Position { partition: record.partition, offset: record.offset };
        let event = record.value["eventId"].as_str().unwrap();
        assert!(included.includes(position) || got.contains(event), "{user} missed {record:?}");
    }
    let theirs = records.iter().filter(|record| got.contains(record.value["eventId"].as_str().unwrap()));
    for record in theirs {
        assert!(mine.contains(record.key.as_str()), "{user} is not in the conversation of {record:?}");
    }
    begun
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_a_users_sockets_gets_every_event_once() {
    let system = System::start().await;
    let order = json!({"url": system.url, "token": system.token("bob"), "sockets": 3});
    let mut bob = Client::open(order).await;
    let mut ready = 0;
    bob.frames_until("all are ready", |frame| {
        ready += usize::from(frame.name == "connection:ready");
        ready == 3
    })
    .await;
    let conversation = system.conversation("alice", &["bob"]).await;
    system.message("alice", &conversation, "to all three").await;
    let got = of_sockets(&mut bob, "to all three", 3).await;
    assert_eq!(got, [["conversation:created", "message:new"]; 3].map(|names| names.to_vec()));

    bob.instruct(json!({"do": "disconnect", "socket": 1})).await;
    bob.wait_for("disconnect").await;
    system.message("alice", &conversation, "to those that are left").await;
    let got = of_sockets(&mut bob, "to those that are left", 2).await;
    assert_eq!(got, [vec!["message:new"], vec![], vec!["message:new"]]);
    assert_eq!(bob.unread_frames().await, [""; 0]);
}

/// What each of three sockets got until so many of them got the message with this content.
async fn of_sockets(client: &mut Client, content: &str, times: usize) -> [Vec<String>; 3] {
    let mut said = 0;
    let frames = client
        .frames_until(content, |frame| {
            said += usize::from(frame.is_message(content));
            said == times
        })
        .await;
    [0, 1, 2].map(|socket| {
        let of_one = frames.iter().filter(|frame| frame.socket == socket);
        of_one.map(|frame| frame.name.clone()).collect()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_soon_is_told_what_came_before_the_next_frame() {
    let system = System::start().await;
    let known = system.conversation("alice", &["bob"]).await;
    let mut bob = Client::connect(&system, "bob").await;
    for round in 0..5 {
        bob.instruct(json!({"do": "disconnect"})).await;
        bob.wait_for("disconnect").await;
        let missed = system.post("alice", json!({"conversationId": known, "content": "missed"})).await;
        let fresh = system.conversation("alice", &["bob", &format!("carol-{round}")]).await;
        bob.instruct(json!({"do": "connect"})).await;
        bob.frame("connection:ready").await;
        for conversation in [&known, &fresh] {
            system.message("alice", conversation, "heard").await;
        }
        let first = bob.frames_until("the first", |frame| frame.is_message("heard")).await.pop().unwrap();
        let second = bob.frames_until("the second", |frame| frame.is_message("heard")).await.pop().unwrap();
        let (in_known, in_fresh) =
            if first.data["conversationId"] == known.as_str() { (first, second) } else { (second, first) };
        assert_eq!(in_known.meta["previous"], missed.position());
        assert_eq!(in_fresh.data["conversationId"], fresh.as_str());
        assert!(in_fresh.meta["previous"].is_string(), "its beginning was not heard, and is in the chain");
    }
}
