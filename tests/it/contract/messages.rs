//! Sending messages: what the sender gets back, what the log and the read model store, and whom a mention notifies.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::System;

#[tokio::test(flavor = "multi_thread")]
async fn a_sent_message_is_returned_logged_and_projected() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    // A body may omit `action`, and a field that is null counts as omitted.
    let body = json!({"conversationId": conversation, "content": "hi\n  there ", "replyToId": null, "mentions": null});

    let sent = system.post("alice", body).await;

    let record = system.record_at(&sent).await;
    let (id, sent_at) = (sent.id(), &record.value["occurredAt"]);
    let data = json!({"id": id, "conversationId": conversation, "senderId": "alice", "content": "hi\n  there ",
                      "messageType": "TEXT", "attachments": [], "mentions": [], "replyToId": null, "reactions": [],
                      "createdAt": sent_at, "editedAt": null, "deletedAt": null});
    assert_eq!((sent.status, &sent.body), (201, &json!({"data": data})));
    assert_eq!(id.parse::<Uuid>().unwrap().get_version_num(), 7);
    assert_eq!(sent.header("location"), format!("/api/messages/{id}"));
    sent.assert_rate_limit(30, 29);
    let expected = json!({"type": "MESSAGE_SENT", "actorId": "alice",
                          "data": {"messageId": id, "content": "hi\n  there ", "messageType": "TEXT",
                                   "attachments": [], "mentions": []}});
    record.assert_event(&conversation, expected);
    assert_eq!(system.records_of(&conversation).await.len(), 2);
    system.wait_until_projected(&sent).await;
    let row = json!({"conversation_id": conversation, "seq": 1, "id": id, "sender_id": "alice",
                     "content": "hi\n  there ", "message_type": "TEXT", "attachments": [], "mentions": [],
                     "reply_to_id": null, "created_at": sent_at, "edited_at": null, "deleted_at": null,
                     "position": record.offset});
    assert_eq!(system.message_row(&id).await, row);
    let row = system.conversation_row(&conversation).await;
    assert_eq!((&row["last_seq"], &row["last_message_id"]), (&json!(1), &json!(id)));
    assert_eq!((&row["updated_at"], &row["position"]), (sent_at, &json!(sent.position())));
    // The sender has read everything up to their own message.
    let members = json!([{"user_id": "alice", "last_read_seq": 1, "last_read_at": sent_at},
                         {"user_id": "bob", "last_read_seq": 0, "last_read_at": null}]);
    assert_eq!(system.member_rows(&conversation).await, members);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_keeps_the_type_attachments_and_reply_of_its_sender() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let first = system.message("bob", &conversation, "look?").await;
    let attachments = json!([
        {"url": "https://files.example/a%20b?c=d#e", "name": "böse.png", "mimeType": "image/png", "size": 0},
        {"url": "HTTPS://files.example/2", "name": "2", "mimeType": "text/plain; charset=utf-8",
         "size": 9_007_199_254_740_991_u64},
    ]);
    let body = json!({"action": "message", "conversationId": conversation, "content": "here", "messageType": "IMAGE",
                      "attachments": attachments, "replyToId": first});

    let sent = system.post("alice", body).await;

    assert_eq!(sent.status, 201, "{sent:?}");
    let record = system.record_at(&sent).await;
    let data = json!({"messageId": sent.id(), "content": "here", "messageType": "IMAGE", "attachments": attachments,
                      "mentions": [], "replyToId": first});
    record.assert_event(&conversation, json!({"type": "MESSAGE_SENT", "actorId": "alice", "data": data}));
    system.wait_until_projected(&sent).await;
    let row = system.message_row(&sent.id()).await;
    assert_eq!((&sent.data()["messageType"], &row["message_type"]), (&json!("IMAGE"), &json!("IMAGE")));
    assert_eq!((&sent.data()["attachments"], &row["attachments"]), (&attachments, &attachments));
    assert_eq!((&sent.data()["replyToId"], &row["reply_to_id"]), (&json!(first), &json!(first)));
    assert_eq!((&sent.data()["content"], &row["content"]), (&json!("here"), &json!("here")));
    assert_eq!(row["seq"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_type_is_accepted() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    for kind in ["TEXT", "VIDEO", "AUDIO", "FILE"] {
        let sent =
            system.post("alice", json!({"conversationId": conversation, "content": kind, "messageType": kind})).await;
        assert_eq!((sent.status, &sent.data()["messageType"]), (201, &json!(kind)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_text_needs_an_attachment() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let file = json!({"url": "https://files.example/1", "name": "1", "mimeType": "image/png", "size": 1});
    let ten = json!(vec![&file; 10]);
    for (content, logged_content) in [(Some(""), ""), (None, ""), (Some(" \n\u{a0}"), " \n\u{a0}")] {
        let mut body = json!({"conversationId": conversation, "messageType": "FILE", "attachments": ten});
        if let Some(content) = content {
            body["content"] = json!(content);
        }

        let sent = system.post("alice", body.clone()).await;
        assert_eq!((sent.status, &sent.data()["content"]), (201, &json!(logged_content)), "{sent:?}");
        assert_eq!(system.record_at(&sent).await.value["data"]["content"], logged_content);
        system.wait_until_projected(&sent).await;
        assert_eq!(system.message_row(&sent.id()).await["content"], logged_content);

        body["attachments"] = json!([]);
        let refused = system.post("alice", body).await;
        assert_eq!(refused.field_errors(), [("content", if content.is_some() { "empty" } else { "required" })]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_counted_in_characters_and_stored_unchanged() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let longest = "🎉".repeat(4_000);
    // Characters that databases, parsers and terminals often mishandle.
    let special = "\u{1}\u{7f}\u{85}\u{feff}\u{202e}\u{ffff}\r\n\t\\u0000 \\ \" ' ; -- %s {} $1";
    for content in [&longest, special] {
        let sent = system.send("alice", &conversation, content).await;
        assert_eq!((sent.status, &sent.data()["content"]), (201, &json!(content)), "{sent:?}");
        assert_eq!(system.record_at(&sent).await.value["data"]["content"], *content);
        system.wait_until_projected(&sent).await;
        assert_eq!(system.message_row(&sent.id()).await["content"], *content);
        let read = system.get("bob", &format!("/api/messages/{}", sent.id())).await;
        assert_eq!(read.data()["content"], *content);
    }
    let refused = system.send("alice", &conversation, &format!("{longest}!")).await;
    assert_eq!(refused.field_errors(), [("content", "too_long")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mentioned_user_but_the_sender_is_notified_on_the_messages_partition() {
    let system = System::start().await;
    let everyone = ["bob", "bobby", "carol", "dan", "x.y"];
    let conversation = system.conversation("alice", &everyone).await;
    let content = "@bobby, @alice and (@x.y): mail me@carol or @danny, not @eve. @bobby!";
    let body = json!({"conversationId": conversation, "content": content, "mentions": ["dan", "alice", "dan"]});

    let sent = system.post("alice", body).await;

    // The users of the list come first, then those of the text, each once. In the text the longest matching id counts,
    // and an @ inside a word is no mention.
    let mentions = json!(["dan", "alice", "bobby", "x.y"]);
    assert_eq!((sent.status, &sent.data()["mentions"]), (201, &mentions), "{sent:?}");
    let records = system.records_of(&conversation).await;
    let [_created, message, notifications @ ..] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(message.position(), sent.position());
    assert_eq!((&message.value["type"], &message.value["data"]["mentions"]), (&json!("MESSAGE_SENT"), &mentions));
    let mut notified = Vec::new();
    for notification in notifications {
        let user = notification.value["data"]["userId"].clone();
        let data = json!({"messageId": sent.id(), "userId": user});
        let expected = json!({"type": "MENTION_NOTIFICATION", "actorId": "alice", "data": data});
        notification.assert_event(&conversation, expected);
        assert_eq!(notification.partition, message.partition);
        assert_eq!(notification.value["occurredAt"], message.value["occurredAt"]);
        assert_eq!(notification.headers["traceparent"], message.headers["traceparent"]);
        notified.push(user);
    }
    assert_eq!(notified, ["dan", "bobby", "x.y"].map(Value::from));
    system.wait_until_projected(&sent).await;
    assert_eq!(system.message_row(&sent.id()).await["mentions"], mentions);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_can_mention_twenty_users_and_no_more() {
    let system = System::start().await;
    let others: Vec<String> = (0..21).map(|number| format!("u{number:02}")).collect();
    let everyone: Vec<&str> = others.iter().map(String::as_str).collect();
    let conversation = system.conversation("alice", &everyone).await;
    let text = |users: &[&str]| users.iter().map(|user| format!("@{user} ")).collect::<String>();

    let sent = system.send("alice", &conversation, &text(&everyone[..20])).await;
    assert_eq!(sent.status, 201, "{sent:?}");
    let records_before = system.records().await.len();
    assert_eq!(records_before, 1 + 1 + 20);

    for body in [
        json!({"conversationId": conversation, "content": text(&everyone)}),
        json!({"conversationId": conversation, "content": text(&everyone[..20]), "mentions": ["u20"]}),
        json!({"conversationId": conversation, "content": "hi", "mentions": everyone}),
    ] {
        assert_eq!(system.post("alice", body).await.field_errors(), [("mentions", "too_many")]);
    }
    let stranger = json!({"conversationId": conversation, "content": "hi", "mentions": ["u01", "eve"]});
    assert_eq!(system.post("alice", stranger).await.field_errors(), [("mentions[1]", "not_a_participant")]);
    assert_eq!(system.records().await.len(), records_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_continues_the_trace_of_its_request() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let body = json!({"conversationId": conversation, "content": "hi @bob"});
    let request = system.ask("alice", "POST", "/api/messages").json(&body);
    let sent = request.header("traceparent", format!("00-{trace}-b7ad6b7169203331-01")).send().await;
    let record = system.record_at(&sent).await;
    let traceparent = &record.headers["traceparent"];
    assert!(traceparent.starts_with(&format!("00-{trace}-")), "{traceparent}");
    assert!(
        !traceparent.contains("b7ad6b7169203331"),
        "the event must name the request's own span, not the caller's: {traceparent}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_can_act_on_a_message_before_it_is_projected() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    system.wait_until_caught_up().await;
    let pause = system.pause_projection().await;
    let id = system.message("alice", &conversation, "hi").await;
    let reply = json!({"conversationId": conversation, "content": "hello", "replyToId": id});

    assert_eq!(system.react("bob", &id, "👍").await.status, 201);
    assert_eq!(system.post("bob", reply).await.status, 201);
    assert_eq!(system.mark_read("bob", &conversation, Some(&id)).await.status, 200);
    system.edit("bob", &id, "mine").await.assert_problem(403, "not_author");
    assert_eq!(system.edit("alice", &id, "").await.field_errors(), [("content", "empty")], "it has no attachments");
    assert_eq!(system.edit("alice", &id, "hey").await.status, 200);
    assert_eq!(system.delete("alice", &id).await.status, 200);
    system.react("bob", &id, "👍").await.assert_problem(422, "message_deleted");

    pause.rollback().await.unwrap();
    system.wait_until_caught_up().await;
    let read = system.get("bob", &format!("/api/messages/{id}")).await;
    assert!(!read.data()["deletedAt"].is_null(), "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_not_projected_is_unknown_to_strangers_and_in_other_conversations() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let other_conversation = system.conversation("alice", &["carol"]).await;
    system.wait_until_caught_up().await;
    let pause = system.pause_projection().await;
    let id = system.message("alice", &conversation, "hi").await;

    let by_a_stranger = system.react("eve", &id, "👍").await;
    let reply = json!({"conversationId": other_conversation, "content": "hello", "replyToId": id});
    let from_elsewhere = system.post("alice", reply).await;

    by_a_stranger.assert_problem(503, "projection_behind");
    from_elsewhere.assert_problem(503, "projection_behind");
    pause.rollback().await.unwrap();
}
