//! Positions: each response says what it includes, and each request may demand what the response must include. A token
//! is a position in opaque form, for one user.

use domain::{Position, PositionVector, UserId};
use event_log::{TopicSpec, ensure_topic, partition_of};
use messages::process::Roles;
use serde_json::{Value, json};
use service::token::PositionTokens;
use tokio::time::Instant;

use crate::harness::http::{Request, Response};
use crate::harness::system::{PARTITIONS, SECRET, config};
use crate::harness::{System, send_concurrently, unknown_id};

/// Reads and issues the tokens of a system.
async fn tokens(system: &System) -> PositionTokens {
    let spec = TopicSpec { name: system.config.kafka_topic.clone(), partitions: system.config.kafka_partitions };
    let topic = ensure_topic(&system.config.kafka_brokers, &spec).await.unwrap();
    PositionTokens::new(SECRET, topic.id, topic.partitions)
}

/// The partition of the conversation with this id.
fn partition_of_id(conversation: &str) -> i32 {
    partition_of(conversation.parse().unwrap(), usize::try_from(PARTITIONS).unwrap())
}

fn position(response: &Response) -> Position {
    response.position().parse().unwrap()
}

/// Every path that shows a message.
fn paths(conversation: &str, message: &str) -> [String; 4] {
    [
        "/api/messages".to_owned(),
        format!("/api/messages?conversationId={conversation}"),
        format!("/api/messages/{message}"),
        format!("/api/conversations/{conversation}"),
    ]
}

/// Prepares a `GET` that demands a position.
fn demanding_get(system: &System, user: &str, path: &str, position: &str) -> Request {
    system.ask(user, "GET", path).header("Messages-Position", position)
}

/// Prepares a `POST` that demands a position.
fn demanding_post(system: &System, user: &str, position: &str, body: &Value) -> Request {
    system.ask(user, "POST", "/api/messages").header("Messages-Position", position).json(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_says_what_it_includes() {
    let system = System::start().await;
    let (tokens, alice): (_, UserId) = (tokens(&system).await, "alice".parse().unwrap());
    let included_in = |response: &Response| tokens.read(response.position(), &alice).unwrap();
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.send("bob", &conversation, "hi @alice").await;
    // A command's position is that of its message, not that of the notification after it.
    let record = &system.records_of(&conversation).await[1];
    assert_eq!((record.position(), &record.value["type"]), (sent.position().to_owned(), &json!("MESSAGE_SENT")));
    system.wait_until_published(&sent).await;

    for path in paths(&conversation, &sent.id()) {
        for cache in ["miss", "hit"] {
            let first = system.get_after(&sent, "alice", &path).await;
            assert_eq!((first.status, first.header("x-cache")), (200, cache), "{path}");
            assert!(included_in(&first).includes(position(&sent)), "{path}: {:?}", included_in(&first));

            let next = system.get_after(&first, "alice", &path).await;
            assert_eq!((next.status, &next.body), (200, &first.body), "{path}");
            assert!(included_in(&next).covers(&included_in(&first)), "{path}");

            let request = demanding_get(&system, "alice", &path, first.position());
            let unchanged = request.header("If-None-Match", first.header("etag")).send().await;
            assert_eq!(unchanged.status, 304);
            assert!(included_in(&unchanged).covers(&included_in(&first)), "{path}");
        }
    }

    let log_end = system.records().await.iter().fold(PositionVector::zero(3), |mut end, record| {
        end.advance(record.partition, record.offset + 1);
        end
    });
    let last = system.get_after(&sent, "alice", "/api/messages").await;
    assert!(log_end.covers(&included_in(&last)), "{:?} is after the log's end {log_end:?}", included_in(&last));
}

#[tokio::test(flavor = "multi_thread")]
async fn users_always_read_their_own_writes() {
    let system = System::unlimited().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    for number in 1..=50 {
        let user = ["alice", "bob"][number % 2];
        let content = number.to_string();
        let sent = system.send(user, &conversation, &content).await;
        // Each round starts at another view, and every fourth round reads all views.
        for path in paths(&conversation, &sent.id()).iter().cycle().skip(number).take(1 + number % 4) {
            let seen = system.get_after(&sent, user, path).await;
            assert_eq!(seen.status, 200, "{path}: {seen:?}");
            let data = seen.data().get(0).unwrap_or(seen.data());
            let message = data.get("lastMessage").unwrap_or(data);
            assert_eq!((&message["id"], &message["content"]), (&json!(sent.id()), &json!(content)), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demanded_position_that_is_not_reached_is_503_after_a_second_and_never_404() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let message = system.message("alice", &conversation, "hi").await;
    let partition = partition_of_id(&conversation);
    let future = PositionVector(vec![1_000; 3]).restricted_to(partition);
    let future_token = tokens(&system).await.issue(&"alice".parse().unwrap(), &future, 0);
    let mut requests = Vec::new();
    for demanded in [&format!("{partition}:1000000"), &format!("{partition}:9223372036854775806"), &future_token] {
        let unknown_conversation =
            std::iter::repeat_with(unknown_id).find(|id| partition_of_id(id) == partition).unwrap();
        let (known, unknown) = (paths(&conversation, &message), paths(&unknown_conversation, &unknown_id()));
        requests.extend([known, unknown].concat().iter().map(|path| demanding_get(&system, "alice", path, demanded)));
        let body = json!({"conversationId": conversation, "content": "too early"});
        requests.push(demanding_post(&system, "alice", demanded, &body));
        let delete = system.ask("alice", "DELETE", &format!("/api/messages/{message}"));
        requests.push(delete.header("Messages-Position", demanded));
    }

    let started = Instant::now();
    for refused in send_concurrently(requests).await {
        refused.assert_problem(503, "projection_behind");
        assert_eq!(refused.header("retry-after"), "1");
    }

    // The server waits for a second. The rest is for thirty concurrent responses on a busy machine.
    let elapsed_ms = started.elapsed().as_millis();
    assert!((900..3_000).contains(&elapsed_ms), "{elapsed_ms} ms");
    assert_eq!(system.records_of(&conversation).await.len(), 2, "a refused command had an effect");
}

/// A demanded position that the server must refuse.
struct InvalidPosition {
    value: String,
    code: &'static str,
}

/// Every way in which a position of alice's can be invalid, where `own` is a valid token of hers and `foreign` one of
/// bob's.
fn invalid_positions(own: &str, foreign: &str) -> Vec<InvalidPosition> {
    let middle = own.len() / 2;
    let swapped = if own.as_bytes()[middle] == b'A' { "B" } else { "A" };
    let forged = format!("{}{swapped}{}", &own[..middle], &own[middle + 1..]);
    // The token of an earlier topic that had the same name.
    let other_topic = PositionTokens::new(SECRET, uuid::Uuid::now_v7(), 3);
    let other_topic = other_topic.issue(&"alice".parse().unwrap(), &PositionVector::zero(3), 0);
    // The topic has the partitions 0 to 2.
    let invalid =
        ["nonsense", "", "1:", "1:-1", "3:0", "99999999999:0", "0:9223372036854775807", &own[..middle], &forged];
    let mut positions: Vec<_> = invalid
        .map(|value| InvalidPosition { value: value.to_owned(), code: "invalid_position" })
        .into_iter()
        .collect();
    positions.push(InvalidPosition { value: foreign.to_owned(), code: "foreign_token" });
    positions.push(InvalidPosition { value: other_topic, code: "other_topic" });
    positions
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_position_is_refused_with_the_reason() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.send("alice", &conversation, "hi").await;
    let message = sent.id();
    let own = system.get_after(&sent, "alice", "/api/messages").await.position().to_owned();
    let foreign = system.get_after(&sent, "bob", "/api/messages").await.position().to_owned();
    let message_path = format!("/api/messages/{message}");
    let send = json!({"conversationId": conversation, "content": "no"});
    let type_something = json!({"action": "typing_start", "conversationId": conversation});
    let edit = json!({"content": "no"});

    for InvalidPosition { value, code } in invalid_positions(&own, &foreign) {
        for path in paths(&conversation, &message) {
            let refused = demanding_get(&system, "alice", &path, &value).send().await;
            refused.assert_field_refused(400, "Messages-Position", code);
        }
        for command in [
            system.ask("alice", "POST", "/api/messages").json(&send),
            system.ask("alice", "POST", "/api/messages").json(&type_something),
            system.ask("alice", "PATCH", &message_path).json(&edit),
            system.ask("alice", "DELETE", &message_path).json(&Value::Null),
        ] {
            let refused = command.header("Messages-Position", &value).send().await;
            refused.assert_field_refused(400, "Messages-Position", code);
        }
    }
    let repeated = demanding_get(&system, "alice", "/api/messages", &own).header("Messages-Position", &own);
    repeated.send().await.assert_field_refused(400, "Messages-Position", "invalid_header");
    assert_eq!(system.records_of(&conversation).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_demands_a_position_knows_everything_up_to_it() {
    let system = System::unlimited().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    for _ in 0..10 {
        // Given a deleted message that bob's node may still have in its cache, because bob has reacted to it.
        let message = system.message("alice", &conversation, "hi").await;
        assert_eq!(system.react("bob", &message, "👍").await.status, 201);
        let deleted = system.delete("alice", &message).await;

        let react = json!({"action": "reaction", "messageId": message, "emoji": "👍"});
        let after_position = demanding_post(&system, "bob", deleted.position(), &react).send().await;
        after_position.assert_problem(422, "message_deleted");

        let read = system.get_after(&deleted, "bob", &format!("/api/messages/{message}")).await;
        let after_token = demanding_post(&system, "bob", read.position(), &react).send().await;
        after_token.assert_problem(422, "message_deleted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_valid_on_every_node_of_a_system() {
    let config = config();
    let (one, other) =
        tokio::join!(System::with_config(config.clone()), System::with_roles(config.clone(), Roles::ALL));
    let conversation = one.conversation("alice", &["bob"]).await;
    let mut latest = one.send("alice", &conversation, "0").await;
    for number in 1..=20 {
        let node = if number % 2 == 0 { &one } else { &other };
        let path = format!("/api/messages?conversationId={conversation}");
        let read = node.get_after(&latest, "alice", &path).await;
        assert_eq!(read.data()[0]["content"], (number - 1).to_string(), "{read:?}");
        let body = json!({"conversationId": conversation, "content": number.to_string()});
        latest = demanding_post(node, "alice", read.position(), &body).send().await;
        assert_eq!(latest.status, 201, "{latest:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_waits_for_a_new_entity_without_a_demanded_position() {
    // Given conversations and a message that the projector hasn't reached.
    let system = System::start().await;
    system.age_reservation_epoch().await;
    system.wait_until_caught_up().await;
    let pause = system.pause_projection().await;
    let direct = system.conversation("alice", &["bob"]).await;
    let group = json!({"action": "conversation", "title": "Us", "participantIds": ["bob"]});
    let group = system.post_with_key("alice", "us", group).await.id();
    let message = system.message("alice", &direct, "hi").await;
    let pending_paths = [
        format!("/api/messages/{message}"),
        format!("/api/conversations/{direct}"),
        format!("/api/conversations/{group}"),
    ];

    // A participant gets an empty page of the pending group, and 503 for each pending entity.
    let page = system.get("bob", &format!("/api/messages?conversationId={group}")).await;
    assert_eq!((page.status, page.data()), (200, &json!([])), "{page:?}");
    let queries = pending_paths.iter().map(|path| system.ask("bob", "GET", path)).collect();
    for early in send_concurrently(queries).await {
        early.assert_problem(503, "projection_behind");
    }
    // An unknown id, an id of another kind and a stranger get 404 at once.
    for unknown in [unknown_id(), direct] {
        system.get("alice", &format!("/api/messages/{unknown}")).await.assert_problem(404, "not_found");
    }
    for path in &pending_paths {
        system.get("eve", path).await.assert_problem(404, "not_found");
    }

    pause.rollback().await.unwrap();
    system.wait_until_caught_up().await;
    for path in &pending_paths {
        system.get("eve", path).await.assert_problem(404, "not_found");
        assert_eq!(system.get("bob", path).await.status, 200, "{path}");
    }
}
