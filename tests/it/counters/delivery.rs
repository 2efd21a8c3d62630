//! What a delivery costs: one record, relayed to the sockets of its room by a realtime node.

use super::{MeasuredService, measured_config};
use crate::harness::raw_socket::RawSocket;

/// How many requests a second the relay sends while no records come: the broker holds each back for 100 ms.
const IDLE_FETCHES_PER_SECOND: f64 = 10.0;
/// Requests that no record causes: connecting, metadata, and the oldest offsets for librdkafka's statistics.
const KAFKA_OVERHEAD: f64 = 60.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_asks_neither_redis_nor_postgres_and_kafka_once() {
    let config = measured_config();
    let (_projector, command_api, query_api) = tokio::join!(
        MeasuredService::start(&config, &["projector"]),
        MeasuredService::start(&config, &["command-api"]),
        MeasuredService::start(&config, &["query-api"])
    );
    let realtime = MeasuredService::start(&config, &["realtime", "--query-api-url", &query_api.system.url]).await;
    let commands = &command_api.system;
    commands.wait_until_projecting().await;
    let conversation = commands.conversation("alice", &["bob", "carol"]).await;
    let url = &realtime.process.url;
    let mut sockets = [
        RawSocket::connect(&realtime.system, url, "bob").await,
        RawSocket::connect(&realtime.system, url, "carol").await,
    ];
    // Without the checks of readiness, which query-api refuses.
    let answered = r#"route="/internal/memberships",status="200""#;
    let queries = async || query_api.process.metric("http_requests_total", answered).await;
    let mut deliver = async |_| {
        commands.message("alice", &conversation, "hello").await;
        for socket in &mut sockets {
            socket.until("42[\"message:new\"").await;
        }
    };
    deliver(0).await;
    let queries_before = queries().await;

    let work = realtime.measure("a delivery to two sockets", &mut deliver).await;

    assert_eq!(work.round_trips(), [""; 0]);
    assert_eq!(work.statements(), [""; 0]);
    assert_eq!(queries().await - queries_before, 0.0, "the node knows its rooms");
    work.assert_allocations(107.0);
    let records = realtime.process.metric("records_consumed_total", "consumer=\"realtime\"").await;
    let (requests, seconds) = realtime.kafka_requests("consumer", records as usize).await;
    let most = records + IDLE_FETCHES_PER_SECOND * seconds + KAFKA_OVERHEAD;
    let counted = format!("{requests} requests to Kafka for {records} records in {seconds:.1} s");
    println!("{counted}");
    assert!(requests <= most, "{counted}, more than {most:.0}");
}
