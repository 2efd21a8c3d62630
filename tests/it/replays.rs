//! Retries with used keys: however many come at once, each gets its first response, and they share the reads of the
//! log.

use domain::Position;
use event_log::LogConsumer;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::log::{self, NewRecord};
use crate::harness::{System, send_concurrently};

/// A record of a conversation, told from the others by its value.
fn record(conversation: &str, number: usize) -> NewRecord {
    let value = json!({"number": number}).to_string().into_bytes();
    NewRecord { key: conversation.to_owned(), value, event_type: None, timestamp_ms: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_records_are_read_again_at_once_and_missing_ones_are_named() {
    let system = System::start().await;
    let conversations: Vec<String> = (0..8).map(|_| Uuid::now_v7().to_string()).collect();
    let records: Vec<NewRecord> =
        (0..1_000).map(|number| record(&conversations[number * number % conversations.len()], number)).collect();
    let positions = log::append(&system.config, &records).await;
    let log = LogConsumer::new(&system.config.kafka_brokers, &system.config.kafka_topic, "test");

    // Every third record, the newest first, some of them twice; and of each partition what doesn't exist.
    let mut wanted: Vec<Position> = positions.iter().rev().step_by(3).map(|it| it.parse().unwrap()).collect();
    wanted.extend_from_within(..50);
    let beyond = (0..system.config.kafka_partitions).map(|partition| Position { partition, offset: 1_000_000 });
    let (found, missing) = tokio::join!(
        futures_util::future::join_all(wanted.iter().map(|position| log.read_at(*position))),
        futures_util::future::join_all(beyond.map(|position| log.read_at(position))),
    );

    for (position, found) in wanted.iter().zip(found) {
        let found = found.unwrap().unwrap_or_else(|| panic!("nothing at {position}"));
        let number = positions.iter().position(|it| *it == position.to_string()).unwrap();
        assert_eq!((found.position, &found.value), (*position, &records[number].value));
    }
    for missing in missing {
        assert_eq!(missing.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_retries_gets_the_first_responses() {
    let system = System::unlimited().await;
    let mut sent = Vec::new();
    for peer in 0..6 {
        let conversation = system.conversation("alice", &[&format!("peer-{peer}")]).await;
        for number in 0..20 {
            let (key, body) =
                (Uuid::now_v7().to_string(), json!({"conversationId": conversation, "content": number.to_string()}));
            let first = system.post_with_key("alice", &key, body.clone()).await;
            assert_eq!(first.status, 201, "{first:?}");
            sent.push((key, body, first));
        }
    }
    let retry = |key: &str, body: &Value| system.ask("alice", "POST", "/api/messages").key(key).json(body);
    let records_before = system.records().await.len();

    let retries = (0..5).flat_map(|_| &sent).map(|(key, body, _)| retry(key, body));
    let retried = send_concurrently(retries.collect()).await;

    for (retried, (_, _, first)) in retried.iter().zip((0..5).flat_map(|_| &sent)) {
        assert_eq!((retried.status, retried.data()), (200, first.data()), "{retried:?}");
        assert_eq!((retried.header("idempotent-replayed"), retried.position()), ("true", first.position()));
        retried.assert_not_counted();
    }
    assert_eq!(system.records().await.len(), records_before, "nothing is appended");
}
