//! Editing messages.

use serde_json::{Value, json};

use crate::harness::System;

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_answered_logged_and_projected() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob", "carol"]).await;
    let sent = system.post("alice", json!({"conversationId": conversation, "content": "hi @bob"})).await;
    let id = sent.id();
    let edited = system.edit("alice", &id, "hi @carol and @alice").await;
    let record = system.record_at(&edited).await;
    let (at, mentions) = (&record.value["occurredAt"], json!(["carol", "alice"]));
    let data = json!({"id": id, "conversationId": conversation, "content": "hi @carol and @alice",
                      "mentions": mentions, "editedAt": at});
    assert_eq!((edited.status, &edited.body), (200, &json!({"data": data})));
    assert_eq!(edited.header("location"), "");
    edited.assert_rate_limit(20, 19);
    let data = json!({"messageId": id, "content": "hi @carol and @alice", "mentions": mentions});
    record.assert_event(&conversation, json!({"type": "MESSAGE_EDITED", "actorId": "alice", "data": data}));
    let records = system.records_of(&conversation).await;
    let types: Vec<&Value> = records.iter().map(|record| &record.value["type"]).collect();
    // Whom an edit mentions is not notified.
    assert_eq!(types, ["CONVERSATION_CREATED", "MESSAGE_SENT", "MENTION_NOTIFICATION", "MESSAGE_EDITED"]);
    system.wait_until_projected(&edited).await;
    let row = system.message_row(&id).await;
    for (column, value) in [
        ("content", &json!("hi @carol and @alice")),
        ("mentions", &mentions),
        ("edited_at", at),
        ("created_at", &sent.data()["createdAt"]),
        ("seq", &json!(1)),
        ("position", &json!(record.offset)),
    ] {
        assert_eq!(&row[column], value, "{column}");
    }
    // The conversation is as active as before.
    assert_eq!(system.conversation_row(&conversation).await["updated_at"], sent.data()["createdAt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_changes_nothing_is_an_event_all_the_same() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let id = system.message("alice", &conversation, "hi").await;
    let (once, twice) = (system.edit("alice", &id, "hi").await, system.edit("alice", &id, "hi").await);
    assert_eq!((once.status, twice.status), (200, 200), "{once:?} {twice:?}");
    assert_ne!(once.position(), twice.position());
    system.wait_until_projected(&twice).await;
    assert_eq!(system.message_row(&id).await["edited_at"], twice.data()["editedAt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_message_with_attachments_can_be_edited_to_have_no_text() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let file = json!({"url": "https://files.example/1", "name": "1", "mimeType": "image/png", "size": 1});
    let body = json!({"conversationId": conversation, "content": "see", "attachments": [file]});
    let with_file = system.post("alice", body).await;
    let edited = system.edit("alice", &with_file.id(), "").await;
    assert_eq!((edited.status, &edited.data()["content"]), (200, &json!("")), "{edited:?}");
    system.wait_until_projected(&edited).await;
    let row = system.message_row(&with_file.id()).await;
    assert_eq!((&row["content"], &row["attachments"]), (&json!(""), &json!([file])));
    let without = system.message("alice", &conversation, "hi").await;
    for content in ["", " \n\u{a0}\u{3000}"] {
        let refused = system.edit("alice", &without, content).await;
        refused.assert_problem(422, "empty");
        assert_eq!(refused.field_errors(), [("content", "empty")]);
    }
}
