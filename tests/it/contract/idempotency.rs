//! Commands with an idempotency key: a retry has no second effect and gets the first response, permanently.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::harness::http::{Request, Response};
use crate::harness::process::free_port;
use crate::harness::{Client, System, eventually, send_concurrently};

/// A command of alice's with a key, which the server has executed.
struct ExecutedCommand {
    method: &'static str,
    path: String,
    body: Value,
    key: String,
    response: Response,
}

impl ExecutedCommand {
    async fn execute(system: &System, key: &str, method: &'static str, path: &str, body: Value) -> Self {
        let response = command(system, key, method, path, &body).send().await;
        assert!([200, 201].contains(&response.status), "{response:?}");
        assert_eq!(response.header("idempotent-replayed"), "");
        Self { method, path: path.to_owned(), body, key: key.to_owned(), response }
    }

    async fn post(system: &System, key: &str, body: Value) -> Self {
        Self::execute(system, key, "POST", "/api/messages", body).await
    }

    /// Asserts that a retry gets the first response.
    async fn assert_replayed(&self, system: &System) {
        let retry = command(system, &self.key, self.method, &self.path, &self.body).send().await;
        assert_eq!((retry.status, retry.header("idempotent-replayed")), (200, "true"), "{retry:?}");
        assert_eq!(retry.body, self.response.body);
        assert_eq!(retry.position(), self.response.position());
        assert_eq!(retry.header("location"), "", "{retry:?}");
        retry.assert_not_counted();
    }
}

/// Prepares a command of alice's with a key.
fn command(system: &System, key: &str, method: &str, path: &str, body: &Value) -> Request {
    let request = system.ask("alice", method, path).key(key);
    if body.is_null() { request } else { request.json(body) }
}

fn post(system: &System, key: &str, body: &Value) -> Request {
    command(system, key, "POST", "/api/messages", body)
}

fn message(conversation: &str, content: &str) -> Value {
    json!({"conversationId": conversation, "content": content})
}

fn create_group(title: &str, other: &str) -> Value {
    json!({"action": "conversation", "title": title, "participantIds": [other]})
}

/// Executes one command of each kind that takes a key.
async fn execute_every_kind(system: &System) -> Vec<ExecutedCommand> {
    let direct = json!({"action": "conversation", "participantIds": ["bob"]});
    let direct = ExecutedCommand::post(system, "k-direct", direct).await;
    let conversation = direct.response.id();
    let group = ExecutedCommand::post(system, "k-group", create_group("Us", "bob")).await;
    let sent = ExecutedCommand::post(system, "k-message", message(&conversation, "hi @bob")).await;
    let id = sent.response.id();
    let path = format!("/api/messages/{id}");
    let reaction = json!({"action": "reaction", "messageId": id, "emoji": "👍", "reaction": "yes"});
    let removal = json!({"action": "remove_reaction", "messageId": id, "emoji": "👍"});
    let mark = json!({"action": "mark_read", "conversationId": conversation});
    vec![
        ExecutedCommand::post(system, "k-reaction", reaction).await,
        ExecutedCommand::post(system, "k-removal", removal).await,
        ExecutedCommand::post(system, "k-mark", mark).await,
        ExecutedCommand::execute(system, "k-edit", "PATCH", &path, json!({"content": "hi, @bob"})).await,
        // After the deletion the server would refuse some of these commands, but not their retries.
        ExecutedCommand::execute(system, "k-deletion", "DELETE", &path, Value::Null).await,
        direct,
        group,
        sent,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_command_has_one_effect_and_the_first_response() {
    let system = System::start().await;
    let commands = execute_every_kind(&system).await;
    let records_before = system.records().await;

    for executed in &commands {
        let position = executed.response.position();
        let record = records_before.iter().find(|record| record.position() == position).unwrap();
        assert_eq!(record.value["idempotencyKey"], executed.key.as_str());
        let event_type = &record.headers["ce_type"];
        let mut expected = json!({"type": event_type, "actorId": "alice", "idempotencyKey": executed.key});
        expected["data"] = record.value["data"].clone();
        record.assert_event(&record.key, expected);
        executed.assert_replayed(&system).await;
        executed.assert_replayed(&system).await;
    }

    assert_eq!(system.records().await, records_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_first_response_after_redis_has_lost_everything() {
    let system = System::start().await;
    let commands = execute_every_kind(&system).await;
    for executed in &commands {
        system.wait_until_projected(&executed.response).await;
    }
    let records_before = system.records().await;

    system.clear_redis().await;

    for executed in &commands {
        executed.assert_replayed(&system).await;
    }
    assert_eq!(system.records().await, records_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_first_response_after_a_restart() {
    let mut system = System::start().await;
    let commands = execute_every_kind(&system).await;
    let records_before = system.records().await;

    system.stop().await;
    system.clear_redis().await;
    let system = System::with_config(system.config.clone()).await;

    for executed in &commands {
        // The old process may have stopped before it projected the last events.
        system.wait_until_projected(&executed.response).await;
        executed.assert_replayed(&system).await;
    }
    assert_eq!(system.records().await, records_before);
}

/// The expected values come from other software (Python's uuid, json and hashlib). They must never change, because old
/// logs contain them.
#[tokio::test(flavor = "multi_thread")]
async fn ids_and_hashes_of_commands_with_a_key_are_the_published_ones() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    assert_eq!(conversation, "407160a2-20eb-59a8-9416-f90f967e4c59");

    let sent = system.post_with_key("alice", "golden", message(&conversation, "hi @bob")).await;

    assert_eq!(sent.id(), "743c6599-d27c-5013-81bd-4151f7e65e09");
    let records = system.records_of(&conversation).await;
    let [_created, message, notification] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(message.value["eventId"], "8c7c3798-6ca5-5bbe-9b27-a8b3fd0936d5");
    let hash = "652f8d2e96ac5c0391649d2613c6e1e2bc32da30fd463427bdc540c4bb7ef8dd";
    assert_eq!(message.value["requestHash"], hash);
    assert_eq!(notification.value["eventId"], "c07c1545-e73c-5690-a157-5476636598b8");
    let fields = notification.value.as_object().unwrap();
    assert!(!fields.contains_key("idempotencyKey") && !fields.contains_key("requestHash"), "{notification:?}");

    let group = json!({"action": "conversation", "participantIds": ["bob", "carol"]});
    let group = system.post_with_key("alice", "golden", group).await;
    assert_eq!(group.id(), "f6d9b4d8-7b03-5d7d-961b-a8ad7cecec66");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_command_in_another_notation_is_a_retry() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.post_with_key("alice", "a-key", message(&conversation, "hi")).await;
    let records_before = system.records().await;

    let other_notation = format!(
        r#"{{"replyToId": null, "attachments": [], "content": "\u0068i", "messageType": "TEXT",
             "conversationId": "{}", "action": "message"}}"#,
        conversation.to_uppercase()
    );
    let retry = system.ask("alice", "POST", "/api/messages").key("a-key").raw(other_notation).send().await;

    assert_eq!((retry.status, &retry.body), (200, &sent.body), "{retry:?}");
    assert_eq!(system.records().await, records_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_command_with_a_used_key_is_a_conflict() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.post_with_key("alice", "a-key", message(&conversation, "hi")).await;
    let records_before = system.records().await;
    let path = format!("/api/messages/{}", sent.id());
    let file = json!({"conversationId": conversation, "content": "hi", "messageType": "FILE"});
    let reply = json!({"conversationId": conversation, "content": "hi", "replyToId": sent.id()});

    for other_command in [
        post(&system, "a-key", &message(&conversation, "hi ")),
        post(&system, "a-key", &file),
        post(&system, "a-key", &reply),
        post(&system, "a-key", &json!({"action": "mark_read", "conversationId": conversation})),
        post(&system, "a-key", &json!({"action": "reaction", "messageId": sent.id(), "emoji": "👍"})),
        post(&system, "a-key", &json!({"action": "conversation", "participantIds": ["bob"]})),
        command(&system, "a-key", "PATCH", &path, &json!({"content": "hi"})),
        command(&system, "a-key", "DELETE", &path, &Value::Null),
    ] {
        let refused = other_command.send().await;
        refused.assert_problem(409, "idempotency_key_reused");
        refused.assert_not_counted();
    }
    assert_eq!(system.records().await, records_before);

    // When Redis has lost the key, the log still proves that it is used.
    system.wait_until_projected(&sent).await;
    system.clear_redis().await;
    let refused = command(&system, "a-key", "DELETE", &path, &Value::Null).send().await;
    refused.assert_problem(409, "idempotency_key_reused");
    assert_eq!(system.records().await, records_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_belongs_to_one_user_and_one_conversation() {
    let system = System::start().await;
    let mut ids = HashSet::new();
    let mut event_ids = HashSet::new();
    for other in ["bob", "carol"] {
        let conversation = system.conversation("alice", &[other]).await;
        for user in ["alice", other] {
            let sent = system.post_with_key(user, "a-key", message(&conversation, "hi")).await;
            assert_eq!((sent.status, sent.header("idempotent-replayed")), (201, ""), "{sent:?}");
            ids.insert(sent.id());
            event_ids.insert(system.record_at(&sent).await.value["eventId"].to_string());
        }
        ids.insert(system.post_with_key(other, "a-key", create_group("Us", "dan")).await.id());
    }
    assert_eq!((ids.len(), event_ids.len()), (6, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_equal_commands_with_one_key_are_one_event() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let body = message(&conversation, "hi @bob");

    let responses = send_concurrently((0..12).map(|_| post(&system, "a-key", &body)).collect()).await;

    let first: Vec<&Response> = responses.iter().filter(|response| response.status == 201).collect();
    assert_eq!(first.len(), 1, "{responses:?}");
    first[0].assert_rate_limit(30, 29);
    for response in &responses {
        assert_eq!(response.body, first[0].body);
        assert_eq!(response.status == 200, response.header("idempotent-replayed") == "true");
    }
    // The log may have the same bytes several times: the fold drops all but the first.
    let records = system.records_of(&conversation).await;
    for event_type in ["MESSAGE_SENT", "MENTION_NOTIFICATION"] {
        let records = records.iter().filter(|record| record.headers["ce_type"] == event_type);
        assert_eq!(records.map(|record| &record.bytes).collect::<HashSet<_>>().len(), 1, "{event_type}");
    }
    for response in &responses {
        system.wait_until_projected(response).await;
    }
    assert_eq!(system.conversation_row(&conversation).await["last_seq"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_concurrent_different_commands_with_one_key_one_is_executed() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    for round in 0..5 {
        let key = format!("key-{round}");
        let one = post(&system, &key, &message(&conversation, "one"));
        let other = post(&system, &key, &message(&conversation, "other"));

        let responses = send_concurrently(vec![one, other]).await;

        let mut statuses = [responses[0].status, responses[1].status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409], "{responses:?}");
    }
    assert_eq!(system.records_of(&conversation).await.len(), 1 + 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_redis_loses_before_its_event_is_projected_stays_used() {
    let system = System::start().await;
    system.age_reservation_epoch().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let mut bob = Client::connect(&system, "bob").await;
    let (same, other) = (message(&conversation, "hi"), message(&conversation, "something else"));

    // Given a key that only the log knows …
    let pause = system.pause_projection().await;
    let first = system.post_with_key("alice", "a-key", same.clone()).await;
    assert_eq!(first.status, 201, "the command waits for the projector although Redis knows the key: {first:?}");
    system.clear_redis().await;

    // … when alice retries and also sends another command, and both are on the log before the projector goes on …
    let requests = vec![post(&system, "a-key", &same), post(&system, "a-key", &other)];
    let sending = tokio::spawn(send_concurrently(requests));
    eventually("the log has all of alice's commands", async || {
        (system.records_of(&conversation).await.len() >= 3).then_some(())
    })
    .await;
    pause.rollback().await.unwrap();
    let responses = sending.await.unwrap();

    // … then the retry gets the first response, the other command a conflict, and bob the message once.
    let retried = retry_if_too_early(&responses[0], post(&system, "a-key", &same)).await;
    assert_eq!((retried.status, retried.data()), (200, first.data()), "{retried:?}");
    let refused = retry_if_too_early(&responses[1], post(&system, "a-key", &other)).await;
    refused.assert_problem(409, "idempotency_key_reused");
    let retried = system.post_with_key("alice", "a-key", same).await;
    assert_eq!((retried.status, retried.data(), retried.position()), (200, first.data(), first.position()));
    system.message("bob", &conversation, "last").await;
    let frames = bob.frames_until("the last message", |frame| frame.is_message("last")).await;
    assert_eq!(frames.iter().filter(|frame| frame.is_message("hi")).count(), 1, "{frames:?}");
    assert_eq!(frames.len(), 2, "{frames:?}");
}

/// The response, or that of a retry when a busy machine needed longer than a command waits for the projector.
async fn retry_if_too_early(response: &Response, retry: Request) -> Response {
    if response.status == 503 { retry.send().await } else { response.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_is_one_command_without_redis_too() {
    let system = System::with(|config| config.redis_url = format!("redis://127.0.0.1:{}", free_port())).await;
    for round in 0..3 {
        let key = format!("key-{round}");
        let request = |title: &str| post(&system, &key, &create_group(title, "bob"));
        let titles = ["one", "other", "one"];

        let mut responses = send_concurrently(titles.map(request).into()).await;
        for (response, title) in responses.iter_mut().zip(titles) {
            // Without Redis each command waits for the projector, and a busy machine may need longer.
            while response.status == 503 {
                *response = request(title).send().await;
            }
        }

        let [one, other, same_as_one] = responses.as_slice() else { unreachable!() };
        let succeeded = |response: &Response| [200, 201].contains(&response.status);
        assert_eq!(succeeded(one), succeeded(same_as_one), "{responses:?}");
        assert_ne!(succeeded(one), succeeded(other), "{responses:?}");
        let winner = if succeeded(one) { one } else { other };
        let created = system.get_after(winner, "bob", &format!("/api/conversations/{}", winner.id())).await;
        assert_eq!(created.data()["title"], winner.data()["title"]);
        for loser in responses.iter().filter(|response| !succeeded(response)) {
            loser.assert_problem(409, "idempotency_key_reused");
        }
    }
}
