//! No one reads or writes where they don't belong, or learns what is there.

use serde_json::{Value, json};

use crate::harness::http::Response;
use crate::harness::{System, unknown_id};

/// What anyone can see of an answer, but for what is new with each.
fn seen(answer: &Response) -> (u16, Value, Vec<(String, String)>) {
    let mut body = answer.body.clone();
    body["requestId"] = Value::Null;
    let mut headers = Vec::new();
    for (name, value) in &answer.headers {
        if !["x-request-id", "date"].contains(&name.as_str()) {
            headers.push((name.to_string(), value.to_str().unwrap().to_owned()));
        }
    }
    headers.sort();
    (answer.status, body, headers)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_someone_elses_looks_as_if_it_were_not_there() {
    let system = System::start().await;
    let theirs = system.conversation("alice", &["bob"]).await;
    let message = system.message("alice", &theirs, "hi").await;
    let own = system.conversation("eve", &["mallory"]).await;
    system.message("eve", &own, "mine").await;
    let deleted = system.message("alice", &theirs, "gone").await;
    system.delete("alice", &deleted).await;
    system.wait_until_caught_up().await;
    let before = system.records().await;
    let in_conversation =
        |action: &str, id: &str| ("POST", "/api/messages".to_owned(), json!({"action": action, "conversationId": id}));
    let to_message = |action: &str, id: &str| {
        ("POST", "/api/messages".to_owned(), json!({"action": action, "messageId": id, "emoji": "👍"}))
    };
    let every_request = |conversation: &str, message: &str| {
        let mut send = in_conversation("message", conversation);
        send.2["content"] = json!("hi @alice");
        let mut mention = send.clone();
        mention.2["mentions"] = json!(["alice"]);
        let reply = json!({"conversationId": own, "content": "hi", "replyToId": message});
        let mark = json!({"action": "mark_read", "conversationId": own, "messageId": message});
        let path = format!("/api/messages/{message}");
        vec![
            ("conversationId", send),
            ("conversationId", mention),
            ("conversationId", in_conversation("typing_start", conversation)),
            ("conversationId", in_conversation("typing_stop", conversation)),
            ("conversationId", in_conversation("mark_read", conversation)),
            ("replyToId", ("POST", "/api/messages".to_owned(), reply)),
            ("messageId", ("POST", "/api/messages".to_owned(), mark)),
            ("messageId", to_message("reaction", message)),
            ("messageId", to_message("remove_reaction", message)),
            ("messageId", ("PATCH", path.clone(), json!({"content": "hi"}))),
            ("messageId", ("PATCH", path.clone(), json!({"content": ""}))),
            ("messageId", ("DELETE", path.clone(), Value::Null)),
            ("messageId", ("GET", path, Value::Null)),
            ("conversationId", ("GET", format!("/api/messages?conversationId={conversation}"), Value::Null)),
            ("id", ("GET", format!("/api/conversations/{conversation}"), Value::Null)),
        ]
    };
    let ask = async |(method, path, body): &(&str, String, Value)| {
        let request = system.ask("eve", method, path);
        if body.is_null() { request.send().await } else { request.json(body).send().await }
    };
    let nothing = every_request(&unknown_id(), &unknown_id());
    for message in [&message, &deleted] {
        for ((field, theirs), (_, nothing)) in every_request(&theirs, message).iter().zip(&nothing) {
            let (theirs, nothing) = (ask(theirs).await, ask(nothing).await);
            theirs.assert_problem(404, "not_found");
            assert_eq!(theirs.field_errors(), [(*field, "not_found")], "{theirs:?}");
            assert_eq!(seen(&theirs), seen(&nothing));
        }
    }
    assert_eq!(system.records().await, before);
    assert_eq!(system.get("mallory", "/api/messages").await.data()[0]["id"], own.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_again_and_again_does_not_tell_what_is_there_either() {
    let system = System::start().await;
    // Anyone can derive the id of a pair's conversation.
    let theirs = system.conversation("alice", &["bob"]).await;
    let message = system.message("alice", &theirs, "hi").await;
    system.wait_until_caught_up().await;
    let mark = |user: &str, conversation: &str| {
        let body = json!({"action": "mark_read", "conversationId": conversation});
        system.ask(user, "POST", "/api/messages").json(&body)
    };
    let react = |user: &str, message: &str| {
        let body = json!({"action": "reaction", "messageId": message, "emoji": "👍"});
        system.ask(user, "POST", "/api/messages").json(&body)
    };
    for user in ["eve", "mallory"] {
        system.leave_failed_lookups(user, 6).await;
    }
    for _ in 0..3 {
        for (user, conversation, message) in
            [("eve", theirs.clone(), message.clone()), ("mallory", unknown_id(), unknown_id())]
        {
            mark(user, &conversation).send().await.assert_problem(404, "not_found");
            react(user, &message).send().await.assert_problem(404, "not_found");
        }
    }
    for request in
        [mark("eve", &theirs), react("eve", &message), mark("mallory", &unknown_id()), react("mallory", &unknown_id())]
    {
        request.send().await.assert_problem(429, "rate_limited");
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
    let before = system.records().await;
    for message in [&message, &deleted] {
        for refused in [
            system.edit("bob", message, "mine now").await,
            system.edit("bob", message, "").await,
            system.delete("bob", message).await,
        ] {
            refused.assert_problem(403, "not_author");
            assert_eq!(refused.header("ratelimit-limit"), "");
        }
    }
    assert_eq!(system.records().await, before);
}
