//! Read marks: how far a user has read a conversation.

use serde_json::{Value, json};

use crate::harness::System;
use crate::harness::http::Response;

/// What a read mark of bob's must have caused.
struct ExpectedMark {
    message: Value,
    last_read_seq: i64,
    remaining: u32,
}

/// Asserts the response of a read mark of bob's, its event and its row. Returns bob's row.
async fn assert_marked(system: &System, conversation: &str, done: &Response, expected: ExpectedMark) -> Value {
    let ExpectedMark { message, last_read_seq, remaining } = expected;
    let data = json!({"conversationId": conversation, "messageId": message});
    assert_eq!((done.status, &done.body), (200, &json!({"data": data})), "{done:?}");
    done.assert_rate_limit(120, remaining);
    let event = json!({"type": "MESSAGES_READ", "actorId": "bob", "data": {"messageId": message}});
    system.record_at(done).await.assert_event(conversation, event);
    system.wait_until_projected(done).await;
    let bob = system.member_rows(conversation).await[1].take();
    assert_eq!((&bob["user_id"], &bob["last_read_seq"]), (&json!("bob"), &json!(last_read_seq)));
    bob
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_mark_is_returned_logged_and_projected() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    system.message("alice", &conversation, "one").await;
    let second = system.message("alice", &conversation, "two").await;
    system.message("alice", &conversation, "three").await;

    let up_to_second = system.mark_read("bob", &conversation, Some(&second)).await;
    let expected = ExpectedMark { message: json!(second), last_read_seq: 2, remaining: 119 };
    let bob = assert_marked(&system, &conversation, &up_to_second, expected).await;
    assert_eq!(bob["last_read_at"], system.record_at(&up_to_second).await.value["occurredAt"]);

    let everything = system.mark_read("bob", &conversation, None).await;
    let expected = ExpectedMark { message: Value::Null, last_read_seq: 3, remaining: 118 };
    let bob = assert_marked(&system, &conversation, &everything, expected).await;
    assert_eq!(bob["last_read_at"], system.record_at(&everything).await.value["occurredAt"]);

    // A command without `messageId` also means everything.
    let without_field = system.post("bob", json!({"action": "mark_read", "conversationId": conversation})).await;
    let expected = ExpectedMark { message: Value::Null, last_read_seq: 3, remaining: 117 };
    assert_marked(&system, &conversation, &without_field, expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_mark_never_moves_back() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let first = system.message("alice", &conversation, "one").await;
    system.message("alice", &conversation, "two").await;
    let everything = system.mark_read("bob", &conversation, None).await;
    system.wait_until_projected(&everything).await;
    let members = system.member_rows(&conversation).await;

    let back_to_first = system.mark_read("bob", &conversation, Some(&first)).await;

    // The command is valid, so it is an event. The fold ignores it.
    assert_eq!(back_to_first.status, 200, "{back_to_first:?}");
    system.record_at(&back_to_first).await;
    system.wait_until_projected(&back_to_first).await;
    assert_eq!(system.member_rows(&conversation).await, members);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_mark_must_name_a_message_of_its_conversation() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let other_conversation = system.conversation("bob", &["carol"]).await;
    let message = system.message("bob", &other_conversation, "one").await;
    system.wait_until_caught_up().await;

    let refused = system.mark_read("bob", &conversation, Some(&message)).await;

    refused.assert_field_refused(404, "messageId", "not_found");
    assert_eq!(system.records_of(&conversation).await.len(), 1);
}
