//! Idempotency keys while one node reaches Redis and another doesn't: the node without Redis announces the outage
//! before it uses a key without a reservation.

use messages::process::Roles;
use serde_json::{Value, json};
use service::config::Config;

use crate::harness::http::{Request, Response};
use crate::harness::process::command;
use crate::harness::proxy::Proxy;
use crate::harness::redis::OwnRedis;
use crate::harness::system::{config, unlimited};
use crate::harness::{System, eventually, send_concurrently};

/// Two nodes of one system that trust the reservations in Redis.
struct TwoNodes {
    /// A whole system, which always reaches Redis.
    connected: System,
    /// A command API whose connection to Redis can be cut.
    cut_off: System,
    /// The connection to Redis of `cut_off`.
    redis: Proxy,
    /// A conversation of alice and bob.
    conversation: String,
}

impl TwoNodes {
    async fn start() -> Self {
        let connected = System::with(unlimited).await;
        connected.age_reservation_epoch().await;
        let redis = Proxy::start(&connected.config.redis_url).await;
        let mut config = connected.config.clone();
        config.redis_url.clone_from(&redis.url);
        let cut_off = System::with_roles(config, Roles::COMMAND_API).await;
        let conversation = connected.conversation("alice", &["bob"]).await;
        connected.wait_until_caught_up().await;
        let nodes = Self { connected, cut_off, redis, conversation };
        nodes.wait_until_reservations_are_trusted().await;
        nodes.connected.wait_until_caught_up().await;
        nodes
    }

    /// While the read model stands still, only a node that trusts the reservations can answer a new key.
    async fn wait_until_reservations_are_trusted(&self) {
        let hold = self.connected.pause_projection().await;
        for node in [&self.connected, &self.cut_off] {
            eventually("reservations are trusted", async || {
                let key = uuid::Uuid::now_v7().to_string();
                (send(node, &key, &self.message("hi")).send().await.status == 201).then_some(())
            })
            .await;
        }
        hold.rollback().await.unwrap();
    }

    fn message(&self, content: &str) -> Value {
        json!({"conversationId": self.conversation, "content": content})
    }
}

/// A request of alice to a node.
fn send(node: &System, key: &str, body: &Value) -> Request {
    node.ask("alice", "POST", "/api/messages").key(key).json(body)
}

/// Sends until the node answers whether the command was done.
async fn send_until_decided(node: &System, key: &str, body: &Value) -> Response {
    let answer = async || Some(send(node, key, body).send().await).filter(|answer| answer.status != 503);
    eventually("the command is decided", answer).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_used_without_redis_is_used_on_every_node() {
    let nodes = TwoNodes::start().await;
    let TwoNodes { connected, cut_off, .. } = &nodes;
    let first_body = nodes.message("one");
    let other_body = nodes.message("two");
    let hold = connected.pause_projection().await;

    nodes.redis.down();
    send(cut_off, "a-key", &first_body).send().await.assert_problem(503, "append_unknown");
    nodes.redis.restore();
    let appended = connected.records_of(&nodes.conversation).await.pop().unwrap();
    assert_eq!(appended.value["data"]["content"], "one");

    // The event is on the log but not folded: no node knows yet which command used the key.
    let undecided = send_concurrently(vec![
        send(connected, "a-key", &first_body),
        send(connected, "a-key", &other_body),
        send(cut_off, "a-key", &first_body),
    ]);
    for answer in undecided.await {
        assert_eq!(answer.status, 503, "{answer:?}");
    }
    hold.rollback().await.unwrap();
    for node in [connected, cut_off, connected] {
        let retried = send_until_decided(node, "a-key", &first_body).await;
        let expected = (200, &appended.value["occurredAt"]);
        assert_eq!((retried.status, &retried.data()["createdAt"]), expected, "{retried:?}");
        let reused = send_until_decided(node, "a-key", &other_body).await;
        reused.assert_problem(409, "idempotency_key_reused");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_and_without_redis_agree_on_the_first_use_of_a_key() {
    let nodes = TwoNodes::start().await;
    let TwoNodes { connected, cut_off, .. } = &nodes;
    nodes.redis.down();
    for round in 0..10 {
        let key = format!("key-{round}");
        let body = nodes.message(&format!("round {round}"));

        // The bodies are the same, but not the times at which the nodes accept them.
        let mut answers = send_concurrently(vec![send(connected, &key, &body), send(cut_off, &key, &body)]).await;
        for (answer, node) in answers.iter_mut().zip([connected, cut_off]) {
            if answer.status == 503 {
                *answer = send_until_decided(node, &key, &body).await;
            }
            assert!([200, 201].contains(&answer.status), "{answer:?}");
        }

        let [with_redis, without_redis] = answers.as_slice() else { unreachable!() };
        assert_eq!(with_redis.data(), without_redis.data(), "round {round}");
        let path = format!("/api/messages/{}", with_redis.id());
        let folded = connected.get_after(with_redis, "bob", &path).await;
        assert_eq!(folded.data()["createdAt"], with_redis.data()["createdAt"], "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_full_shows_in_readiness_and_by_the_doctor() {
    let full = OwnRedis::start(&[]).await;
    let config = Config { redis_url: full.url.clone(), ..config() };
    let system = System::with_roles(config.clone(), Roles::ALL).await;
    // Kafka may not answer in time on a busy machine.
    let ready = async || {
        eventually("the process is ready", async || {
            Some(system.request("GET", "/readyz").send().await).filter(|ready| ready.status == 200)
        })
        .await
    };
    let redis_in =
        |ready: &Response| ready.body["degraded"].as_array().unwrap().iter().find(|it| it["field"] == "redis").cloned();
    assert_eq!(redis_in(&ready().await), None);

    // Less than it uses already.
    let mut limit = redis::cmd("CONFIG");
    limit.arg("SET").arg("maxmemory").arg("100kb");
    limit.query_async::<()>(&mut full.connect().await).await.unwrap();
    eventually("readiness names Redis", async || {
        let redis = redis_in(&ready().await)?;
        assert_eq!(redis["code"], "half_works");
        redis["detail"].as_str()?.contains("maxmemory").then_some(())
    })
    .await;
    let printed = command(&config, &["doctor"]).output().await.unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("✗ Redis is full, and refuses to write"), "{printed}");
    let sent = system.post("alice", json!({"action": "conversation", "participantIds": ["bob"]})).await;
    assert_eq!(sent.status, 201, "{sent:?}");
}
