//! Editing messages.

use serde_json::{Value, json};

use crate::harness::System;

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_returned_logged_and_projected() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob", "carol"]).await;
    let sent = system.send("alice", &conversation, "hi @bob").await;
    let id = sent.id();

    let edited = system.edit("alice", &id, "hi @carol and @alice").await;

    let record = system.record_at(&edited).await;
    let (edited_at, mentions) = (&record.value["occurredAt"], json!(["carol", "alice"]));
    let data = json!({"id": id, "conversationId": conversation, "content": "hi @carol and @alice",
                      "mentions": mentions, "editedAt": edited_at});
    assert_eq!((edited.status, &edited.body), (200, &json!({"data": data})));
    assert_eq!(edited.header("location"), "");
    edited.assert_rate_limit(20, 19);
    let data = json!({"messageId": id, "content": "hi @carol and @alice", "mentions": mentions});
    record.assert_event(&conversation, json!({"type": "MESSAGE_EDITED", "actorId": "alice", "data": data}));
    let records = system.records_of(&conversation).await;
    let types: Vec<&Value> = records.iter().map(|record| &record.value["type"]).collect();
    // An edit notifies nobody, so the only notification is that of the original message.
    assert_eq!(types, ["CONVERSATION_CREATED", "MESSAGE_SENT", "MENTION_NOTIFICATION", "MESSAGE_EDITED"]);
    system.wait_until_projected(&edited).await;
    let row = system.message_row(&id).await;
    for (column, value) in [
        ("content", &json!("hi @carol and @alice")),
        ("mentions", &mentions),
        ("edited_at", edited_at),
        ("created_at", &sent.data()["createdAt"]),
        ("seq", &json!(1)),
        ("position", &json!(record.offset)),
    ] {
        assert_eq!(&row[column], value, "{column}");
    }
    let conversation_row = system.conversation_row(&conversation).await;
    assert_eq!(conversation_row["updated_at"], sent.data()["createdAt"], "an edit is no activity in the conversation");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_with_the_same_content_is_still_an_event() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let id = system.message("alice", &conversation, "hi").await;

    let first = system.edit("alice", &id, "hi").await;
    let second = system.edit("alice", &id, "hi").await;

    assert_eq!((first.status, second.status), (200, 200), "{first:?} {second:?}");
    assert_ne!(first.position(), second.position());
    system.wait_until_projected(&second).await;
    assert_eq!(system.message_row(&id).await["edited_at"], second.data()["editedAt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_can_remove_the_text_only_from_a_message_with_attachments() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let file = json!({"url": "https://files.example/1", "name": "1", "mimeType": "image/png", "size": 1});
    let body = json!({"conversationId": conversation, "content": "see", "attachments": [file]});
    let with_file = system.post("alice", body).await.id();

    let edited = system.edit("alice", &with_file, "").await;

    assert_eq!((edited.status, &edited.data()["content"]), (200, &json!("")), "{edited:?}");
    system.wait_until_projected(&edited).await;
    let row = system.message_row(&with_file).await;
    assert_eq!((&row["content"], &row["attachments"]), (&json!(""), &json!([file])));

    let without_file = system.message("alice", &conversation, "hi").await;
    for content in ["", " \n\u{a0}\u{3000}"] {
        system.edit("alice", &without_file, content).await.assert_field_refused(422, "content", "empty");
    }
}
