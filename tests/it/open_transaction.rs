//! Another producer leaves a transaction open on the topic: nobody can read what Kafka acknowledges after it began. The
//! system says so, with the partition and the offset, and never answers that what it acknowledged doesn't exist.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use redis::AsyncCommands;
use serde_json::json;
use service::config::Config;

use crate::harness::http::Response;
use crate::harness::process::{ServiceProcess, command};
use crate::harness::system::{System, config, eventually, unknown_id, unlimited};

/// The partition on which the transaction is open.
pub(crate) const HELD: i32 = 1;
const KAFKA_TIMEOUT: Duration = Duration::from_secs(20);

/// An open transaction of a producer that isn't ours.
pub(crate) struct OpenTransaction {
    producer: FutureProducer,
    /// The offset of its first record.
    pub(crate) offset: i64,
}

impl OpenTransaction {
    pub(crate) async fn begin(config: &Config) -> Self {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", &config.kafka_brokers)
            .set("transactional.id", format!("{}-another", config.kafka_topic))
            .set("transaction.timeout.ms", "600000")
            .create()
            .unwrap();
        let started = producer.clone();
        let begin = move || {
            started.init_transactions(KAFKA_TIMEOUT).unwrap();
            started.begin_transaction().unwrap();
        };
        tokio::task::spawn_blocking(begin).await.unwrap();
        let record = FutureRecord::<str, str>::to(&config.kafka_topic).partition(HELD).payload("not ours");
        let delivered = producer.send(record, KAFKA_TIMEOUT).await.unwrap();
        Self { producer, offset: delivered.offset }
    }

    pub(crate) async fn abort(self) {
        let abort = move || self.producer.abort_transaction(KAFKA_TIMEOUT).unwrap();
        tokio::task::spawn_blocking(abort).await.unwrap();
    }
}

/// A system in a process of its own, and a conversation of alice on the held partition.
struct Site {
    process: ServiceProcess,
    system: System,
    conversation: String,
}

impl Site {
    async fn start() -> Self {
        let mut config = config();
        unlimited(&mut config);
        let process = ServiceProcess::start(&config, &["all"]).await;
        let system = System::attach(config, &process.url);
        system.age_reservation_epoch().await;
        let created = Self::create(&system, "bob").await;
        system.wait_until_published(&created).await;
        Self { conversation: created.id(), process, system }
    }

    async fn create(system: &System, name: &str) -> Response {
        let peer = system.peer_on(HELD, "alice", name);
        let created = system.post("alice", json!({"action": "conversation", "participantIds": [peer]})).await;
        assert_eq!(created.status, 201, "{created:?}");
        created
    }

    async fn send_with_key(&self, content: &str) -> Response {
        let body = json!({"conversationId": self.conversation, "content": content});
        self.system.post_with_key("alice", "a-key", body).await
    }

    async fn printed(&self, arguments: &[&str]) -> String {
        let output = command(&self.system.config, arguments).output().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    async fn projection_detail(&self) -> Option<String> {
        let degraded = self.system.request("GET", "/readyz").send().await.body["degraded"].clone();
        let named = degraded.as_array()?.iter().find(|it| it["field"] == "projection")?;
        named["detail"].as_str().map(str::to_owned)
    }

    /// Of the metrics with a partition, only the held one's exists.
    async fn wait_for_metric(&self, name: &str, is_expected: impl Fn(f64) -> bool) {
        let metric = async || Some(self.process.metric(name, "").await).filter(|value| is_expected(*value));
        eventually(name, metric).await;
    }

    /// Redis forgets what commands have just created, and how fresh the held partition is, as it does after a minute.
    async fn let_a_minute_pass(&self) {
        let mut redis = self.system.redis().await;
        for key in self.system.redis_keys().await {
            if key.contains(":begun:") {
                redis.del::<_, ()>(&key).await.unwrap();
            } else if key.contains(":as-of") {
                redis.hdel::<_, _, ()>(&key, HELD).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_behind_an_open_transaction_is_503_and_never_404_until_it_ends() {
    let site = Site::start().await;
    let system = &site.system;
    let transaction = OpenTransaction::begin(&system.config).await;

    let sent = system.send("alice", &site.conversation, "behind it").await;
    let keyed = site.send_with_key("with a key").await;
    let created = Site::create(system, "carol").await;
    assert_eq!((sent.status, keyed.status), (201, 201), "{sent:?} {keyed:?}");
    let paths = [
        format!("/api/messages/{}", sent.id()),
        format!("/api/messages/{}", keyed.id()),
        format!("/api/conversations/{}", created.id()),
    ];
    let retried = site.send_with_key("with a key").await;
    assert_eq!((retried.status, retried.id()), (200, keyed.id()), "its event is read from the log: {retried:?}");

    site.let_a_minute_pass().await;
    for path in &paths {
        system.get("alice", path).await.assert_problem(503, "projection_behind");
        let demanding = system.ask("alice", "GET", path).header("Messages-Position", created.position());
        demanding.send().await.assert_problem(503, "projection_behind");
        // A stranger can't tell what exists.
        system.get("eve", path).await.assert_problem(503, "projection_behind");
    }
    let unknown = format!("/api/messages/{}", unknown_id());
    system.get("alice", &unknown).await.assert_problem(503, "projection_behind");
    system.react("alice", &sent.id(), "👍").await.assert_problem(503, "projection_behind");

    transaction.abort().await;
    system.wait_until_published(&created).await;
    for path in &paths {
        let read = system.get_after(&created, "alice", path).await;
        assert_eq!(read.status, 200, "{path}: {read:?}");
    }
    eventually("what doesn't exist is 404 again", async || {
        (system.get("alice", &unknown).await.body["code"] == "not_found").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_is_named_with_its_partition_and_offset_until_it_ends() {
    let site = Site::start().await;
    let transaction = OpenTransaction::begin(&site.system.config).await;
    let offset = transaction.offset;
    let sent = site.system.send("alice", &site.conversation, "behind it").await;
    assert_eq!(sent.status, 201, "{sent:?}");

    let reason = format!("an open transaction of another producer holds the records from offset {offset} on");
    let name = format!("no progress on partitions {HELD}: {reason}");
    eventually("readiness names it", async || site.projection_detail().await?.starts_with(&name).then_some(())).await;
    site.wait_for_metric("projector_stalled_offset", |held| held == offset as f64).await;
    site.wait_for_metric("projector_lag_events", |events| events >= 2.0).await;
    site.wait_for_metric("projector_lag_seconds", |seconds| seconds > 0.0).await;
    let doctor = site.printed(&["doctor"]).await;
    assert!(doctor.contains(&format!("✗ partition {HELD}: {reason}")), "{doctor}");
    let topic = site.printed(&["topic"]).await;
    assert!(topic.contains(&format!("partition {HELD}: {reason}")), "{topic}");
    let end = (offset + 2).to_string();
    assert!(topic.lines().any(|line| line.split_whitespace().eq([&HELD.to_string(), "0", &end])), "{end}: {topic}");
    let ready = site.system.request("GET", "/readyz").send().await;
    assert_eq!(ready.status, 200, "realtime and the others work: {ready:?}");

    transaction.abort().await;
    eventually("nobody names it any more", async || site.projection_detail().await.is_none().then_some(())).await;
    site.wait_for_metric("projector_lag_events", |events| events == 0.0).await;
    site.wait_for_metric("projector_stalled_offset", |held| held == -1.0).await;
    assert!(!site.printed(&["topic"]).await.contains("transaction"));
}
