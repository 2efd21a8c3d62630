//! Deleting messages: what remains of a deleted message, and what users can still do with it.

use serde_json::json;

use crate::harness::System;

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_returned_logged_and_projected() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let file = json!({"url": "https://files.example/1", "name": "1", "mimeType": "image/png", "size": 1});
    let body = json!({"conversationId": conversation, "content": "hi @bob", "attachments": [file]});
    let sent = system.post("alice", body).await;
    let id = sent.id();
    let reaction = system.react("bob", &id, "👍").await;
    assert_eq!(reaction.status, 201, "{reaction:?}");
    let next_message = system.message("bob", &conversation, "ok").await;

    let deleted = system.delete("alice", &id).await;

    let record = system.record_at(&deleted).await;
    let deleted_at = &record.value["occurredAt"];
    let data = json!({"id": id, "conversationId": conversation, "deletedAt": deleted_at});
    assert_eq!((deleted.status, &deleted.body), (200, &json!({"data": data})));
    deleted.assert_rate_limit(10, 9);
    let expected = json!({"type": "MESSAGE_DELETED", "actorId": "alice", "data": {"messageId": id}});
    record.assert_event(&conversation, expected);
    system.wait_until_projected(&deleted).await;
    let row = json!({"conversation_id": conversation, "seq": 1, "id": id, "sender_id": "alice", "content": null,
                     "message_type": "TEXT", "attachments": [], "mentions": [], "reply_to_id": null,
                     "created_at": sent.data()["createdAt"], "edited_at": null, "deleted_at": deleted_at,
                     "position": record.offset});
    assert_eq!(system.message_row(&id).await, row);
    assert!(system.reaction_rows(&id).await.is_null());
    assert_eq!(system.message_row(&next_message).await["seq"], 2, "a deleted message keeps its seq");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_deletion_succeeds_and_keeps_the_first_time() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let id = system.message("alice", &conversation, "hi").await;
    let first = system.delete("alice", &id).await;
    system.wait_until_projected(&first).await;
    let row = system.message_row(&id).await;
    assert_eq!(row["deleted_at"], first.data()["deletedAt"]);

    let second = system.delete("alice", &id).await;

    assert_eq!((second.status, second.data()), (200, first.data()), "{second:?}");
    let expected = json!({"type": "MESSAGE_DELETED", "actorId": "alice", "data": {"messageId": id}});
    system.record_at(&second).await.assert_event(&conversation, expected);
    system.wait_until_projected(&second).await;
    assert_eq!(system.message_row(&id).await, row);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_message_can_be_neither_edited_nor_reacted_to() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let id = system.message("alice", &conversation, "hi").await;
    assert_eq!(system.react("bob", &id, "👍").await.status, 201);
    system.wait_until_caught_up().await;
    // Given a deletion that the projector hasn't reached.
    let pause = system.pause_projection().await;
    assert_eq!(system.delete("alice", &id).await.status, 200);
    let records_before = system.records().await;

    for refused in [
        system.edit("alice", &id, "again").await,
        system.react("bob", &id, "👍").await,
        system.post("bob", json!({"action": "reaction", "messageId": id, "emoji": "👍", "reaction": "remove"})).await,
        system.post("bob", json!({"action": "remove_reaction", "messageId": id, "emoji": "👍"})).await,
    ] {
        refused.assert_field_refused(422, "messageId", "message_deleted");
        refused.assert_not_counted();
    }
    assert_eq!(system.records().await, records_before);

    pause.rollback().await.unwrap();
    // Participants can still reply to it and mark it as read.
    let reply = json!({"conversationId": conversation, "content": "why?", "replyToId": id});
    assert_eq!(system.post("bob", reply).await.status, 201);
    assert_eq!(system.mark_read("bob", &conversation, Some(&id)).await.status, 200);
}
