//! Whatever the system puts on the topic and on sockets is as the AsyncAPI document says.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::document;
use crate::harness::http::Response;
use crate::harness::log::Record;
use crate::harness::sockets::Frame;
use crate::harness::{Client, System};

/// The messages of the document, and those that a test has seen.
struct Messages {
    document: Value,
    seen: BTreeSet<String>,
}

impl Messages {
    /// The keys of the messages that the server sends: records, events and acknowledgements.
    fn sent_by_the_server(&self) -> BTreeSet<String> {
        let messages = self.document["components"]["messages"].as_object().unwrap();
        let is_sent = |key: &&String| !key.starts_with("client.") || key.ends_with(".acknowledgement");
        messages.keys().filter(is_sent).cloned().collect()
    }

    /// Asserts that a part of a message, such as its payload, is as the document says.
    #[track_caller]
    fn assert_part(&mut self, key: &str, part: &str, value: &Value) {
        let message = &self.document["components"]["messages"][key];
        let schema = message.pointer(part).unwrap_or_else(|| panic!("the document has no {part} of {key}: {value}"));
        let validator = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
        let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{key}{part}: {value}: {errors:#?}");
        self.seen.insert(key.to_owned());
    }

    #[track_caller]
    fn assert_record(&mut self, record: &Record) {
        let key = format!("{}.v{}", record.headers["ce_type"], record.value["version"]);
        self.assert_part(&key, "/payload", &record.value);
        self.assert_part(&key, "/headers", &json!(record.headers));
        self.assert_part(&key, "/bindings/kafka/key", &json!(record.key));
    }

    #[track_caller]
    fn assert_frame(&mut self, frame: &Frame) {
        let key = format!("server.{}", frame.name.replace(':', "."));
        self.assert_part(&key, "/payload", &frame.data);
        let has_headers = !self.document["components"]["messages"][&key]["headers"].is_null();
        assert_eq!(!frame.meta.is_null(), has_headers, "{key}: the second argument is {}", frame.meta);
        if has_headers {
            self.assert_part(&key, "/headers", &frame.meta);
        }
    }
}

/// Sends every kind of command in a new conversation of alice and bob. Returns the conversation.
async fn send_every_command(system: &System) -> String {
    let group = json!({"action": "conversation", "participantIds": ["bob"], "title": "Lunch"});
    let conversation = system.post("alice", group).await.id();
    let file = json!({"url": "https://example.org/a.png", "name": "a.png", "mimeType": "image/png", "size": 7});
    let message = json!({"conversationId": conversation, "content": "hi @bob", "messageType": "IMAGE",
                         "attachments": [file]});
    let message = system.post_with_key("alice", "first", message).await.id();
    for body in [
        json!({"conversationId": conversation, "content": "and", "replyToId": message}),
        json!({"action": "reaction", "messageId": message, "emoji": "👍", "reaction": "agreed"}),
        json!({"action": "reaction", "messageId": message, "emoji": "👍"}),
        json!({"action": "remove_reaction", "messageId": message, "emoji": "👍"}),
        json!({"action": "mark_read", "conversationId": conversation}),
        json!({"action": "mark_read", "conversationId": conversation, "messageId": message}),
        json!({"action": "typing_start", "conversationId": conversation}),
        json!({"action": "typing_stop", "conversationId": conversation}),
    ] {
        assert_done(&system.post("alice", body).await);
    }
    assert_done(&system.edit("alice", &message, "hello @bob").await);
    assert_done(&system.delete("alice", &message).await);
    conversation
}

#[track_caller]
fn assert_done(response: &Response) {
    assert!((200..300).contains(&response.status), "{response:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_frame_and_acknowledgement_is_as_the_document_says() {
    let system = System::start().await;
    let mut messages = Messages { document: document(), seen: BTreeSet::new() };
    let mut bob = Client::open(json!({"url": system.url, "token": system.token("bob")})).await;
    messages.assert_frame(&bob.frame("connection:ready").await);

    let conversation = send_every_command(&system).await;
    let frames = bob.frames_until("the deletion", |frame| frame.name == "message:deleted").await;
    frames.iter().for_each(|frame| messages.assert_frame(frame));
    for record in system.records_of(&conversation).await {
        messages.assert_record(&record);
    }

    let alice = Client::connect(&system, "alice").await;
    messages.assert_frame(&bob.frame("presence:update").await);
    drop(alice);
    for request in [json!({"userIds": ["alice", "bob"]}), json!({"userIds": "alice"})] {
        let acknowledgement = bob.emit_with_ack("presence:get", request).await;
        messages.assert_part("client.presence.get.acknowledgement", "/payload", &acknowledgement);
    }
    for (key, message) in messages.document.clone()["components"]["messages"].as_object().unwrap() {
        if key.starts_with("client.") && !key.contains("presence") {
            bob.emit(message["name"].as_str().unwrap(), json!({"messageId": "7", "content": "hi"})).await;
            let redirect = bob.frame("message:redirect_to_api").await;
            assert_eq!(redirect.data["event"], message["name"]);
            messages.assert_frame(&redirect);
        }
    }
    assert_eq!(messages.seen, messages.sent_by_the_server(), "left: what the system sent; right: the document");
}
