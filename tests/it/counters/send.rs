//! What a message costs on its way to the log: the work of the command API.

use serde_json::json;

use super::{ACTIONS, MeasuredService, measured_config};
use crate::harness::eventually;

/// Requests of a producer that belong to no event: connecting, metadata, and its id.
const KAFKA_OVERHEAD: f64 = 20.0;

/// A command API whose process knows a conversation of alice and bob, next to a projector.
struct Sending {
    command_api: MeasuredService,
    conversation: String,
    _projector: MeasuredService,
}

impl Sending {
    async fn start() -> Self {
        let config = measured_config();
        let (projector, command_api) = tokio::join!(
            MeasuredService::start(&config, &["projector"]),
            MeasuredService::start(&config, &["command-api"])
        );
        let system = &command_api.system;
        system.wait_until_projecting().await;
        let conversation = system.conversation("alice", &["bob"]).await;
        for number in 0..5 {
            system.message("alice", &conversation, &number.to_string()).await;
        }
        Self { command_api, conversation, _projector: projector }
    }

    async fn send_with_key(&self, key: &str) {
        let body = json!({"conversationId": self.conversation, "content": "hello"});
        let sent = self.command_api.system.post_with_key("alice", key, body).await;
        assert_eq!(sent.status, 201, "{sent:?}");
    }

    /// Waits until the command API trusts that Redis has lost no reservation, which takes ten seconds from the first
    /// command on. Until then it looks each key up twice.
    async fn wait_until_reservations_are_trusted(&self) {
        let mut number = 0;
        eventually("the command API trusts the reservations in Redis", async || {
            self.command_api.postgres.take();
            number += 1;
            self.send_with_key(&format!("early-{number}")).await;
            let looked_up = self.command_api.postgres.take().concat();
            (looked_up.iter().filter(|statement| statement.contains("applied_events")).count() == 1).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_takes_one_round_trip_to_redis_one_request_to_kafka_and_no_statement() {
    let sending = Sending::start().await;
    let (command_api, conversation) = (&sending.command_api, &sending.conversation);

    let work = command_api
        .measure("a send", async |_| drop(command_api.system.message("alice", conversation, "hello").await))
        .await;

    assert_eq!(work.round_trips(), ["EVALSHA"], "the script that admits the command");
    assert_eq!(work.statements(), [""; 0], "the facts are in the process");
    work.assert_allocations(225.0);
    let appended = command_api.process.metric("events_appended_total", "").await;
    let (requests, _) = command_api.kafka_requests("producer", appended as usize).await;
    let counted = format!("{requests} requests to Kafka for {appended} events");
    println!("{counted}");
    assert!(requests <= appended + KAFKA_OVERHEAD, "{counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_with_a_key_takes_three_round_trips_to_redis_and_one_statement() {
    let sending = Sending::start().await;
    let command_api = &sending.command_api;
    sending.wait_until_reservations_are_trusted().await;
    let lookups = async || command_api.process.metric("postgres_queries_total", "operation=\"key_use\"").await;
    let lookups_before = lookups().await;

    let work = command_api
        .measure("a send with a key", async |number| sending.send_with_key(&format!("key-{number}")).await)
        .await;

    let expected = ["GET GET", "EVALSHA", "SET SETEX"];
    assert_eq!(work.round_trips(), expected, "look up, admit and reserve, record the position");
    let statements = work.statements();
    assert!(
        matches!(&statements[..], [lookup] if lookup.contains("applied_events")),
        "only whether an earlier event used the key: {statements:?}"
    );
    assert_eq!(lookups().await - lookups_before, ACTIONS as f64, "the metric agrees");
    work.assert_allocations(488.0);
}
