//! A Kafka of a test's own behind a proxy: the test may kill it, slow it down, and leave a transaction open on a topic.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use service::config::Config;
use tokio::process::{Child, Command};
use uuid::Uuid;

use super::process::free_port;
use super::proxy::Proxy;
use super::repository::root;
use super::system::eventually;

/// How long Kafka may take for one response.
const KAFKA_TIMEOUT: Duration = Duration::from_secs(10);

/// A Kafka of a test's own. It ends with the test.
pub(crate) struct OwnKafka {
    /// The broker for the services under test: through [`Self::proxy`].
    pub(crate) brokers: String,
    /// The broker for the test itself: without a proxy.
    pub(crate) direct: String,
    pub(crate) proxy: Proxy,
    /// None while it is killed.
    server: Option<Child>,
    folder: Folder,
}

/// The configuration and the data. They are deleted with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A transaction that is open on a topic: consumers of committed records read nothing that comes after it. It is aborted
/// with [`Self::abort`].
pub(crate) struct OpenTransaction(ThreadedProducer<DefaultProducerContext>);

impl OwnKafka {
    /// Starts one with empty storage, and waits until it answers.
    pub(crate) async fn start() -> Self {
        let name = format!("messages-test-kafka-{}", Uuid::now_v7().simple());
        let folder = Folder(std::env::temp_dir().join(name));
        std::fs::create_dir(&folder.0).unwrap();
        let [proxied, direct, controller] = [(); 3].map(|()| free_port());
        let proxy = Proxy::start(&format!("kafka://127.0.0.1:{proxied}")).await;
        let brokers = proxy.url.replacen("kafka://", "", 1);
        let (listener, direct) = (format!("127.0.0.1:{proxied}"), format!("127.0.0.1:{direct}"));
        let data = folder.0.join("data");
        let configuration = configuration(&listener, &brokers, &direct, controller, &data);
        std::fs::write(folder.0.join("server.properties"), configuration).unwrap();
        let mut kafka = Self { brokers, direct, proxy, server: None, folder };
        let properties = kafka.folder.0.join("server.properties");
        let id = format!("M{}", &Uuid::now_v7().simple().to_string()[..21]);
        let made = java("kafka.tools.StorageTool")
            .args(["format", "--standalone", "-t", &id, "-c"])
            .arg(properties)
            .output()
            .await
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        kafka.resume().await;
        kafka
    }

    /// Starts it again with the data that it had, and waits until it answers.
    pub(crate) async fn resume(&mut self) {
        let log = std::fs::File::create(self.folder.0.join("kafka.log")).unwrap();
        let mut server = java("kafka.Kafka");
        server.arg(self.folder.0.join("server.properties")).stdout(Stdio::from(log));
        self.server = Some(server.spawn().unwrap());
        eventually("Kafka answers", async || {
            let brokers = self.direct.clone();
            let answers = tokio::task::spawn_blocking(move || {
                let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
                // Metadata lists the broker once it has joined the cluster. Only then it can create topics.
                client.fetch_metadata(None, Duration::from_secs(2)).is_ok_and(|found| !found.brokers().is_empty())
            });
            answers.await.unwrap().then_some(())
        })
        .await;
    }

    /// Kills it with SIGKILL.
    pub(crate) async fn kill(&mut self) {
        let mut server = self.server.take().expect("Kafka runs");
        server.kill().await.unwrap();
    }

    /// Leaves a transaction open on these partitions of a topic.
    pub(crate) async fn open_transaction(&self, topic: &str, partitions: i32) -> OpenTransaction {
        let (brokers, topic) = (self.direct.clone(), topic.to_owned());
        let open = tokio::task::spawn_blocking(move || {
            let producer: ThreadedProducer<_> = ClientConfig::new()
                .set("bootstrap.servers", brokers)
                .set("transactional.id", Uuid::now_v7().to_string())
                .set("transaction.timeout.ms", "60000")
                .create()
                .unwrap();
            producer.init_transactions(KAFKA_TIMEOUT).unwrap();
            producer.begin_transaction().unwrap();
            for partition in 0..partitions {
                let record = BaseRecord::to(&topic).partition(partition).key("a stranger").payload("no event");
                producer.send(record).map_err(|(error, _)| error).unwrap();
            }
            producer.flush(KAFKA_TIMEOUT).unwrap();
            OpenTransaction(producer)
        });
        open.await.unwrap()
    }
}

impl OpenTransaction {
    /// Aborts the transaction: nobody reads its records.
    pub(crate) async fn abort(self) {
        tokio::task::spawn_blocking(move || self.0.abort_transaction(KAFKA_TIMEOUT).unwrap()).await.unwrap();
    }
}

/// One broker, which is also the controller. The services under test reach it at `brokers`, the address of a proxy in
/// front of `listener`.
fn configuration(listener: &str, brokers: &str, direct: &str, controller: u16, data: &Path) -> String {
    let data = data.display();
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PROXIED://{listener},DIRECT://{direct},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PROXIED://{brokers},DIRECT://{direct}
inter.broker.listener.name=DIRECT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PROXIED:PLAINTEXT,DIRECT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=4194304
"
    )
}

/// Prepares a program of Kafka, with the jars that `scripts/services up` installs.
fn java(class: &str) -> Command {
    let libs = root().join(".services/kafka/libs");
    assert!(libs.exists(), "Kafka's jars are missing; `scripts/services up` installs them");
    let mut command = Command::new("java");
    command
        .args(["-Xms256m", "-Xmx256m", "-XX:+UseSerialGC", "-Djava.awt.headless=true"])
        .arg(format!("-Dlog4j2.configurationFile={}", root().join("scripts/kafka/log4j2.yaml").display()))
        .arg("-cp")
        .arg(libs.join("*"))
        .arg(class)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_kafka_keeps_its_records_and_an_open_transaction_holds_them_back() {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    use rdkafka::client::DefaultClientContext;

    use super::log::{NewRecord, append, records};

    let mut kafka = OwnKafka::start().await;
    let config = Config { kafka_brokers: kafka.brokers.clone(), ..super::system::config() };
    let topic = config.kafka_topic.clone();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create().unwrap();
    let wanted = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
    admin.create_topics(&[wanted], &AdminOptions::new()).await.unwrap();
    let record = |value: &str| {
        let (key, value) = ("key".to_owned(), value.as_bytes().to_vec());
        [NewRecord { key, value, event_type: None, timestamp_ms: None }]
    };
    append(&config, &record("before")).await;
    kafka.kill().await;
    kafka.resume().await;
    let transaction = kafka.open_transaction(&topic, 1).await;
    append(&config, &record("after")).await;
    let values = async || {
        let records = records(&kafka.direct, &topic).await;
        records.into_iter().map(|record| String::from_utf8(record.bytes).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(values().await, ["before"]);
    transaction.abort().await;
    eventually("the record after the transaction is there", async || {
        (values().await == ["before", "after"]).then_some(())
    })
    .await;
}
