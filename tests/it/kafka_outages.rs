//! Connections to Kafka may die without a word: the system notices it and connects again.

use event_log::LogConsumer;

use crate::harness::kafka::OwnKafka;
use crate::harness::system::config;
use crate::harness::{Client, System, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn commands_reads_and_frames_go_on_after_the_connections_to_kafka_have_died() {
    let kafka = OwnKafka::start().await;
    let mut config = config();
    config.kafka_brokers.clone_from(&kafka.brokers);
    let system = System::with_config(config).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let mut bob = Client::connect(&system, "bob").await;

    kafka.proxy.deaden();

    let sent = eventually("a command is acknowledged", async || {
        let sent = system.send("alice", &conversation, "after").await;
        (sent.status == 201).then_some(sent)
    })
    .await;
    let read = system.get_after(&sent, "alice", &format!("/api/messages/{}", sent.id())).await;
    assert_eq!(read.status, 200, "{read:?}");
    bob.frames_until("the message arrives", |frame| frame.is_message("after")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_one_look_up_of_a_record_fails_on_a_connection_to_kafka_that_has_died() {
    let kafka = OwnKafka::start().await;
    let mut config = config();
    config.kafka_brokers.clone_from(&kafka.brokers);
    let system = System::with_config(config).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let position = system.send("alice", &conversation, "before").await.position().parse().unwrap();
    let log = LogConsumer::new(&kafka.brokers, &system.config.kafka_topic, "test");
    log.read_at(position).await.unwrap().expect("there is such a record");

    kafka.proxy.deaden();

    let is_found = async || log.read_at(position).await.is_ok_and(|record| record.is_some());
    assert!(is_found().await || is_found().await, "two look-ups failed");
}
