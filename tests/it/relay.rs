//! The relay from the log to the sockets: it passes on each event once, to the participants only, and skips a record
//! that it can't read.

use domain::event::{EventData, MessageSent, MessageType};
use domain::{Event, EventId, MessageId, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client_sync::start_realtime_node;
use crate::harness::log::{self, NewRecord};
use crate::harness::{Client, System};

/// A message of alice that mentions bob, to append without a command.
fn message_to_bob(conversation: &str, content: &str) -> Event {
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
async fn a_repeated_record_is_relayed_once() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let mut bob = Client::connect(&system, "bob").await;
    let one = message_to_bob(&conversation, "one");
    let other = message_to_bob(&conversation, "other");

    let positions = log::append(&system.config, &[&one, &one, &other, &one].map(NewRecord::event)).await;
    let [first_copy, _, only_copy_of_other, _] = positions.as_slice() else { panic!("{positions:?}") };
    let last = system.post("alice", json!({"conversationId": conversation, "content": "last"})).await;

    let frames = bob.frames_until("the last", |frame| frame.is_message("last")).await;
    let received: Vec<_> = frames.iter().map(|frame| (frame.name.as_str(), frame.data["content"].as_str())).collect();
    let expected = [
        ("message:new", Some("one")),
        ("mention:new", None),
        ("message:new", Some("other")),
        ("mention:new", None),
        ("message:new", Some("last")),
    ];
    assert_eq!(received, expected);
    assert_eq!(frames[0].meta["position"], first_copy.as_str(), "the first copy counts");
    assert_eq!(frames[4].meta["previous"], only_copy_of_other.as_str(), "a later copy is no part of the chain");
    let read = system.get_after(&last, "bob", &format!("/api/messages?conversationId={conversation}")).await;
    assert_eq!(read.data().as_array().unwrap().len(), 3, "the fold drops the copies, too: {read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_an_event_from_before_the_first_socket_is_not_relayed() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let message = message_to_bob(&conversation, "one");
    log::append(&system.config, &[NewRecord::event(&message)]).await;
    system.wait_until_caught_up().await;
    let started_after_it = start_realtime_node(&system).await;
    let mut on_the_new_node = Client::open(json!({"url": started_after_it.url, "token": system.token("bob")})).await;
    on_the_new_node.frame("connection:ready").await;
    let on_the_old_node = Client::connect(&system, "bob").await;

    log::append(&system.config, &[NewRecord::event(&message)]).await;
    system.message("alice", &conversation, "last").await;

    for mut bob in [on_the_old_node, on_the_new_node] {
        let frames = bob.frames_until("the last", |frame| frame.is_message("last")).await;
        let received: Vec<_> = frames.iter().map(|frame| frame.data["content"].as_str()).collect();
        assert_eq!(received, [Some("last")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_not_relayed_however_many_events_come_between_while_the_projector_stands_still() {
    /// More than a relay may count on: the command API repeats an event until it is folded.
    const BETWEEN: usize = 70_000;
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let elsewhere = Uuid::now_v7().to_string();
    let mut bob = Client::connect(&system, "bob").await;
    let hold = system.pause_projection().await;
    let one = message_to_bob(&conversation, "one");

    let mut records = vec![NewRecord::event(&one)];
    records.extend((0..BETWEEN).map(|_| NewRecord::event(&message_to_bob(&elsewhere, ""))));
    records.extend([&one, &message_to_bob(&conversation, "last")].map(NewRecord::event));
    log::append(&system.config, &records).await;

    let mut frames = bob.frames_until("the last", |frame| frame.is_message("last")).await;
    hold.rollback().await.unwrap();
    frames.retain(|frame| frame.name == "message:new");
    let received: Vec<_> = frames.iter().map(|frame| frame.data["content"].as_str()).collect();
    assert_eq!(received, [Some("one"), Some("last")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mentioned_user_who_is_no_participant_receives_nothing() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["carol"]).await;
    let mut bob = Client::connect(&system, "bob").await;
    let mut carol = Client::connect(&system, "carol").await;

    // The record mentions bob, which a command would refuse.
    log::append(&system.config, &[NewRecord::event(&message_to_bob(&conversation, "hello"))]).await;
    system.message("alice", &conversation, "and that was it").await;

    carol.frames_until("the message", |frame| frame.is_message("and that was it")).await;
    assert_eq!(bob.unread_frames().await, [""; 0]);
}

/// Records whose values are no events, under every combination of a known, unknown or missing type and a valid or
/// invalid key.
fn unreadable_records(conversation: &str) -> Vec<NewRecord> {
    let event = message_to_bob(conversation, "from the future");
    let mut of_a_later_version: Value = serde_json::from_slice(&domain::envelope::encode(&event)).unwrap();
    of_a_later_version["version"] = json!(99);
    let values: [Vec<u8>; 6] = [
        Vec::new(),
        b"not JSON".to_vec(),
        vec![0xff, 0xfe, 0x00],
        b"[]".to_vec(),
        br#"{"eventId":"x"}"#.to_vec(),
        of_a_later_version.to_string().into_bytes(),
    ];
    let mut records = Vec::new();
    for value in values {
        for event_type in [Some("MESSAGE_SENT"), Some("CONVERSATION_CREATED"), Some("NEVER_HEARD_OF"), None] {
            for key in [conversation, "not an id"] {
                records.push(NewRecord { key: key.to_owned(), value: value.clone(), event_type, timestamp_ms: None });
            }
        }
    }
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_records_do_not_stop_the_relay() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let mut bob = Client::connect(&system, "bob").await;

    let mut records = unreadable_records(&conversation);
    // Without headers, as another program might write it: still an event.
    let event = NewRecord::event(&message_to_bob(&conversation, "without headers"));
    records.push(NewRecord { event_type: None, ..event });
    log::append(&system.config, &records).await;
    let sent = system.post("alice", json!({"conversationId": conversation, "content": "as before"})).await;

    let frames = bob.frames_until("the message", |frame| frame.is_message("as before")).await;
    let names: Vec<_> = frames.iter().map(|frame| frame.name.as_str()).collect();
    assert_eq!(names, ["message:new", "mention:new", "message:new"]);
    let read = system.get_after(&sent, "bob", &format!("/api/messages/{}", sent.id())).await;
    assert_eq!(read.status, 200, "the projector doesn't go on: {read:?}");
    assert_eq!(system.request("GET", "/readyz").send().await.status, 200);
}
