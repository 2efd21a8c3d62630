//! The topic: the system of record, made once and as it has to be.

use std::collections::BTreeMap;

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

/// What a log of record is set to.
const SETTINGS: [(&str, &str); 4] = [
    ("cleanup.policy", "delete"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("message.timestamp.type", "LogAppendTime"),
];

fn admin(config: &Config) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &config.kafka_brokers).create().unwrap()
}

/// Makes the configuration's topic by hand.
async fn make(config: &Config, settings: &[(&str, &str)]) {
    let topic = NewTopic::new(&config.kafka_topic, 1, TopicReplication::Fixed(1));
    let topic = settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
    let made = admin(config).create_topics([&topic], &AdminOptions::new()).await.unwrap();
    assert_eq!(made, [Ok(config.kafka_topic.clone())]);
}

/// How many partitions the configuration's topic has, and how it is set.
async fn described(config: &Config) -> (usize, BTreeMap<String, String>) {
    let admin = admin(config);
    let topic = ResourceSpecifier::Topic(&config.kafka_topic);
    let entries = admin.describe_configs([&topic], &AdminOptions::new()).await.unwrap().remove(0).unwrap().entries;
    let set = entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect();
    let topic = config.kafka_topic.clone();
    let metadata = tokio::task::spawn_blocking(move || {
        admin.inner().fetch_metadata(Some(&topic), std::time::Duration::from_secs(10)).unwrap()
    });
    (metadata.await.unwrap().topics()[0].partitions().len(), set)
}

/// Tries to start a system; gives why it wouldn't.
async fn refusal(config: &Config) -> String {
    let socket = service::lifecycle::bind(([127, 0, 0, 1], 0).into()).unwrap();
    match process::start(config, Roles::ALL, socket, CancellationToken::new()).await {
        Ok(_) => panic!("it started"),
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topic_is_made_with_twelve_partitions_and_forgets_nothing() {
    // As `messages` has it where nothing is set: the tests' own systems have fewer partitions, to start sooner.
    let partitions = crate::harness::system::defaults().kafka_partitions;
    let system = System::with(|config| config.kafka_partitions = partitions).await;
    let (partitions, set) = described(&system.config).await;
    assert_eq!(partitions, 12);
    for (name, value) in SETTINGS {
        assert_eq!(set[name], value, "{name}");
    }
    // One broker: one replica, which is all that can be in sync.
    assert_eq!(set["min.insync.replicas"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_set_up_otherwise_is_refused_and_the_setting_named() {
    for (name, wrong, code) in [
        ("cleanup.policy", "compact", "cleanup.policy=compact"),
        ("cleanup.policy", "compact,delete", "cleanup.policy=compact,delete"),
        ("retention.ms", "604800000", "retention.ms=604800000"),
        ("retention.bytes", "1073741824", "retention.bytes=1073741824"),
        ("message.timestamp.type", "CreateTime", "message.timestamp.type=CreateTime"),
    ] {
        let config = config();
        let settings = SETTINGS.map(|(setting, value)| (setting, if setting == name { wrong } else { value }));
        make(&config, &settings).await;
        let refusal = refusal(&config).await;
        assert!(refusal.contains(code) && refusal.contains(&config.kafka_topic), "{refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_there_is_used_as_it_is() {
    let mut config = config();
    make(&config, &SETTINGS).await;
    config.kafka_partitions = 5;
    let system = System::with_roles(config, Roles::ALL).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    assert_eq!(system.records_of(&conversation).await[0].position(), "0:0");
    assert_eq!(described(&system.config).await.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_at_once_make_one_topic() {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_on_the_partition_on_which_kafkas_java_client_puts_it() {
    let system = System::with(|config| config.kafka_partitions = 12).await;
    // Made once with org.apache.kafka.common.utils.Utils: toPositive(murmur2(key)) % 12.
    for (user, key, partition) in [
        ("bob", "407160a2-20eb-59a8-9416-f90f967e4c59", 6),
        ("carol", "79a7037b-922f-5824-a34e-57336ece465e", 1),
        ("dave", "0baf2454-992e-5ee2-a21d-de6575a85890", 5),
        ("erin", "bf55ea45-de16-52ac-b412-2655b6b135a1", 7),
        ("frank", "4657144f-6c6c-52bc-8a7d-37ef8087a42b", 0),
        ("heidi", "01555e12-f6a5-56c6-93ec-eeb3c8bb96f2", 7),
        ("ivan", "34e93f56-01bc-504f-a0e2-aa353709f892", 8),
    ] {
        let begun = system.post("alice", json!({"action": "conversation", "participantIds": [user]})).await;
        let record = system.record_at(&begun).await;
        assert_eq!((record.key.as_str(), record.partition), (key, partition));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_deleted_and_made_again_is_noticed_and_refused() {
    let mut system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let body = json!({"conversationId": conversation, "content": "hi"});
    let sent = system.post("alice", body.clone()).await;
    system.wait_until_projected(&sent).await;
    let before = system.read_model().offsets().await.unwrap();
    let admin = admin(&system.config);
    let name = system.config.kafka_topic.as_str();
    admin.delete_topics(&[name], &AdminOptions::new()).await.unwrap();
    eventually("it is made again", async || {
        let topic = NewTopic::new(name, system.config.kafka_partitions, TopicReplication::Fixed(1));
        let topic = SETTINGS.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
        let made = admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
        made[0].is_ok().then_some(())
    })
    .await;
    let ready = eventually("it is noticed", async || {
        let ready = system.request("GET", "/readyz").send().await;
        ready.body.to_string().contains("created again").then_some(ready)
    })
    .await;
    assert_eq!(ready.status, 503);
    for _ in 0..5 {
        system.post("alice", body.clone()).await.assert_problem(503, "append_refused");
    }
    assert_eq!(system.records().await, [], "nothing is mixed with the new log");
    // More on the new log than there was on the old one: nothing of it is taken for what comes next.
    let event = domain::testing::random_history(1, 60);
    log::append(&system.config, &event.iter().map(NewRecord::event).collect::<Vec<_>>()).await;
    system.stop().await;

    let system = System::with_roles(system.config.clone(), Roles::ALL).await;
    system.post("alice", body.clone()).await.assert_problem(503, "append_refused");
    assert_eq!(system.read_model().offsets().await.unwrap(), before);
    // Until somebody says that the new one is right.
    assert!(command(&system.config, &["rebuild", "--reset"]).status().await.unwrap().success());
    assert_folded(&system.read_model(), &system.records().await).await;
    let begun = eventually("commands are taken", async || {
        let begun = system.post("alice", json!({"action": "conversation", "participantIds": ["bob"]})).await;
        (begun.status == 201).then_some(begun)
    })
    .await;
    assert_eq!(begun.id(), conversation);
}
