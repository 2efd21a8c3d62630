//! Idempotency keys where one node reaches Redis and another doesn't: whoever reserves nothing says so first.

use messages::process::Roles;
use serde_json::{Value, json};

use crate::harness::http::{Request, Response};
use crate::harness::proxy::Proxy;
use crate::harness::system::unlimited;
use crate::harness::{System, eventually, send_concurrently};

/// A whole system whose reservations are trusted, and another node of it that can be cut off from Redis.
async fn nodes() -> (System, System, Proxy, String) {
    let system = System::with(unlimited).await;
    system.age_reservation_epoch().await;
    let redis = Proxy::start(&system.config.redis_url).await;
    let mut config = system.config.clone();
    config.redis_url.clone_from(&redis.url);
    let other = System::with_roles(config, Roles::COMMAND_API).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    system.wait_until_caught_up().await;
    let hold = system.pause_projection().await;
    for node in [&system, &other] {
        eventually("reservations are trusted", async || {
            let key = uuid::Uuid::now_v7().to_string();
            (send(node, &key, &message(&conversation, "hi")).send().await.status == 201).then_some(())
        })
        .await;
    }
    hold.rollback().await.unwrap();
    system.wait_until_caught_up().await;
    (system, other, redis, conversation)
}

fn message(conversation: &str, content: &str) -> Value {
    json!({"conversationId": conversation, "content": content})
}

fn send(node: &System, key: &str, body: &Value) -> Request {
    node.ask("alice", "POST", "/api/messages").key(key).json(body)
}

/// Sends until that is decided.
async fn insist(node: &System, key: &str, body: &Value) -> Response {
    eventually("it is decided", async || Some(send(node, key, body).send().await).filter(|it| it.status != 503)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_used_out_of_reach_of_redis_is_used_up_everywhere() {
    let (system, other, redis, conversation) = nodes().await;
    let (one, two) = (message(&conversation, "one"), message(&conversation, "two"));
    let hold = system.pause_projection().await;
    redis.down();
    send(&other, "a-key", &one).send().await.assert_problem(503, "append_unknown");
    redis.restore();
    let first = system.records_of(&conversation).await.pop().unwrap();
    assert_eq!(first.value["data"]["content"], "one");
    // It is on the log, but not folded: nobody can say yet what the key was used for.
    let early = [(&system, &one), (&system, &two), (&other, &one)];
    for answer in send_concurrently(early.map(|(node, body)| send(node, "a-key", body)).into()).await {
        assert_eq!(answer.status, 503, "{answer:?}");
    }
    hold.rollback().await.unwrap();
    for node in [&system, &other, &system] {
        let again = insist(node, "a-key", &one).await;
        assert_eq!((again.status, &again.data()["createdAt"]), (200, &first.value["occurredAt"]), "{again:?}");
        insist(node, "a-key", &two).await.assert_problem(409, "idempotency_key_reused");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_redis_and_without_agree_on_what_came_first() {
    let (system, other, redis, conversation) = nodes().await;
    redis.down();
    for round in 0..10 {
        let (key, body) = (format!("key-{round}"), message(&conversation, &format!("round {round}")));
        // The bodies are the same, but not when they are accepted.
        let mut answers = send_concurrently(vec![send(&system, &key, &body), send(&other, &key, &body)]).await;
        for (answer, node) in answers.iter_mut().zip([&system, &other]) {
            if answer.status == 503 {
                *answer = insist(node, &key, &body).await;
            }
            assert!([200, 201].contains(&answer.status), "{answer:?}");
        }
        let [with, without] = answers.as_slice() else { unreachable!() };
        assert_eq!(with.data(), without.data(), "round {round}");
        let path = format!("/api/messages/{}", with.id());
        let folded = system.get_after(with, "bob", &path).await;
        assert_eq!(folded.data()["createdAt"], with.data()["createdAt"], "round {round}");
    }
}
