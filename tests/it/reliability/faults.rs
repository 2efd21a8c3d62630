//! The faults of a run: how each begins and ends, and what `/readyz` must say meanwhile.

use std::time::Duration;

use domain::testing::Rng;

use super::services::{PARTITIONS, Services};
use crate::harness::cluster::{Half, ROLES};

/// How much later everything comes from a slow Kafka, at least.
const SLOWNESS: Duration = Duration::from_millis(150);

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// One process of the role is killed with SIGKILL, and started again.
    Killed(&'static str, Half),
    /// One process of the role is paused with SIGSTOP, and resumed.
    Paused(&'static str, Half),
    RedisFlushed,
    RedisFull,
    /// Redis refuses writes.
    RedisReadOnly,
    /// The address leads to another Redis, but open connections stay with the old one, which refuses writes.
    RedisFailedOver,
    /// Open connections are dead: whatever is sent vanishes.
    RedisDead,
    PostgresKilled,
    PostgresReadOnly,
    PostgresDead,
    KafkaKilled,
    /// Another producer leaves a transaction open on every partition.
    KafkaTransaction,
    KafkaSlow,
    KafkaDead,
}

impl Fault {
    /// Every kind of fault once, in an order that the seed decides.
    pub(super) fn all(rng: &mut Rng) -> Vec<Self> {
        let mut all = vec![
            Self::RedisFlushed,
            Self::RedisFull,
            Self::RedisReadOnly,
            Self::RedisFailedOver,
            Self::RedisDead,
            Self::PostgresKilled,
            Self::PostgresReadOnly,
            Self::PostgresDead,
            Self::KafkaKilled,
            Self::KafkaTransaction,
            Self::KafkaSlow,
            Self::KafkaDead,
        ];
        for role in ROLES {
            let mut half = || if rng.percent(50) { Half::First } else { Half::Second };
            all.extend([Self::Killed(role, half()), Self::Paused(role, half())]);
        }
        for index in (1..all.len()).rev() {
            all.swap(index, rng.below(index + 1));
        }
        all
    }

    /// The kind of fault, as the report names it.
    pub(super) fn name(self) -> String {
        match self {
            Self::Killed(role, _) => format!("{role} killed"),
            Self::Paused(role, _) => format!("{role} paused"),
            Self::RedisFlushed => "Redis flushed".to_owned(),
            Self::RedisFull => "Redis full".to_owned(),
            Self::RedisReadOnly => "Redis read-only".to_owned(),
            Self::RedisFailedOver => "Redis failed over".to_owned(),
            Self::RedisDead => "Redis' connections dead".to_owned(),
            Self::PostgresKilled => "Postgres killed".to_owned(),
            Self::PostgresReadOnly => "Postgres read-only".to_owned(),
            Self::PostgresDead => "Postgres' connections dead".to_owned(),
            Self::KafkaKilled => "Kafka killed".to_owned(),
            Self::KafkaTransaction => "Kafka's topic held by an open transaction".to_owned(),
            Self::KafkaSlow => "Kafka slow".to_owned(),
            Self::KafkaDead => "Kafka's connections dead".to_owned(),
        }
    }

    /// The dependency that some `/readyz` must name while the fault lasts; or `process`, if one must not answer. None for
    /// what the processes notice only where it hurts: an empty Redis, a slow Kafka, and connections that are replaced
    /// before a check has used them.
    pub(super) fn named(self) -> Option<&'static str> {
        match self {
            Self::Killed(..) | Self::Paused(..) => Some("process"),
            Self::RedisFull | Self::RedisReadOnly => Some("redis"),
            Self::PostgresKilled => Some("postgres"),
            Self::PostgresReadOnly => Some("postgres-writes"),
            Self::KafkaKilled => Some("kafka"),
            Self::KafkaTransaction => Some("projection"),
            Self::RedisFlushed | Self::RedisFailedOver => None,
            Self::RedisDead | Self::PostgresDead | Self::KafkaDead | Self::KafkaSlow => None,
        }
    }

    /// Whether the dependency answers new requests at once, so that the processes must get over it by themselves.
    pub(super) fn answers_meanwhile(self) -> bool {
        matches!(
            self,
            Self::RedisFlushed | Self::RedisFailedOver | Self::RedisDead | Self::PostgresDead | Self::KafkaDead
        )
    }

    pub(super) async fn begin(self, services: &mut Services) {
        match self {
            Self::Killed(role, half) => services.cluster.process(role, half).child.kill().await.unwrap(),
            Self::Paused(role, half) => services.cluster.process(role, half).freeze().await,
            Self::RedisFlushed => services.redis(&["FLUSHALL"]).await,
            Self::RedisFull => services.redis(&["CONFIG", "SET", "maxmemory", "1"]).await,
            Self::RedisReadOnly => services.redis(&["CONFIG", "SET", "min-replicas-to-write", "2"]).await,
            Self::RedisFailedOver => services.fail_redis_over().await,
            Self::RedisDead => services.redis_proxy.deaden(),
            Self::PostgresKilled => services.postgres.kill().await,
            Self::PostgresReadOnly => services.postgres.set_read_only(true).await,
            Self::PostgresDead => services.postgres_proxy.deaden(),
            Self::KafkaKilled => services.kafka.kill().await,
            Self::KafkaTransaction => {
                let topic = services.system.config.kafka_topic.clone();
                services.transaction = Some(services.kafka.open_transaction(&topic, PARTITIONS).await);
            }
            Self::KafkaSlow => services.kafka.proxy.delay(SLOWNESS),
            Self::KafkaDead => services.kafka.proxy.deaden(),
        }
    }

    /// Ends the fault, and returns once the dependency answers again.
    pub(super) async fn end(self, services: &mut Services) {
        match self {
            Self::Killed(role, half) => services.cluster.start_again(role, half),
            Self::Paused(role, half) => services.cluster.process(role, half).thaw().await,
            Self::RedisFull => services.redis(&["CONFIG", "SET", "maxmemory", "0"]).await,
            Self::RedisReadOnly => services.redis(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await,
            Self::PostgresKilled => services.postgres.resume().await,
            Self::PostgresReadOnly => services.postgres.set_read_only(false).await,
            Self::KafkaKilled => services.kafka.resume().await,
            Self::KafkaTransaction => {
                if let Some(transaction) = services.transaction.take() {
                    transaction.abort().await;
                }
            }
            Self::KafkaSlow => services.kafka.proxy.restore(),
            Self::RedisFlushed | Self::RedisFailedOver => {}
            Self::RedisDead | Self::PostgresDead | Self::KafkaDead => {}
        }
    }
}
