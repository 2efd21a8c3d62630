//! Privacy: no user can read or change what they aren't part of, or learn whether it exists.

use serde_json::{Value, json};

use crate::harness::http::{Request, Response};
use crate::harness::{System, unknown_id};

/// Everything that a client can compare about two refusals: all but the values that differ in every response.
#[derive(Debug, PartialEq)]
struct VisibleResponse {
    status: u16,
    body: Value,
    headers: Vec<(String, String)>,
}

impl VisibleResponse {
    fn of(response: &Response) -> Self {
        let mut body = response.body.clone();
        body["requestId"] = Value::Null;
        let mut headers = Vec::new();
        for (name, value) in &response.headers {
            // Each query leaves one less of its limit, whatever it is about.
            if !["x-request-id", "date", "ratelimit-remaining", "ratelimit-reset"].contains(&name.as_str()) {
                headers.push((name.to_string(), value.to_str().unwrap().to_owned()));
            }
        }
        headers.sort();
        Self { status: response.status, body, headers }
    }
}

/// A request of eve's about a foreign conversation or message, and the field that the refusal must name.
struct Intrusion {
    field: &'static str,
    request: Request,
}

/// The requests by which eve could learn whether a conversation or a message exists.
fn intrusions(system: &System, own_conversation: &str, conversation: &str, message: &str) -> Vec<Intrusion> {
    let post = |field: &'static str, body: Value| Intrusion {
        field,
        request: system.ask("eve", "POST", "/api/messages").json(&body),
    };
    let get = |field: &'static str, path: &str| Intrusion { field, request: system.ask("eve", "GET", path) };
    let send = json!({"action": "message", "conversationId": conversation, "content": "hi @alice"});
    let mut mention = send.clone();
    mention["mentions"] = json!(["alice"]);
    let in_conversation = |action: &str| json!({"action": action, "conversationId": conversation});
    let reply = json!({"conversationId": own_conversation, "content": "hi", "replyToId": message});
    let mark = json!({"action": "mark_read", "conversationId": own_conversation, "messageId": message});
    let to_message = |action: &str| json!({"action": action, "messageId": message, "emoji": "👍"});
    let message_path = format!("/api/messages/{message}");
    let edit = |content: &str| Intrusion {
        field: "messageId",
        request: system.ask("eve", "PATCH", &message_path).json(&json!({"content": content})),
    };
    let delete = Intrusion { field: "messageId", request: system.ask("eve", "DELETE", &message_path) };
    vec![
        post("conversationId", send),
        post("conversationId", mention),
        post("conversationId", in_conversation("typing_start")),
        post("conversationId", in_conversation("typing_stop")),
        post("conversationId", in_conversation("mark_read")),
        post("replyToId", reply),
        post("messageId", mark),
        post("messageId", to_message("reaction")),
        post("messageId", to_message("remove_reaction")),
        edit("hi"),
        edit(""),
        delete,
        get("messageId", &message_path),
        get("conversationId", &format!("/api/messages?conversationId={conversation}")),
        get("id", &format!("/api/conversations/{conversation}")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_conversation_or_message_looks_like_an_unknown_one() {
    // Given a conversation of alice and bob with a message and a deleted one, and a conversation of eve's.
    let system = System::start().await;
    let foreign = system.conversation("alice", &["bob"]).await;
    let message = system.message("alice", &foreign, "hi").await;
    let own = system.conversation("eve", &["mallory"]).await;
    system.message("eve", &own, "mine").await;
    let deleted = system.message("alice", &foreign, "gone").await;
    system.delete("alice", &deleted).await;
    system.wait_until_caught_up().await;
    let records_before = system.records().await;

    for message in [&message, &deleted] {
        let about_foreign = intrusions(&system, &own, &foreign, message);
        let about_unknown = intrusions(&system, &own, &unknown_id(), &unknown_id());
        for (about_foreign, about_unknown) in about_foreign.into_iter().zip(about_unknown) {
            let refused = about_foreign.request.send().await;
            let unknown = about_unknown.request.send().await;
            refused.assert_field_refused(404, about_foreign.field, "not_found");
            assert_eq!(VisibleResponse::of(&refused), VisibleResponse::of(&unknown));
        }
    }
    assert_eq!(system.records().await, records_before);
    assert_eq!(system.get("mallory", "/api/messages").await.data()[0]["id"], own.as_str());
}

/// What a user may try to probe for: the ids of a conversation and of a message.
struct Probe {
    user: &'static str,
    conversation: String,
    message: String,
}

impl Probe {
    /// Marks the conversation as read and reacts to the message.
    async fn send(&self, system: &System) -> [Response; 2] {
        [
            system.mark_read(self.user, &self.conversation, None).await,
            system.react(self.user, &self.message, "👍").await,
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_probes_for_a_foreign_id_are_limited_like_those_for_an_unknown_id() {
    // Anybody can derive the id of a direct conversation.
    let system = System::start().await;
    let foreign = system.conversation("alice", &["bob"]).await;
    let message = system.message("alice", &foreign, "hi").await;
    system.wait_until_caught_up().await;
    system.leave_failed_lookups("eve", 6).await;
    system.leave_failed_lookups("mallory", 6).await;
    let eve_probes_foreign = Probe { user: "eve", conversation: foreign, message };
    let mallory_probes_unknown = || Probe { user: "mallory", conversation: unknown_id(), message: unknown_id() };

    for _ in 0..3 {
        for probe in [&eve_probes_foreign, &mallory_probes_unknown()] {
            for refused in probe.send(&system).await {
                refused.assert_problem(404, "not_found");
            }
        }
    }
    for probe in [&eve_probes_foreign, &mallory_probes_unknown()] {
        for refused in probe.send(&system).await {
            refused.assert_problem(429, "rate_limited");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_its_author_can_change_a_message() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob", "carol"]).await;
    let message = system.message("alice", &conversation, "hi").await;
    let deleted = system.message("alice", &conversation, "gone").await;
    system.delete("alice", &deleted).await;
    system.wait_until_caught_up().await;
    let records_before = system.records().await;
    for message in [&message, &deleted] {
        for refused in [
            system.edit("bob", message, "mine now").await,
            system.edit("bob", message, "").await,
            system.delete("bob", message).await,
        ] {
            refused.assert_problem(403, "not_author");
            refused.assert_not_counted();
        }
    }
    assert_eq!(system.records().await, records_before);
}
