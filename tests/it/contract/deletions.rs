//! Deleting messages.

use serde_json::json;

use crate::harness::System;

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_answered_logged_and_projected() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let file = json!({"url": "https://files.example/1", "name": "1", "mimeType": "image/png", "size": 1});
    let body = json!({"conversationId": conversation, "content": "hi @bob", "attachments": [file]});
    let sent = system.post("alice", body).await;
    let id = sent.id();
    let reaction = system.post("bob", json!({"action": "reaction", "messageId": id, "emoji": "👍"})).await;
    assert_eq!(reaction.status, 201, "{reaction:?}");
    let after = system.message("bob", &conversation, "ok").await;
    let deleted = system.delete("alice", &id).await;
    let record = system.record_at(&deleted).await;
    let at = &record.value["occurredAt"];
    let data = json!({"id": id, "conversationId": conversation, "deletedAt": at});
    assert_eq!((deleted.status, &deleted.body), (200, &json!({"data": data})));
    deleted.assert_rate_limit(10, 9);
    let expected = json!({"type": "MESSAGE_DELETED", "actorId": "alice", "data": {"messageId": id}});
    record.assert_event(&conversation, expected);
    system.wait_until_projected(&deleted).await;
    let row = json!({"conversation_id": conversation, "seq": 1, "id": id, "sender_id": "alice", "content": null,
                     "message_type": "TEXT", "attachments": [], "mentions": [], "reply_to_id": null,
                     "created_at": sent.data()["createdAt"], "edited_at": null, "deleted_at": at,
                     "position": record.offset});
    assert_eq!(system.message_row(&id).await, row);
    assert!(system.reaction_rows(&id).await.is_null());
    // It keeps its place.
    assert_eq!(system.message_row(&after).await["seq"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_again_succeeds_and_the_first_time_stays() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let id = system.message("alice", &conversation, "hi").await;
    let first = system.delete("alice", &id).await;
    system.wait_until_projected(&first).await;
    let row = system.message_row(&id).await;
    assert_eq!(row["deleted_at"], first.data()["deletedAt"]);
    let again = system.delete("alice", &id).await;
    assert_eq!((again.status, again.data()), (200, first.data()), "{again:?}");
    let expected = json!({"type": "MESSAGE_DELETED", "actorId": "alice", "data": {"messageId": id}});
    system.record_at(&again).await.assert_event(&conversation, expected);
    system.wait_until_projected(&again).await;
    assert_eq!(system.message_row(&id).await, row);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_message_can_be_neither_edited_nor_reacted_to() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let id = system.message("alice", &conversation, "hi").await;
    let thumb = json!({"action": "reaction", "messageId": id, "emoji": "👍"});
    assert_eq!(system.post("bob", thumb.clone()).await.status, 201);
    // Known at once, however late the projector is.
    system.wait_until_caught_up().await;
    let hold = system.pause_projection().await;
    assert_eq!(system.delete("alice", &id).await.status, 200);
    let before = system.records().await;
    for refused in [
        system.edit("alice", &id, "again").await,
        system.post("bob", thumb).await,
        system.post("bob", json!({"action": "reaction", "messageId": id, "emoji": "👍", "reaction": "remove"})).await,
        system.post("bob", json!({"action": "remove_reaction", "messageId": id, "emoji": "👍"})).await,
    ] {
        refused.assert_problem(422, "message_deleted");
        assert_eq!(refused.field_errors(), [("messageId", "message_deleted")]);
        assert_eq!(refused.header("ratelimit-limit"), "", "what is refused doesn't count: {refused:?}");
    }
    assert_eq!(system.records().await, before);
    hold.rollback().await.unwrap();
    // It can still be answered, and read up to.
    let reply = json!({"conversationId": conversation, "content": "why?", "replyToId": id});
    assert_eq!(system.post("bob", reply).await.status, 201);
    let mark = json!({"action": "mark_read", "conversationId": conversation, "messageId": id});
    assert_eq!(system.post("bob", mark).await.status, 200);
}
