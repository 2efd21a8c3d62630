//! Positions: what an answer includes, and what a request demands.

use domain::{Position, PositionVector, UserId};
use event_log::{TopicSpec, ensure_topic};
use messages::process::Roles;
use serde_json::{Value, json};
use service::token::PositionTokens;

use crate::harness::http::Response;
use crate::harness::system::{SECRET, config};
use crate::harness::{System, send_concurrently, unknown_id};

/// Reads the tokens of a system.
async fn tokens(system: &System) -> PositionTokens {
    let spec = TopicSpec { name: system.config.kafka_topic.clone(), partitions: system.config.kafka_partitions };
    let topic = ensure_topic(&system.config.kafka_brokers, &spec).await.unwrap();
    PositionTokens::new(SECRET, topic.id, topic.partitions)
}

fn position(answer: &Response) -> Position {
    answer.position().parse().unwrap()
}

/// The paths under which a message can be seen.
fn paths(conversation: &str, message: &str) -> [String; 4] {
    [
        "/api/messages".to_owned(),
        format!("/api/messages?conversationId={conversation}"),
        format!("/api/messages/{message}"),
        format!("/api/conversations/{conversation}"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_what_it_includes() {
    let system = System::start().await;
    let (tokens, alice): (_, UserId) = (tokens(&system).await, "alice".parse().unwrap());
    let includes = |answer: &Response| tokens.read(answer.position(), &alice).unwrap();
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.post("bob", json!({"conversationId": conversation, "content": "hi @alice"})).await;
    let record = &system.records_of(&conversation).await[1];
    // The message's own position, not its notification's.
    assert_eq!((record.position(), &record.value["type"]), (sent.position().to_owned(), &json!("MESSAGE_SENT")));
    system.wait_until_published(&sent).await;
    for path in paths(&conversation, &sent.id()) {
        for cache in ["miss", "hit"] {
            let answer = system.get_after(&sent, "alice", &path).await;
            assert_eq!((answer.status, answer.header("x-cache")), (200, cache), "{path}");
            assert!(includes(&answer).includes(position(&sent)), "{path}: {:?}", includes(&answer));
            // What an answer includes, the next one can be made to include.
            let next = system.get_after(&answer, "alice", &path).await;
            assert_eq!((next.status, &next.body), (200, &answer.body), "{path}");
            assert!(includes(&next).covers(&includes(&answer)), "{path}");
            let request = system.ask("alice", "GET", &path).header("If-None-Match", answer.header("etag"));
            let unchanged = request.header("Messages-Position", answer.position()).send().await;
            assert_eq!(unchanged.status, 304);
            assert!(includes(&unchanged).covers(&includes(&answer)), "{path}");
        }
    }
    // None claims what isn't on the log.
    let end = system.records().await.iter().fold(PositionVector::zero(3), |mut end, record| {
        end.advance(record.partition, record.offset + 1);
        end
    });
    let last = system.get_after(&sent, "alice", "/api/messages").await;
    assert!(end.covers(&includes(&last)), "{:?} of {end:?}", includes(&last));
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_reads_their_own_writes_every_time() {
    let system = System::unlimited().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    for number in 1..=50 {
        let user = ["alice", "bob"][number % 2];
        let content = number.to_string();
        let sent = system.post(user, json!({"conversationId": conversation, "content": content})).await;
        // Each time another view, and from time to time all.
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
async fn a_position_that_is_not_reached_is_a_503_and_never_a_404() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let message = system.message("alice", &conversation, "hi").await;
    let tokens = tokens(&system).await;
    let ahead = tokens.issue(&"alice".parse().unwrap(), &PositionVector(vec![0, 1_000, 0]));
    let mut requests = Vec::new();
    for wanted in ["0:1000000", "2:9223372036854775806", &ahead] {
        for path in paths(&conversation, &message).into_iter().chain(paths(&unknown_id(), &unknown_id())) {
            requests.push(system.ask("alice", "GET", &path).header("Messages-Position", wanted));
        }
        let body = json!({"conversationId": conversation, "content": "too early"});
        requests.push(system.ask("alice", "POST", "/api/messages").json(&body).header("Messages-Position", wanted));
        let path = format!("/api/messages/{message}");
        requests.push(system.ask("alice", "DELETE", &path).header("Messages-Position", wanted));
    }
    let started = tokio::time::Instant::now();
    for answer in crate::harness::send_concurrently(requests).await {
        answer.assert_problem(503, "projection_behind");
        assert_eq!(answer.header("retry-after"), "1");
    }
    let took = started.elapsed().as_millis();
    // At most a second, and time to answer thirty at once.
    assert!((900..3_000).contains(&took), "{took} ms");
    assert_eq!(system.records_of(&conversation).await.len(), 2, "a refused command was done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_position_is_refused_with_what_is_wrong() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.post("alice", json!({"conversationId": conversation, "content": "hi"})).await;
    let mine = system.get_after(&sent, "alice", "/api/messages").await.position().to_owned();
    let foreign = system.get_after(&sent, "bob", "/api/messages").await.position().to_owned();
    let middle = mine.len() / 2;
    let swapped = if mine.as_bytes()[middle] == b'A' { "B" } else { "A" };
    let forged = format!("{}{swapped}{}", &mine[..middle], &mine[middle + 1..]);
    // As it was for a topic of the same name that was deleted and made again.
    let other = PositionTokens::new(SECRET, uuid::Uuid::now_v7(), 3);
    let other = other.issue(&"alice".parse().unwrap(), &PositionVector::zero(3));
    let cases = [
        ("nonsense", "invalid_position"),
        ("", "invalid_position"),
        ("1:", "invalid_position"),
        ("1:-1", "invalid_position"),
        // A partition that the topic doesn't have.
        ("3:0", "invalid_position"),
        ("99999999999:0", "invalid_position"),
        ("0:9223372036854775807", "invalid_position"),
        (&mine[..middle], "invalid_position"),
        (&forged, "invalid_position"),
        (&foreign, "foreign_token"),
        (&other, "other_topic"),
    ];
    let message = sent.id();
    let refused = |answer: &Response, code: &str| {
        answer.assert_problem(400, code);
        assert_eq!(answer.field_errors(), [("Messages-Position", code)]);
    };
    for (wrong, code) in cases {
        for path in paths(&conversation, &message) {
            refused(&system.ask("alice", "GET", &path).header("Messages-Position", wrong).send().await, code);
        }
        for (method, path, body) in [
            ("POST", "/api/messages".to_owned(), json!({"conversationId": conversation, "content": "no"})),
            ("POST", "/api/messages".to_owned(), json!({"action": "typing_start", "conversationId": conversation})),
            ("PATCH", format!("/api/messages/{message}"), json!({"content": "no"})),
            ("DELETE", format!("/api/messages/{message}"), Value::Null),
        ] {
            let request = system.ask("alice", method, &path).header("Messages-Position", wrong).json(&body);
            refused(&request.send().await, code);
        }
    }
    let twice = system.ask("alice", "GET", "/api/messages").header("Messages-Position", &mine);
    refused(&twice.header("Messages-Position", &mine).send().await, "invalid_header");
    assert_eq!(system.records_of(&conversation).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_with_a_position_knows_what_happened_up_to_there() {
    let system = System::unlimited().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    for _ in 0..10 {
        let message = system.message("alice", &conversation, "hi").await;
        let path = format!("/api/messages/{message}");
        // So that what commands need to know of it is cached.
        let react = json!({"action": "reaction", "messageId": message, "emoji": "👍"});
        assert_eq!(system.post("bob", react.clone()).await.status, 201);
        let deleted = system.ask("alice", "DELETE", &path).send().await;
        let late = system.ask("bob", "POST", "/api/messages").header("Messages-Position", deleted.position());
        late.json(&react).send().await.assert_problem(422, "message_deleted");
        // A token does as well.
        let seen = system.get_after(&deleted, "bob", &path).await;
        let late = system.ask("bob", "POST", "/api/messages").header("Messages-Position", seen.position());
        late.json(&react).send().await.assert_problem(422, "message_deleted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_good_on_every_node_of_a_system() {
    let config = config();
    let (one, other) =
        tokio::join!(System::with_config(config.clone()), System::with_roles(config.clone(), Roles::ALL));
    let conversation = one.conversation("alice", &["bob"]).await;
    let mut earlier = one.post("alice", json!({"conversationId": conversation, "content": "0"})).await;
    for number in 1..=20 {
        let system = if number % 2 == 0 { &one } else { &other };
        let path = format!("/api/messages?conversationId={conversation}");
        let read = system.get_after(&earlier, "alice", &path).await;
        assert_eq!(read.data()[0]["content"], (number - 1).to_string());
        let body = json!({"conversationId": conversation, "content": number.to_string()});
        let post = system.ask("alice", "POST", "/api/messages").header("Messages-Position", read.position());
        earlier = post.json(&body).send().await;
        assert_eq!(earlier.status, 201, "{earlier:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_just_made_is_waited_for_without_a_position() {
    let system = System::start().await;
    system.age_reservation_epoch().await;
    system.wait_until_caught_up().await;
    let hold = system.pause_projection().await;
    let direct = system.conversation("alice", &["bob"]).await;
    let group = json!({"action": "conversation", "title": "Us", "participantIds": ["bob"]});
    let group = system.post_with_key("alice", "us", group).await.id();
    let message = system.message("alice", &direct, "hi").await;
    let paths = [
        format!("/api/messages/{message}"),
        format!("/api/conversations/{direct}"),
        format!("/api/conversations/{group}"),
    ];
    // What is in it yet can be said.
    let list = system.get("bob", &format!("/api/messages?conversationId={group}")).await;
    assert_eq!((list.status, list.data()), (200, &json!([])), "{list:?}");
    for early in send_concurrently(paths.iter().map(|path| system.ask("bob", "GET", path)).collect()).await {
        early.assert_problem(503, "projection_behind");
    }
    // What isn't there at all, or for others, is said at once.
    let neither = [unknown_id(), direct].map(|id| ("alice", format!("/api/messages/{id}")));
    for (user, path) in neither.iter().map(|(user, path)| (*user, path)).chain(paths.iter().map(|path| ("eve", path))) {
        system.get(user, path).await.assert_problem(404, "not_found");
    }
    hold.rollback().await.unwrap();
    system.wait_until_caught_up().await;
    for path in &paths {
        system.get("eve", path).await.assert_problem(404, "not_found");
        assert_eq!(system.get("bob", path).await.status, 200, "{path}");
    }
}
