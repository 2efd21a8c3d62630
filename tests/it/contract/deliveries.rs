//! Delivery over sockets: each event reaches exactly the users whom it concerns, and the frames of a conversation form
//! an unbroken chain (`meta.previous` names the position of the frame before).

use serde_json::{Value, json};

use crate::harness::http::Response;
use crate::harness::log::Record;
use crate::harness::sockets::Frame;
use crate::harness::{Client, System};

/// A frame that every socket in a conversation's room must receive.
struct ExpectedFrame {
    name: &'static str,
    payload: Value,
    position: String,
}

impl ExpectedFrame {
    /// The frame of a command's event.
    fn of(done: &Response, name: &'static str, payload: Value) -> Self {
        Self { name, payload, position: done.position().to_owned() }
    }
}

/// The content of the last message of a test: a client that has it has everything before it.
const LAST: &str = "that was all";

#[tokio::test(flavor = "multi_thread")]
async fn every_participant_receives_every_event_in_order_over_every_transport() {
    // Given alice with two sockets, bob with polling, carol with an upgrade to WebSocket, and a stranger.
    let system = System::start().await;
    let mut alice = open(&system, "alice", json!({"sockets": 2})).await;
    let mut bob = open(&system, "bob", json!({"transports": ["polling"]})).await;
    let mut carol = open(&system, "carol", json!({"transports": ["polling", "websocket"]})).await;
    assert_eq!(carol.wait_for("upgrade").await["transport"], "websocket");
    let mut mallory = open(&system, "mallory", json!({})).await;
    let elsewhere = system.conversation("dave", &["mallory"]).await;

    let group = system.post("alice", json!({"action": "conversation", "participantIds": ["bob", "carol"]})).await;
    let expected = cause_every_event(&system, &group).await;

    let of_alice = alice.frames_until(LAST, is_second_message(LAST)).await;
    let (first, second): (Vec<_>, Vec<_>) = of_alice.into_iter().partition(|frame| frame.socket == 0);
    let of_bob = bob.frames_until(LAST, |frame| frame.is_message(LAST)).await;
    let of_carol = carol.frames_until(LAST, |frame| frame.is_message(LAST)).await;
    let records = system.records_of(&group.id()).await;
    assert_chain("alice's first socket", &first, &expected, &records);
    assert_chain("alice's second socket", &second, &expected, &records);
    assert_chain("bob", &of_bob, &expected, &records);
    assert_chain("carol", &of_carol, &expected, &records);

    let typing = json!({"userId": "alice", "conversationId": group.id()});
    let typing = [("typing:start", typing.clone()), ("typing:stop", typing)];
    let message = &expected[1].payload["id"];
    let mention = json!({"messageId": message, "conversationId": group.id(), "userId": "bob", "by": "alice"});
    assert_eq!(outside_the_chain(&first), [], "alice's typing isn't relayed to herself");
    assert_eq!(outside_the_chain(&second), [], "alice's typing isn't relayed to her second socket");
    assert_eq!(outside_the_chain(&of_carol), typing, "carol isn't mentioned");
    assert_eq!(outside_the_chain(&of_bob), [&[("mention:new", mention)], &typing[..]].concat());

    assert_eq!(mallory.frame("conversation:created").await.data["id"], elsewhere.as_str());
    mallory.assert_no_unread_frames("mallory isn't in the group").await;
}

/// Asserts that a socket received exactly the expected frames of the room, in order and linked to each other.
fn assert_chain(receiver: &str, frames: &[Frame], expected: &[ExpectedFrame], records: &[Record]) {
    let in_chain: Vec<_> = frames.iter().filter(|frame| !frame.meta.is_null()).collect();
    let mut previous = Value::Null;
    for (frame, expected) in in_chain.iter().zip(expected) {
        assert_eq!((frame.name.as_str(), &frame.data), (expected.name, &expected.payload), "{receiver}");
        let record = records.iter().find(|record| record.position() == expected.position).unwrap();
        let event_id = &record.value["eventId"];
        let meta = json!({"position": expected.position, "previous": previous, "eventId": event_id});
        assert_eq!(frame.meta, meta, "{receiver}: {}", expected.name);
        previous = json!(expected.position);
    }
    assert_eq!(in_chain.len(), expected.len(), "{receiver}: {in_chain:?}");
}

/// Sends every kind of command to a group of alice, bob and carol. Returns the frames that its room must receive.
async fn cause_every_event(system: &System, group: &Response) -> Vec<ExpectedFrame> {
    let id = group.id();
    let view = system.get_after(group, "bob", &format!("/api/conversations/{id}")).await;
    let mut expected = vec![ExpectedFrame::of(group, "conversation:created", view.data().clone())];

    let hello = system.send("alice", &id, "hello @bob").await;
    let message = hello.id();
    expected.push(ExpectedFrame::of(&hello, "message:new", message_without_seq(system, &hello).await));

    expected.extend(cause_reactions(system, &id, &message).await);

    let edited = system.edit("alice", &message, "hello @carol").await;
    expected.push(ExpectedFrame::of(&edited, "message:edited", edited.data().clone()));

    for (user, up_to) in [("bob", Some(message.as_str())), ("carol", None)] {
        let marked = system.mark_read(user, &id, up_to).await;
        let payload = json!({"conversationId": id, "userId": user, "messageId": up_to});
        expected.push(ExpectedFrame::of(&marked, "messages:read", payload));
    }

    let deleted = system.delete("alice", &message).await;
    let payload = json!({"messageId": message, "conversationId": id, "deletedAt": deleted.data()["deletedAt"]});
    expected.push(ExpectedFrame::of(&deleted, "message:deleted", payload));

    for action in ["typing_start", "typing_stop"] {
        assert_eq!(system.post("alice", json!({"action": action, "conversationId": id})).await.status, 202);
    }

    let file = json!({"url": "https://example.org/a.png", "name": "a.png", "mimeType": "image/png", "size": 7});
    let body = json!({"conversationId": id, "content": LAST, "messageType": "IMAGE", "attachments": [file],
                      "replyToId": message});
    let last = system.post("carol", body).await;
    expected.push(ExpectedFrame::of(&last, "message:new", message_without_seq(system, &last).await));
    expected
}

/// Adds and removes reactions in each way that the API knows. Returns the frames that the room must receive.
async fn cause_reactions(system: &System, conversation: &str, message: &str) -> Vec<ExpectedFrame> {
    let payload = |user: &str, label: Value| json!({"messageId": message, "conversationId": conversation, "userId": user, "emoji": "👍", "label": label});
    let add_labelled = json!({"action": "reaction", "messageId": message, "emoji": "👍", "reaction": "agreed"});
    let remove = json!({"action": "remove_reaction", "messageId": message, "emoji": "👍"});
    let remove_by_word = json!({"action": "reaction", "messageId": message, "emoji": "👍", "reaction": "remove"});

    let bob_added = system.post("bob", add_labelled).await;
    let carol_added = system.react("carol", message, "👍").await;
    let bob_removed = system.post("bob", remove).await;
    let carol_removed = system.post("carol", remove_by_word).await;
    vec![
        ExpectedFrame::of(&bob_added, "reaction:added", payload("bob", json!("agreed"))),
        ExpectedFrame::of(&carol_added, "reaction:added", payload("carol", Value::Null)),
        ExpectedFrame::of(&bob_removed, "reaction:removed", payload("bob", Value::Null)),
        ExpectedFrame::of(&carol_removed, "reaction:removed", payload("carol", Value::Null)),
    ]
}

/// A sent message as a client reads it, but without `seq`: only the fold knows that, so no frame has it.
async fn message_without_seq(system: &System, sent: &Response) -> Value {
    let read = system.get_after(sent, "bob", &format!("/api/messages/{}", sent.id())).await;
    let mut message = read.data().clone();
    assert!(message.as_object_mut().unwrap().remove("seq").is_some(), "{read:?}");
    assert_eq!(message["position"], sent.position());
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn read_marks_and_presence_are_delivered_only_in_conversations_of_up_to_fifty() {
    // Given a conversation of 51 and one of 50, one member of both and one of only the large one.
    let system = System::start().await;
    let others: Vec<String> = (0..50).map(|number| format!("member-{number}")).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let large = system.conversation("alice", &others).await;
    let small = system.conversation("alice", &others[..49]).await;
    let (user_in_both, user_in_large) = (others[0], others[49]);
    let mut in_both = Client::connect(&system, user_in_both).await;
    let mut in_large = Client::connect(&system, user_in_large).await;

    let mut alice = Client::connect(&system, "alice").await;
    let update = in_both.frame("presence:update").await;
    assert_eq!((&update.data["userId"], &update.data["status"]), (&json!("alice"), &json!("online")));

    system.mark_read("alice", &large, None).await;
    system.mark_read("alice", &small, None).await;
    let welcome = system.send("alice", &large, "welcome").await;
    system.mark_read("alice", &large, None).await;
    system.message("alice", &small, "and here").await;
    system.message("alice", &large, LAST).await;

    let of_large = in_large.frames_until(LAST, |frame| frame.is_message(LAST)).await;
    let names: Vec<&str> = of_large.iter().map(|frame| frame.name.as_str()).collect();
    assert_eq!(names, ["message:new", "message:new"]);
    assert_eq!(of_large[1].meta["previous"], welcome.position(), "an undelivered read mark isn't in the chain");

    let of_both = in_both.frames_until(LAST, |frame| frame.is_message(LAST)).await;
    let marks: Vec<_> = of_both.iter().filter(|frame| frame.name == "messages:read").collect();
    assert_eq!(marks[0].data, json!({"conversationId": small, "userId": "alice", "messageId": null}));
    assert_eq!(marks.len(), 1);

    alice.frames_until(LAST, |frame| frame.is_message(LAST)).await;
    let present = alice.emit_with_ack("presence:get", json!({"userIds": [user_in_both, user_in_large]})).await;
    assert_eq!(present.as_array().unwrap().len(), 2, "a query returns members of large conversations: {present}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_begins_when_its_room_is_opened_and_not_when_a_user_joins_it() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    system.message("alice", &conversation, "nobody is connected").await;
    // The same query makes nginx connect both to the same node.
    let same_node = json!({"options": {"query": {"client": "together"}}});

    let mut alice = open(&system, "alice", same_node.clone()).await;
    let second = system.send("alice", &conversation, "alice is connected").await;
    // A slow relay may deliver earlier frames of the conversation, too. The first frame begins the chain.
    let frames = alice.frames_until("alice's message", |frame| frame.is_message("alice is connected")).await;
    let first_frame = frames.iter().find(|frame| !frame.meta.is_null()).unwrap();
    assert_eq!(first_frame.meta["previous"], Value::Null);

    let mut bob = open(&system, "bob", same_node).await;
    let third = system.send("alice", &conversation, "bob is connected").await;
    let frame = bob.frame("message:new").await;
    assert_eq!(frame.meta["position"], third.position());
    assert_eq!(frame.meta["previous"], second.position(), "bob joins the chain that alice's socket began");
}

/// Opens a client with these options and waits until each of its sockets is ready.
async fn open(system: &System, user: &str, mut options: Value) -> Client {
    options["url"] = json!(system.url);
    options["token"] = json!(system.token(user));
    let sockets = options["sockets"].as_u64().unwrap_or(1);
    let mut client = Client::open(options).await;
    for _ in 0..sockets {
        client.frame("connection:ready").await;
    }
    client
}

/// Whether a frame is the second message with this content: the last of two sockets has received it.
fn is_second_message(content: &str) -> impl FnMut(&Frame) -> bool {
    let mut count = 0;
    move |frame| {
        count += usize::from(frame.is_message(content));
        count == 2
    }
}

/// The frames that are in no chain, without presence, which may arrive at any time.
fn outside_the_chain(frames: &[Frame]) -> Vec<(&str, Value)> {
    let frames = frames.iter().filter(|frame| frame.meta.is_null() && frame.name != "presence:update");
    frames.map(|frame| (frame.name.as_str(), frame.data.clone())).collect()
}
