//! Kafka, Postgres and Redis of a run's own, each behind a proxy, and two processes of each role that use them.

use std::path::PathBuf;

use service::config::Config;
use sqlx::{Connection, PgConnection};

use crate::harness::cluster::Cluster;
use crate::harness::kafka::{OpenTransaction, OwnKafka};
use crate::harness::postgres::OwnPostgres;
use crate::harness::process::Release;
use crate::harness::proxy::Proxy;
use crate::harness::redis::OwnRedis;
use crate::harness::system::{System, config, unlimited};

/// How many partitions the topic of a run has.
pub(super) const PARTITIONS: i32 = 6;

/// A replica gets the data at once, and over the network alone: no Redis of a test writes files.
const REPLICATION: [&str; 4] = ["--repl-diskless-sync-delay", "0", "--repl-diskless-load", "swapdb"];

/// Everything that a run can break.
pub(super) struct Services {
    pub(super) kafka: OwnKafka,
    pub(super) transaction: Option<OpenTransaction>,
    pub(super) postgres: OwnPostgres,
    pub(super) postgres_proxy: Proxy,
    /// The primary and its replica.
    pub(super) redis: [OwnRedis; 2],
    pub(super) primary: usize,
    pub(super) redis_proxy: Proxy,
    pub(super) cluster: Cluster,
    /// The system as a client reaches it, and its Kafka and Postgres without a proxy.
    pub(super) system: System,
}

impl Services {
    /// Starts everything. The processes log into this folder.
    pub(super) async fn start(logs: PathBuf) -> Self {
        let (kafka, postgres, primary) =
            tokio::join!(OwnKafka::start(), start_postgres(), OwnRedis::start(&REPLICATION));
        let replica_of = primary.url.replacen("redis://127.0.0.1:", "127.0.0.1 ", 1);
        let replica = OwnRedis::start(&[&REPLICATION[..], &["--replicaof", &replica_of]].concat()).await;
        let (postgres_proxy, redis_proxy) = (Proxy::start(&postgres.url).await, Proxy::start(&primary.url).await);
        let mut direct = config();
        unlimited(&mut direct);
        direct.kafka_partitions = PARTITIONS;
        direct.kafka_brokers.clone_from(&kafka.direct);
        direct.database_url.clone_from(&postgres.url);
        direct.redis_url.clone_from(&primary.url);
        let proxied = Config {
            kafka_brokers: kafka.brokers.clone(),
            database_url: postgres_proxy.url.clone(),
            redis_url: redis_proxy.url.clone(),
            ..direct.clone()
        };
        let cluster = Cluster::logging(&proxied, Release::Current, Some(logs)).await;
        let system = System::attach(direct, &cluster.nginx.url);
        system.wait_until_projecting_by(2).await;
        let redis = [primary, replica];
        Self { kafka, transaction: None, postgres, postgres_proxy, redis, primary: 0, redis_proxy, cluster, system }
    }

    /// Sends a command to the primary Redis.
    pub(super) async fn redis(&self, command: &[&str]) {
        tell(&self.redis[self.primary], command).await;
    }

    /// Makes the replica the primary, and the primary its replica. The address leads to the new primary, but open
    /// connections stay with the old one.
    pub(super) async fn fail_redis_over(&mut self) {
        let (old, new) = (self.primary, 1 - self.primary);
        let (old, new) = (&self.redis[old], &self.redis[new]);
        tell(new, &["REPLICAOF", "NO", "ONE"]).await;
        self.redis_proxy.redirect(&new.url).await;
        let port = new.url.rsplit(':').next().unwrap();
        tell(old, &["REPLICAOF", "127.0.0.1", port]).await;
        self.primary = 1 - self.primary;
    }
}

async fn tell(redis: &OwnRedis, command: &[&str]) {
    let mut order = redis::cmd(command[0]);
    order.arg(&command[1..]);
    order.query_async::<()>(&mut redis.connect().await).await.unwrap();
}

/// Two processes of each role need more connections than Postgres allows by default.
async fn start_postgres() -> OwnPostgres {
    let mut postgres = OwnPostgres::start().await;
    let mut connection = PgConnection::connect(&postgres.url).await.unwrap();
    sqlx::raw_sql("ALTER SYSTEM SET max_connections = 400").execute(&mut connection).await.unwrap();
    postgres.stop().await;
    postgres.resume().await;
    postgres
}
