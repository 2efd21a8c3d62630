//! The topic, which is the system of record: the system creates it once with the required settings, and refuses a topic
//! with other settings or a topic that replaced the one it knows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use messages::process::{self, Roles};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde_json::json;
use service::config::Config;
use tokio_util::sync::CancellationToken;

use crate::harness::fold::assert_folded;
use crate::harness::log::{self, NewRecord};
use crate::harness::process::command;
use crate::harness::system::config;
use crate::harness::{System, eventually};

/// The settings that a topic must have.
pub(crate) const REQUIRED_SETTINGS: [(&str, &str); 4] = [
    ("cleanup.policy", "delete"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("message.timestamp.type", "LogAppendTime"),
];

pub(crate) fn admin(config: &Config) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &config.kafka_brokers).create().unwrap()
}

/// Creates the configuration's topic by hand, with one partition.
async fn create_topic(config: &Config, settings: &[(&str, &str)]) {
    let topic = NewTopic::new(&config.kafka_topic, 1, TopicReplication::Fixed(1));
    let topic = settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
    let created = admin(config).create_topics([&topic], &AdminOptions::new()).await.unwrap();
    assert_eq!(created, [Ok(config.kafka_topic.clone())]);
}

/// Deletes the configuration's topic, and creates another one with the same name and the required settings.
pub(crate) async fn replace_topic(config: &Config) {
    let admin = Arc::new(admin(config));
    let name = config.kafka_topic.as_str();
    admin.delete_topics(&[name], &AdminOptions::new()).await.unwrap();
    // Until Kafka has deleted the old one, it refuses the name.
    eventually("the topic is created again", async || {
        let topic = NewTopic::new(name, config.kafka_partitions, TopicReplication::Fixed(1));
        let topic = REQUIRED_SETTINGS.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
        let created = admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
        created[0].is_ok().then_some(())
    })
    .await;
    // A broker that doesn't lead the new partitions yet answers with errors that say nothing of the topic.
    for partition in 0..config.kafka_partitions {
        eventually("each partition of the new topic has a leader", async || {
            let (admin, name) = (admin.clone(), name.to_owned());
            let asked = move || admin.inner().fetch_watermarks(&name, partition, Duration::from_secs(2));
            tokio::task::spawn_blocking(asked).await.unwrap().ok().map(|_| ())
        })
        .await;
    }
}

struct TopicDescription {
    partitions: usize,
    settings: BTreeMap<String, String>,
}

async fn describe_topic(config: &Config) -> TopicDescription {
    let admin = admin(config);
    let topic = ResourceSpecifier::Topic(&config.kafka_topic);
    let entries = admin.describe_configs([&topic], &AdminOptions::new()).await.unwrap().remove(0).unwrap().entries;
    let settings = entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect();
    let topic = config.kafka_topic.clone();
    let metadata = tokio::task::spawn_blocking(move || {
        admin.inner().fetch_metadata(Some(&topic), Duration::from_secs(10)).unwrap()
    });
    TopicDescription { partitions: metadata.await.unwrap().topics()[0].partitions().len(), settings }
}

/// Tries to start a process; the error with which it refuses.
async fn startup_error(config: &Config) -> String {
    let socket = service::lifecycle::bind(([127, 0, 0, 1], 0).into()).unwrap();
    match process::start(config, Roles::ALL, socket, CancellationToken::new()).await {
        Ok(_) => panic!("the process started"),
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_system_creates_a_topic_with_twelve_partitions_that_keeps_everything() {
    // The default of `messages`: the tests' own systems have fewer partitions, to start sooner.
    let partitions = crate::harness::system::defaults().kafka_partitions;
    let system = System::with(|config| config.kafka_partitions = partitions).await;
    let topic = describe_topic(&system.config).await;
    assert_eq!(topic.partitions, 12);
    for (name, value) in REQUIRED_SETTINGS {
        assert_eq!(topic.settings[name], value, "{name}");
    }
    // With one broker there is one replica, and no more than one can be in sync.
    assert_eq!(topic.settings["min.insync.replicas"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_with_a_wrong_setting_is_refused_and_the_error_names_the_setting() {
    for (name, wrong) in [
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", "604800000"),
        ("retention.bytes", "1073741824"),
        ("message.timestamp.type", "CreateTime"),
        ("max.message.bytes", "262143"),
    ] {
        let config = config();
        let mut settings = BTreeMap::from(REQUIRED_SETTINGS);
        settings.insert(name, wrong);
        create_topic(&config, &settings.into_iter().collect::<Vec<_>>()).await;
        let error = startup_error(&config).await;
        assert!(error.contains(&format!("{name}={wrong}")) && error.contains(&config.kafka_topic), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_topic_keeps_its_number_of_partitions() {
    let mut config = config();
    create_topic(&config, &REQUIRED_SETTINGS).await;
    config.kafka_partitions = 5;
    let system = System::with_roles(config, Roles::ALL).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    assert_eq!(system.records_of(&conversation).await[0].position(), "0:0");
    assert_eq!(describe_topic(&system.config).await.partitions, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_at_the_same_time_create_one_topic() {
    let config = config();
    let starts: Vec<_> = (0..3).map(|_| tokio::spawn(System::with_roles(config.clone(), Roles::ALL))).collect();
    let mut systems = Vec::new();
    for start in starts {
        systems.push(start.await.unwrap());
    }
    let conversation = systems[0].conversation("alice", &["bob"]).await;
    for system in &systems {
        system.message("alice", &conversation, "hi").await;
    }
    assert_eq!(systems[2].records_of(&conversation).await.len(), 1 + 3);
}

/// A direct conversation of alice: with whom, its id (the record's key), and the partition of that key.
struct Partitioned {
    with: &'static str,
    key: &'static str,
    partition: i32,
}

/// Computed once with org.apache.kafka.common.utils.Utils: toPositive(murmur2(key)) % 12.
const PARTITIONED_BY_JAVA: [Partitioned; 7] = [
    Partitioned { with: "bob", key: "407160a2-20eb-59a8-9416-f90f967e4c59", partition: 6 },
    Partitioned { with: "carol", key: "79a7037b-922f-5824-a34e-57336ece465e", partition: 1 },
    Partitioned { with: "dave", key: "0baf2454-992e-5ee2-a21d-de6575a85890", partition: 5 },
    Partitioned { with: "erin", key: "bf55ea45-de16-52ac-b412-2655b6b135a1", partition: 7 },
    Partitioned { with: "frank", key: "4657144f-6c6c-52bc-8a7d-37ef8087a42b", partition: 0 },
    Partitioned { with: "heidi", key: "01555e12-f6a5-56c6-93ec-eeb3c8bb96f2", partition: 7 },
    Partitioned { with: "ivan", key: "34e93f56-01bc-504f-a0e2-aa353709f892", partition: 8 },
];

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_the_partition_that_kafkas_java_client_gives_it() {
    let system = System::with(|config| config.kafka_partitions = 12).await;
    for Partitioned { with, key, partition } in PARTITIONED_BY_JAVA {
        let created = system.post("alice", json!({"action": "conversation", "participantIds": [with]})).await;
        let record = system.record_at(&created).await;
        assert_eq!((record.key.as_str(), record.partition), (key, partition));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_topic_is_refused_until_the_operator_rebuilds() {
    let mut system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let body = json!({"conversationId": conversation, "content": "hi"});
    let sent = system.post("alice", body.clone()).await;
    system.wait_until_projected(&sent).await;
    let offsets_before = system.read_model().offsets().await.unwrap();

    replace_topic(&system.config).await;

    assert_notices_the_replacement(&system).await;
    for _ in 0..5 {
        system.post("alice", body.clone()).await.assert_problem(503, "append_refused");
    }
    assert_eq!(system.records().await, [], "an event was appended to the new topic");

    // The new topic has more records than the old one had: the projector could mistake them for the next ones.
    let events = domain::testing::random_history(1, 60);
    log::append(&system.config, &events.iter().map(NewRecord::event).collect::<Vec<_>>()).await;
    system.stop().await;
    let restarted = System::with_roles(system.config.clone(), Roles::ALL).await;
    restarted.post("alice", body.clone()).await.assert_problem(503, "append_refused");
    assert_eq!(restarted.read_model().offsets().await.unwrap(), offsets_before);

    let verified = command(&restarted.config, &["verify"]).output().await.unwrap();
    let printed = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.code() == Some(1) && printed.contains("recreated it"), "{verified:?}");

    // The operator confirms the new topic with a rebuild.
    assert!(command(&restarted.config, &["rebuild", "--reset"]).status().await.unwrap().success());
    assert_folded(&restarted.read_model(), &restarted.records().await).await;
    let created = eventually("a command is accepted again", async || {
        let created = restarted.post("alice", json!({"action": "conversation", "participantIds": ["bob"]})).await;
        (created.status == 201).then_some(created)
    })
    .await;
    assert_eq!(created.id(), conversation);
}

async fn assert_notices_the_replacement(system: &System) {
    let ready = eventually("the system notices the new topic", async || {
        let ready = system.request("GET", "/readyz").send().await;
        ready.body.to_string().contains("created again").then_some(ready)
    })
    .await;
    assert_eq!(ready.status, 503);
}
