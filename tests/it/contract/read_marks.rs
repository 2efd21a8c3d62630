//! Saying how far one has read.

use serde_json::{Value, json};

use crate::harness::System;

fn mark(conversation: &str, message: Option<&str>) -> Value {
    json!({"action": "mark_read", "conversationId": conversation, "messageId": message})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_mark_is_answered_logged_and_projected() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let mut messages = Vec::new();
    for content in ["one", "two", "three"] {
        messages.push(system.message("alice", &conversation, content).await);
    }
    // Up to a message; then everything so far, once with null and once without the field.
    let all = json!({"action": "mark_read", "conversationId": conversation});
    for (left, body, message, seq) in [
        (119, mark(&conversation, Some(&messages[1])), json!(messages[1]), 2),
        (118, mark(&conversation, None), Value::Null, 3),
        (117, all, Value::Null, 3),
    ] {
        let done = system.post("bob", body).await;
        let data = json!({"conversationId": conversation, "messageId": message});
        assert_eq!((done.status, &done.body), (200, &json!({"data": data})), "{done:?}");
        done.assert_rate_limit(120, left);
        let record = system.record_at(&done).await;
        let event = json!({"type": "MESSAGES_READ", "actorId": "bob", "data": {"messageId": message}});
        record.assert_event(&conversation, event);
        system.wait_until_projected(&done).await;
        let bob = &system.member_rows(&conversation).await[1];
        assert_eq!((&bob["user_id"], &bob["last_read_seq"]), (&json!("bob"), &json!(seq)));
        if left != 117 {
            assert_eq!(bob["last_read_at"], record.value["occurredAt"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_mark_never_moves_back() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let first = system.message("alice", &conversation, "one").await;
    system.message("alice", &conversation, "two").await;
    let all = system.post("bob", mark(&conversation, None)).await;
    system.wait_until_projected(&all).await;
    let members = system.member_rows(&conversation).await;
    let back = system.post("bob", mark(&conversation, Some(&first))).await;
    // It is valid, so it is an event; the fold sees that it changes nothing.
    assert_eq!(back.status, 200, "{back:?}");
    system.record_at(&back).await;
    system.wait_until_projected(&back).await;
    assert_eq!(system.member_rows(&conversation).await, members);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_mark_is_about_a_message_of_its_conversation() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let elsewhere = system.conversation("bob", &["carol"]).await;
    let message = system.message("bob", &elsewhere, "one").await;
    system.wait_until_caught_up().await;
    let refused = system.post("bob", mark(&conversation, Some(&message))).await;
    refused.assert_problem(404, "not_found");
    assert_eq!(refused.field_errors(), [("messageId", "not_found")]);
    assert_eq!(system.records_of(&conversation).await.len(), 1);
}
