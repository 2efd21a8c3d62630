//! What sockets get: each event, to those whom it concerns and nobody else, in an unbroken chain.

use serde_json::{Value, json};

use crate::harness::http::Response;
use crate::harness::sockets::Frame;
use crate::harness::{Client, System};

/// A frame to a whole room as it has to be: its name, its payload, and its position.
type Expected = (&'static str, Value, String);

const LAST: &str = "that was all";

#[tokio::test(flavor = "multi_thread")]
async fn every_event_comes_as_the_contract_has_it_over_every_transport() {
    let system = System::start().await;
    let mut alice = open(&system, "alice", json!({"sockets": 2})).await;
    let mut bob = open(&system, "bob", json!({"transports": ["polling"]})).await;
    let mut carol = open(&system, "carol", json!({"transports": ["polling", "websocket"]})).await;
    assert_eq!(carol.wait_for("upgrade").await["transport"], "websocket");
    let mut mallory = open(&system, "mallory", json!({})).await;
    let elsewhere = system.conversation("dave", &["mallory"]).await;

    let group = system.post("alice", json!({"action": "conversation", "participantIds": ["bob", "carol"]})).await;
    let expected = everything_that_happens(&system, &group).await;

    let of_alice = alice.frames_until(LAST, twice(LAST)).await;
    let (first, second): (Vec<_>, Vec<_>) = of_alice.into_iter().partition(|frame| frame.socket == 0);
    let of_bob = bob.frames_until(LAST, |frame| frame.is_message(LAST)).await;
    let of_carol = carol.frames_until(LAST, |frame| frame.is_message(LAST)).await;
    let records = system.records_of(&group.id()).await;
    for (who, frames) in [("alice", &first), ("her other socket", &second), ("bob", &of_bob), ("carol", &of_carol)] {
        let of_room: Vec<_> = frames.iter().filter(|frame| !frame.meta.is_null()).collect();
        let mut previous = Value::Null;
        for (frame, (name, payload, position)) in of_room.iter().zip(&expected) {
            assert_eq!((frame.name.as_str(), &frame.data), (*name, payload), "{who}");
            let record = records.iter().find(|record| record.position() == *position).unwrap();
            let meta = json!({"position": position, "previous": previous, "eventId": record.value["eventId"]});
            assert_eq!(frame.meta, meta, "{who}: {name}");
            previous = json!(position);
        }
        assert_eq!(of_room.len(), expected.len(), "{who}: {of_room:?}");
    }
    let typing = json!({"userId": "alice", "conversationId": group.id()});
    let typing = [("typing:start", typing.clone()), ("typing:stop", typing)];
    let mention =
        json!({"messageId": expected[1].1["id"], "conversationId": group.id(), "userId": "bob", "by": "alice"});
    assert_eq!(passing(&first), [], "nobody is told that they type themselves");
    assert_eq!(passing(&second), [], "nor on another socket");
    assert_eq!(passing(&of_carol), typing, "only who is mentioned is told so");
    assert_eq!(passing(&of_bob), [&[("mention:new", mention)], &typing[..]].concat());

    assert_eq!(mallory.frame("conversation:created").await.data["id"], elsewhere.as_str());
    assert_eq!(mallory.unread_frames().await, [""; 0], "mallory is in none of it");
}

/// Does one of everything in a group of alice, bob and carol; what its room has to get, in order.
async fn everything_that_happens(system: &System, group: &Response) -> Vec<Expected> {
    let id = group.id();
    let seen = system.get_after(group, "bob", &format!("/api/conversations/{id}")).await;
    let mut expected = vec![("conversation:created", seen.data().clone(), group.position().to_owned())];

    let hello = system.post("alice", json!({"conversationId": id, "content": "hello @bob"})).await;
    let message = hello.id();
    expected.push(("message:new", message_without_seq(system, &hello).await, hello.position().to_owned()));
    let about = |user: &str, emoji: &str, label: Value| json!({"messageId": message, "conversationId": id, "userId": user, "emoji": emoji, "label": label});
    for (user, action, label, name) in [
        ("bob", json!({"action": "reaction", "emoji": "👍", "reaction": "agreed"}), json!("agreed"), "reaction:added"),
        ("carol", json!({"action": "reaction", "emoji": "👍"}), Value::Null, "reaction:added"),
        ("bob", json!({"action": "remove_reaction", "emoji": "👍"}), Value::Null, "reaction:removed"),
        ("carol", json!({"action": "reaction", "emoji": "👍", "reaction": "remove"}), Value::Null, "reaction:removed"),
    ] {
        let mut body = action;
        body["messageId"] = json!(message);
        let answer = system.post(user, body).await;
        expected.push((name, about(user, "👍", label), answer.position().to_owned()));
    }
    let path = format!("/api/messages/{message}");
    let edited = system.ask("alice", "PATCH", &path).json(&json!({"content": "hello @carol"})).send().await;
    expected.push(("message:edited", edited.data().clone(), edited.position().to_owned()));
    for (user, upto) in [("bob", json!(message)), ("carol", Value::Null)] {
        let read = system.post(user, json!({"action": "mark_read", "conversationId": id, "messageId": upto})).await;
        let payload = json!({"conversationId": id, "userId": user, "messageId": upto});
        expected.push(("messages:read", payload, read.position().to_owned()));
    }
    let deleted = system.ask("alice", "DELETE", &path).send().await;
    let payload = json!({"messageId": message, "conversationId": id, "deletedAt": deleted.data()["deletedAt"]});
    expected.push(("message:deleted", payload, deleted.position().to_owned()));
    for action in ["typing_start", "typing_stop"] {
        assert_eq!(system.post("alice", json!({"action": action, "conversationId": id})).await.status, 202);
    }
    let file = json!({"url": "https://example.org/a.png", "name": "a.png", "mimeType": "image/png", "size": 7});
    let body = json!({"conversationId": id, "content": LAST, "messageType": "IMAGE", "attachments": [file], "replyToId": message});
    let last = system.post("carol", body).await;
    expected.push(("message:new", message_without_seq(system, &last).await, last.position().to_owned()));
    expected
}

/// A message that was just sent, as it is read, but for what only the fold knows.
async fn message_without_seq(system: &System, sent: &Response) -> Value {
    let read = system.get_after(sent, "bob", &format!("/api/messages/{}", sent.id())).await;
    let mut message = read.data().clone();
    assert!(message.as_object_mut().unwrap().remove("seq").is_some(), "{read:?}");
    assert_eq!(message["position"], sent.position());
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn read_marks_and_presence_stay_in_conversations_of_up_to_fifty() {
    let system = System::start().await;
    let others: Vec<String> = (0..50).map(|number| format!("member-{number}")).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let large = system.conversation("alice", &others).await;
    let small = system.conversation("alice", &others[..49]).await;
    let (first, last) = (others[0], others[49]);
    let mut in_both = Client::connect(&system, first).await;
    let mut in_large = Client::connect(&system, last).await;
    let mut alice = Client::connect(&system, "alice").await;
    let told = in_both.frame("presence:update").await;
    assert_eq!((&told.data["userId"], &told.data["status"]), (&json!("alice"), &json!("online")));
    for conversation in [&large, &small] {
        system.post("alice", json!({"action": "mark_read", "conversationId": conversation})).await;
    }
    let opening = system.post("alice", json!({"conversationId": large, "content": "welcome"})).await;
    system.post("alice", json!({"action": "mark_read", "conversationId": large})).await;
    system.message("alice", &small, "and here").await;
    system.message("alice", &large, LAST).await;

    let names = |frames: &[Frame]| frames.iter().map(|frame| frame.name.clone()).collect::<Vec<_>>();
    let of_large = in_large.frames_until(LAST, |frame| frame.is_message(LAST)).await;
    assert_eq!(names(&of_large), ["message:new", "message:new"]);
    assert_eq!(of_large[1].meta["previous"], opening.position(), "what is not delivered is not in the chain");
    let of_both = in_both.frames_until(LAST, |frame| frame.is_message(LAST)).await;
    let read = of_both.iter().find(|frame| frame.name == "messages:read").unwrap();
    assert_eq!(read.data, json!({"conversationId": small, "userId": "alice", "messageId": null}));
    assert_eq!(of_both.iter().filter(|frame| frame.name == "messages:read").count(), 1);
    alice.frames_until(LAST, |frame| frame.is_message(LAST)).await;
    let answer = alice.emit_with_ack("presence:get", json!({"userIds": [first, last]})).await;
    assert_eq!(answer.as_array().unwrap().len(), 2, "who asks is told about large conversations too: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_begins_where_the_room_was_opened_and_not_where_one_came_in() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    system.message("alice", &conversation, "nobody is here").await;
    // Both on one node, where there are several: what they say there that they are is the same.
    let together = json!({"options": {"query": {"client": "together"}}});
    let mut alice = open(&system, "alice", together.clone()).await;
    let second = system.post("alice", json!({"conversationId": conversation, "content": "alice is here"})).await;
    // All that came of the conversation: more than this message only where the relay was slow.
    let frames = alice.frames_until("her message", |frame| frame.is_message("alice is here")).await;
    let first = frames.iter().find(|frame| !frame.meta.is_null()).unwrap();
    assert_eq!(first.meta["previous"], Value::Null);
    let mut bob = open(&system, "bob", together).await;
    let third = system.post("alice", json!({"conversationId": conversation, "content": "bob too"})).await;
    let frame = bob.frame("message:new").await;
    assert_eq!(frame.meta["position"], third.position());
    assert_eq!(frame.meta["previous"], second.position(), "bob was not told of it live, but his token includes it");
}

/// A client as told by `order`, ready.
async fn open(system: &System, user: &str, mut order: Value) -> Client {
    order["url"] = json!(system.url);
    order["token"] = json!(system.token(user));
    let sockets = order["sockets"].as_u64().unwrap_or(1);
    let mut client = Client::open(order).await;
    for _ in 0..sockets {
        client.frame("connection:ready").await;
    }
    client
}

/// Whether the second of two frames with this content has come: one for each of two sockets.
fn twice(content: &str) -> impl FnMut(&Frame) -> bool {
    let mut times = 0;
    move |frame| {
        times += usize::from(frame.is_message(content));
        times == 2
    }
}

/// What came that is in no chain, but for presence, which comes when it comes.
fn passing(frames: &[Frame]) -> Vec<(&str, Value)> {
    let passing = frames.iter().filter(|frame| frame.meta.is_null() && frame.name != "presence:update");
    passing.map(|frame| (frame.name.as_str(), frame.data.clone())).collect()
}
