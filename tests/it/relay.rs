//! The relay from the log to the sockets, whatever is on the log.

use domain::event::{EventData, MessageSent, MessageType};
use domain::{Event, EventId, MessageId, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::following::node;
use crate::harness::log::{self, NewRecord};
use crate::harness::{Client, System};

/// A message that nobody sent by a command.
fn message(conversation: &str, content: &str) -> Event {
    Event {
        event_id: EventId(Uuid::now_v7()),
        occurred_at: Timestamp::from_date_time(time::OffsetDateTime::now_utc()).unwrap(),
        conversation_id: conversation.parse().unwrap(),
        actor_id: "alice".parse().unwrap(),
        request: None,
        data: EventData::MessageSent(MessageSent {
            message_id: MessageId(Uuid::now_v7()),
            content: content.to_owned(),
            message_type: MessageType::Text,
            attachments: Vec::new(),
            mentions: vec!["bob".parse().unwrap()],
            reply_to_id: None,
        }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_repeats_is_relayed_once() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let mut bob = Client::connect(&system, "bob").await;
    let (one, other) = (message(&conversation, "one"), message(&conversation, "other"));
    let positions = log::append(&system.config, &[&one, &one, &other, &one].map(NewRecord::event)).await;
    let last = system.post("alice", json!({"conversationId": conversation, "content": "last"})).await;
    let frames = bob.frames_until("the last", |frame| frame.is_message("last")).await;
    let came: Vec<_> = frames.iter().map(|frame| (frame.name.as_str(), frame.data["content"].as_str())).collect();
    let mention = ("mention:new", None);
    let expected = [("message:new", Some("one")), mention, ("message:new", Some("other")), mention];
    assert_eq!(came[..4], expected);
    assert_eq!(came[4..], [("message:new", Some("last"))]);
    assert_eq!(frames[0].meta["position"], positions[0].as_str(), "the first counts");
    assert_eq!(frames[4].meta["previous"], positions[2].as_str(), "a copy is no part of the chain");
    let read = system.get_after(&last, "bob", &format!("/api/messages?conversationId={conversation}")).await;
    assert_eq!(read.data().as_array().unwrap().len(), 3, "as the fold has it: {read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_what_came_before_anyone_was_here_is_not_relayed() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let one = message(&conversation, "one");
    log::append(&system.config, &[NewRecord::event(&one)]).await;
    system.wait_until_caught_up().await;
    // A node that begins now, and one on which nobody was until now.
    let late = node(&system).await;
    let mut there = Client::open(json!({"url": late.url, "token": system.token("bob")})).await;
    there.frame("connection:ready").await;
    let mut clients = vec![Client::connect(&system, "bob").await, there];
    log::append(&system.config, &[NewRecord::event(&one)]).await;
    system.message("alice", &conversation, "last").await;
    for bob in &mut clients {
        let frames = bob.frames_until("the last", |frame| frame.is_message("last")).await;
        let came: Vec<_> = frames.iter().map(|frame| frame.data["content"].as_str()).collect();
        assert_eq!(came, [Some("last")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_mentioned_without_being_there_is_told_nothing() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["carol"]).await;
    // The message says that it mentions bob, which a command would not let in.
    let mut bob = Client::connect(&system, "bob").await;
    let mut carol = Client::connect(&system, "carol").await;
    log::append(&system.config, &[NewRecord::event(&message(&conversation, "hello"))]).await;
    system.message("alice", &conversation, "and that was it").await;
    carol.frames_until("the message", |frame| frame.is_message("and that was it")).await;
    assert_eq!(bob.unread_frames().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_does_not_stop_the_relay() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let mut bob = Client::connect(&system, "bob").await;
    let event = message(&conversation, "from the future");
    let mut future: Value = serde_json::from_slice(&domain::envelope::encode(&event)).unwrap();
    future["version"] = json!(99);
    let values: [Vec<u8>; 6] = [
        Vec::new(),
        b"not JSON".to_vec(),
        vec![0xff, 0xfe, 0x00],
        b"[]".to_vec(),
        br#"{"eventId":"x"}"#.to_vec(),
        future.to_string().into_bytes(),
    ];
    let mut records = Vec::new();
    for value in values {
        for event_type in [Some("MESSAGE_SENT"), Some("CONVERSATION_CREATED"), Some("NEVER_HEARD_OF"), None] {
            for key in [conversation.as_str(), "not an id"] {
                records.push(NewRecord { key: key.to_owned(), value: value.clone(), event_type, timestamp_ms: None });
            }
        }
    }
    // Without headers, as another program might write it: still an event.
    records.push(NewRecord { event_type: None, ..NewRecord::event(&message(&conversation, "plain")) });
    log::append(&system.config, &records).await;
    let sent = system.post("alice", json!({"conversationId": conversation, "content": "as before"})).await;
    let frames = bob.frames_until("the message", |frame| frame.is_message("as before")).await;
    let names: Vec<_> = frames.iter().map(|frame| frame.name.as_str()).collect();
    assert_eq!(names, ["message:new", "mention:new", "message:new"]);
    let read = system.get_after(&sent, "bob", &format!("/api/messages/{}", sent.id())).await;
    assert_eq!(read.status, 200, "the projector goes on too: {read:?}");
    assert_eq!(system.request("GET", "/readyz").send().await.status, 200);
}
