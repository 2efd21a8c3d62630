//! A partition that no broker leads: nobody can append to it or read it. Whoever asks for the log's end learns which one
//! it is.

use event_log::{LogConsumer, LogError};
use rdkafka::mocking::MockCluster;

use crate::harness::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_a_leader_is_named() {
    let brokers = MockCluster::new(1).unwrap();
    brokers.create_topic("messages", 3, 1).unwrap();
    let log = LogConsumer::new(&brokers.bootstrap_servers(), "messages", "test");
    eventually("the log's end is known", async || log.end_offsets().await.ok()).await;

    brokers.partition_leader("messages", 1, None).unwrap();
    let fresh = LogConsumer::new(&brokers.bootstrap_servers(), "messages", "test");
    for log in [log, fresh] {
        let named = eventually("the look-up fails", async || log.end_offsets().await.err()).await;
        assert_eq!(named.to_string(), "Kafka: partitions [1] have no leader");
        assert!(!named.is_without_answer() && matches!(named, LogError::Leaderless(_)), "the broker answers");
    }
}
