//! Commands with an idempotency key: once, with one answer, for ever.

use std::collections::HashSet;

use cache::ReservationRequest;
use cache::{Admission, Limit};
use domain::event::{MessageSent, MessageType};
use domain::{Command, ConversationId, Event, EventData, EventId, IdempotencyKey, MessageId, UserId, envelope};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::http::{Request, Response};
use crate::harness::process::free_port;
use crate::harness::{Client, System, eventually, send_concurrently};

/// A command of alice's that was done, to be sent again.
struct Done {
    method: &'static str,
    path: String,
    body: Value,
    key: String,
    answer: Response,
}

impl Done {
    async fn new(system: &System, key: &str, method: &'static str, path: &str, body: Value) -> Self {
        let answer = ask(system, key, method, path, &body).send().await;
        assert!([200, 201].contains(&answer.status), "{answer:?}");
        assert_eq!(answer.header("idempotent-replayed"), "");
        Self { method, path: path.to_owned(), body, key: key.to_owned(), answer }
    }

    async fn post(system: &System, key: &str, body: Value) -> Self {
        Self::new(system, key, "POST", "/api/messages", body).await
    }

    /// Asserts that the same request gets the first answer again.
    async fn assert_replayed(&self, system: &System) {
        let again = ask(system, &self.key, self.method, &self.path, &self.body).send().await;
        assert_eq!((again.status, again.header("idempotent-replayed")), (200, "true"), "{again:?}");
        assert_eq!(again.body, self.answer.body);
        assert_eq!(again.position(), self.answer.position());
        assert_eq!((again.header("location"), again.header("ratelimit-limit")), ("", ""), "{again:?}");
    }
}

fn ask(system: &System, key: &str, method: &str, path: &str, body: &Value) -> Request {
    let request = system.ask("alice", method, path).key(key);
    if body.is_null() { request } else { request.json(body) }
}

/// One of each command that takes a key.
async fn one_of_each(system: &System) -> Vec<Done> {
    let direct = json!({"action": "conversation", "participantIds": ["bob"]});
    let direct = Done::post(system, "k-direct", direct).await;
    let group = json!({"action": "conversation", "title": "Us", "participantIds": ["bob"]});
    let group = Done::post(system, "k-group", group).await;
    let message = json!({"conversationId": direct.answer.id(), "content": "hi @bob"});
    let message = Done::post(system, "k-message", message).await;
    let id = message.answer.id();
    let path = format!("/api/messages/{id}");
    let reaction = json!({"action": "reaction", "messageId": id, "emoji": "👍", "reaction": "yes"});
    let removal = json!({"action": "remove_reaction", "messageId": id, "emoji": "👍"});
    let mark = json!({"action": "mark_read", "conversationId": direct.answer.id()});
    vec![
        Done::post(system, "k-reaction", reaction).await,
        Done::post(system, "k-removal", removal).await,
        Done::post(system, "k-mark", mark).await,
        Done::new(system, "k-edit", "PATCH", &path, json!({"content": "hi, @bob"})).await,
        // From here on, the commands above would be refused: their retries are not.
        Done::new(system, "k-deletion", "DELETE", &path, Value::Null).await,
        direct,
        group,
        message,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_command_has_one_effect_and_the_first_answer() {
    let system = System::start().await;
    let commands = one_of_each(&system).await;
    let before = system.records().await;
    for done in &commands {
        let record = before.iter().find(|record| record.position() == done.answer.position()).unwrap();
        assert_eq!(record.value["idempotencyKey"], done.key.as_str());
        let mut expected = json!({"type": record.headers["ce_type"], "actorId": "alice", "idempotencyKey": done.key});
        expected["data"] = record.value["data"].clone();
        record.assert_event(&record.key, expected);
        done.assert_replayed(&system).await;
        done.assert_replayed(&system).await;
    }
    assert_eq!(system.records().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_first_answer_after_redis_lost_everything() {
    let system = System::start().await;
    let commands = one_of_each(&system).await;
    for done in &commands {
        system.wait_until_projected(&done.answer).await;
    }
    let before = system.records().await;
    system.clear_redis().await;
    for done in &commands {
        done.assert_replayed(&system).await;
    }
    assert_eq!(system.records().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_first_answer_after_a_restart() {
    let mut system = System::start().await;
    let commands = one_of_each(&system).await;
    let before = system.records().await;
    system.stop().await;
    system.clear_redis().await;
    let system = System::with_config(system.config.clone()).await;
    for done in &commands {
        // What was appended last may not have been projected before the restart.
        system.wait_until_projected(&done.answer).await;
        done.assert_replayed(&system).await;
    }
    assert_eq!(system.records().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_and_hashes_of_keyed_commands_are_those_that_were_published() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.post_with_key("alice", "golden", json!({"conversationId": conversation, "content": "hi @bob"}));
    let sent = sent.await;
    // Made once by other means (Python's uuid, json and hashlib). They can never change: old logs have them.
    assert_eq!(conversation, "407160a2-20eb-59a8-9416-f90f967e4c59");
    assert_eq!(sent.id(), "743c6599-d27c-5013-81bd-4151f7e65e09");
    let records = system.records_of(&conversation).await;
    let [_, message, notification] = records.as_slice() else { panic!("{records:?}") };
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
async fn the_same_request_in_other_words_is_a_retry_and_another_request_is_a_conflict() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.post_with_key("alice", "a-key", json!({"conversationId": conversation, "content": "hi"})).await;
    let before = system.records().await;
    let same = format!(
        r#"{{"replyToId": null, "attachments": [], "content": "\u0068i", "messageType": "TEXT",
             "conversationId": "{}", "action": "message"}}"#,
        conversation.to_uppercase()
    );
    let retry = system.ask("alice", "POST", "/api/messages").key("a-key").raw(same).send().await;
    assert_eq!((retry.status, &retry.body), (200, &sent.body), "{retry:?}");
    let path = format!("/api/messages/{}", sent.id());
    let content = json!({"content": "hi"});
    for (method, path, body) in [
        ("POST", "/api/messages", json!({"conversationId": conversation, "content": "hi "})),
        ("POST", "/api/messages", json!({"conversationId": conversation, "content": "hi", "messageType": "FILE"})),
        ("POST", "/api/messages", json!({"conversationId": conversation, "content": "hi", "replyToId": sent.id()})),
        ("POST", "/api/messages", json!({"action": "mark_read", "conversationId": conversation})),
        ("POST", "/api/messages", json!({"action": "reaction", "messageId": sent.id(), "emoji": "👍"})),
        ("POST", "/api/messages", json!({"action": "conversation", "participantIds": ["bob"]})),
        ("PATCH", &path, content),
        ("DELETE", &path, Value::Null),
    ] {
        let refused = ask(&system, "a-key", method, path, &body).send().await;
        refused.assert_problem(409, "idempotency_key_reused");
        assert_eq!(refused.header("ratelimit-limit"), "");
    }
    assert_eq!(system.records().await, before);
    // So it is from the log, when Redis has forgotten the key.
    system.wait_until_projected(&sent).await;
    system.clear_redis().await;
    let refused = ask(&system, "a-key", "DELETE", &path, &Value::Null).send().await;
    refused.assert_problem(409, "idempotency_key_reused");
    assert_eq!(system.records().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_one_of_its_user_and_conversation() {
    let system = System::start().await;
    let mut ids = HashSet::new();
    let mut event_ids = HashSet::new();
    for other in ["bob", "carol"] {
        let conversation = system.conversation("alice", &[other]).await;
        for user in ["alice", other] {
            let body = json!({"conversationId": conversation, "content": "hi"});
            let sent = system.post_with_key(user, "a-key", body).await;
            assert_eq!((sent.status, sent.header("idempotent-replayed")), (201, ""), "{sent:?}");
            ids.insert(sent.id());
            event_ids.insert(system.record_at(&sent).await.value["eventId"].to_string());
        }
        let group = json!({"action": "conversation", "title": "Us", "participantIds": ["dan"]});
        ids.insert(system.post_with_key(other, "a-key", group).await.id());
    }
    assert_eq!((ids.len(), event_ids.len()), (6, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_at_once_are_one_event() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let body = json!({"conversationId": conversation, "content": "hi @bob"});
    let requests = (0..12).map(|_| ask(&system, "a-key", "POST", "/api/messages", &body)).collect();
    let answers = send_concurrently(requests).await;
    let first: Vec<&Response> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert_eq!(first.len(), 1, "{answers:?}");
    first[0].assert_rate_limit(30, 29);
    for answer in &answers {
        assert_eq!(answer.body, first[0].body);
        assert_eq!(answer.status == 200, answer.header("idempotent-replayed") == "true");
    }
    // A record may repeat, byte for byte: the first counts.
    let records = system.records_of(&conversation).await;
    for event_type in ["MESSAGE_SENT", "MENTION_NOTIFICATION"] {
        let records = records.iter().filter(|record| record.headers["ce_type"] == event_type);
        assert_eq!(records.map(|record| &record.bytes).collect::<HashSet<_>>().len(), 1, "{event_type}");
    }
    for answer in &answers {
        system.wait_until_projected(answer).await;
    }
    assert_eq!(system.conversation_row(&conversation).await["last_seq"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_requests_at_once_with_one_key_one_is_done() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    for round in 0..5 {
        let request = |content: &str| {
            let body = json!({"conversationId": conversation, "content": content});
            ask(&system, &format!("key-{round}"), "POST", "/api/messages", &body)
        };
        let answers = send_concurrently(vec![request("one"), request("other")]).await;
        let mut statuses = [answers[0].status, answers[1].status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409], "{answers:?}");
    }
    assert_eq!(system.records_of(&conversation).await.len(), 1 + 5);
}

/// A process that dies between the reservation and the append leaves a key that is reserved and an event that nobody
/// has: the retry appends it, as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_broke_off_is_finished_by_its_retry() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let body = json!({"conversationId": conversation, "content": "hi @bob"});
    let (alice, key): (UserId, IdempotencyKey) = ("alice".parse().unwrap(), "a-key".parse().unwrap());
    let id: ConversationId = conversation.parse().unwrap();
    let command = Command::from_post(&alice, body.as_object().unwrap().clone()).unwrap();
    let sent = MessageSent {
        message_id: MessageId::for_key(id, &alice, &key),
        content: "hi @bob".to_owned(),
        message_type: MessageType::Text,
        attachments: Vec::new(),
        mentions: vec!["bob".parse().unwrap()],
        reply_to_id: None,
    };
    let event = Event {
        event_id: EventId::for_key(id, &alice, &key, "MESSAGE_SENT"),
        occurred_at: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        conversation_id: id,
        actor_id: alice.clone(),
        request: Some(domain::event::Request { key: key.clone(), hash: command.hash() }),
        data: EventData::MessageSent(sent),
    };
    let bytes = envelope::encode(&event);
    let limit = Limit { name: "messages", max: 30, window: std::time::Duration::from_secs(60) };
    let entry = ReservationRequest { event: &event, bytes: &bytes, pending: None };
    let (admission, _) = system.cache().admit(&alice, &limit, Some(entry)).await.unwrap();
    assert!(matches!(admission, Admission::Admitted(_)), "{admission:?}");
    let retried = system.post_with_key("alice", "a-key", body).await;
    assert_eq!((retried.status, retried.header("idempotent-replayed")), (200, "true"), "{retried:?}");
    assert_eq!(retried.data()["createdAt"], "2026-01-02T03:04:05.678Z");
    let records = system.records_of(&conversation).await;
    let [_, message, notification] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((&message.bytes, message.position().as_str()), (&bytes, retried.position()));
    assert_eq!(notification.headers["ce_type"], "MENTION_NOTIFICATION");
    system.wait_until_projected(&retried).await;
    assert_eq!(system.message_row(&retried.id()).await["seq"], 1);
    assert_eq!(retried.id().parse::<Uuid>().unwrap().get_version_num(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_redis_loses_before_it_is_projected_is_still_used_up() {
    let system = System::start().await;
    system.age_reservation_epoch().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let mut bob = Client::connect(&system, "bob").await;
    let body = |content: &str| json!({"conversationId": conversation, "content": content});
    let hold = system.pause_projection().await;
    let first = system.post_with_key("alice", "a-key", body("hi")).await;
    assert_eq!(first.status, 201, "nobody waits for the projector while Redis knows: {first:?}");
    system.clear_redis().await;
    let requests =
        ["hi", "something else"].map(|content| ask(&system, "a-key", "POST", "/api/messages", &body(content)));
    let answers = tokio::spawn(send_concurrently(requests.into()));
    // Until both are appended: the projector knows of neither.
    eventually("the log has them all", async || (system.records_of(&conversation).await.len() >= 3).then_some(()))
        .await;
    hold.rollback().await.unwrap();
    let answers = answers.await.unwrap();
    // On a busy machine, whoever asked too early asks again.
    let again = ask(&system, "a-key", "POST", "/api/messages", &body("hi"));
    let retried = if answers[0].status == 503 { again.send().await } else { answers[0].clone() };
    assert_eq!((retried.status, retried.data()), (200, first.data()), "{retried:?}");
    let again = ask(&system, "a-key", "POST", "/api/messages", &body("something else"));
    let other = if answers[1].status == 503 { again.send().await } else { answers[1].clone() };
    other.assert_problem(409, "idempotency_key_reused");
    // And so it stays, from Redis.
    let retried = system.post_with_key("alice", "a-key", body("hi")).await;
    assert_eq!((retried.status, retried.data(), retried.position()), (200, first.data(), first.position()));
    system.message("bob", &conversation, "last").await;
    let frames = bob.frames_until("the last", |frame| frame.is_message("last")).await;
    assert_eq!(frames.iter().filter(|frame| frame.is_message("hi")).count(), 1, "{frames:?}");
    assert_eq!(frames.len(), 2, "{frames:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_one_key_is_one_command_too() {
    let system = System::with(|config| config.redis_url = format!("redis://127.0.0.1:{}", free_port())).await;
    for round in 0..3 {
        let key = format!("key-{round}");
        let request = |title: &str| {
            let body = json!({"action": "conversation", "title": title, "participantIds": ["bob"]});
            ask(&system, &key, "POST", "/api/messages", &body)
        };
        let mut answers = send_concurrently(vec![request("one"), request("other"), request("one")]).await;
        for (answer, title) in answers.iter_mut().zip(["one", "other", "one"]) {
            // It may take longer than a command waits.
            while answer.status == 503 {
                *answer = request(title).send().await;
            }
        }
        let [one, other, same] = answers.as_slice() else { unreachable!() };
        let won = |answer: &Response| [200, 201].contains(&answer.status);
        assert_eq!(won(one), won(same), "{answers:?}");
        assert_ne!(won(one), won(other), "{answers:?}");
        let winner = if won(one) { one } else { other };
        let made = system.get_after(winner, "bob", &format!("/api/conversations/{}", winner.id())).await;
        assert_eq!(made.data()["title"], winner.data()["title"]);
        for loser in answers.iter().filter(|answer| !won(answer)) {
            loser.assert_problem(409, "idempotency_key_reused");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reservations_are_counted_on_from_the_start_and_not_from_the_first_key() {
    let system = System::start().await;
    let key = format!("{}:reservations-since", system.config.redis_prefix);
    let mut redis = system.redis().await;
    eventually("an epoch has begun", async || {
        redis::cmd("EXISTS").arg(&key).query_async::<bool>(&mut redis).await.unwrap().then_some(())
    })
    .await;
}
