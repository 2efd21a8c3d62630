//! The topic changes while the system runs, or before a process starts: it gets partitions, loses records, or gets other
//! settings. The system appends nothing to a log that breaks its promises, says what to do, and goes on once it is put
//! right.

use event_log::{Producer, TopicSpec, ensure_topic, partition_for};
use messages::process::Roles;
use rdkafka::admin::{AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use service::config::Config;
use uuid::Uuid;

use crate::harness::System;
use crate::harness::http::Response;
use crate::harness::log::{self, NewRecord};
use crate::harness::process::command;
use crate::harness::system::{config, eventually};
use crate::topic::{REQUIRED_SETTINGS, admin};

/// The partition on which the tests write.
const PARTITION: i32 = 1;

/// Adds a partition to the configuration's topic.
async fn add_partition(config: &Config) {
    let partitions = usize::try_from(config.kafka_partitions).unwrap() + 1;
    let added = NewPartitions::new(&config.kafka_topic, partitions);
    let added = admin(config).create_partitions([&added], &AdminOptions::new()).await.unwrap();
    assert_eq!(added, [Ok(config.kafka_topic.clone())]);
}

/// Gives the configuration's topic these settings, and the required ones.
async fn alter_topic(config: &Config, settings: &[(&str, &str)]) {
    let mut altered = AlterConfig::new(ResourceSpecifier::Topic(&config.kafka_topic));
    for (name, value) in REQUIRED_SETTINGS.iter().filter(|(name, _)| settings.iter().all(|(other, _)| other != name)) {
        altered = altered.set(name, value);
    }
    for (name, value) in settings {
        altered = altered.set(name, value);
    }
    let altered = admin(config).alter_configs([&altered], &AdminOptions::new()).await.unwrap();
    assert!(altered.iter().all(Result::is_ok), "{altered:?}");
}

/// Deletes the records of [`PARTITION`] below this offset.
pub(crate) async fn delete_records(config: &Config, offset: i64) {
    let mut below = TopicPartitionList::new();
    below.add_partition_offset(&config.kafka_topic, PARTITION, Offset::Offset(offset)).unwrap();
    let deleted = admin(config).delete_records(&below, &AdminOptions::new()).await.unwrap();
    assert!(deleted.elements().iter().all(|element| element.error().is_ok()), "{deleted:?}");
}

/// A content of more than 3,800 characters that can't be compressed to 3,000.
fn long_content() -> String {
    std::iter::repeat_with(|| Uuid::new_v4().simple().to_string()).take(120).collect()
}

/// Runs a command line, and returns whether it succeeded and what it printed.
async fn run(config: &Config, arguments: &[&str]) -> (bool, String) {
    let output = command(config, arguments).output().await.unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(printed).unwrap())
}

/// A system with a folded message on [`PARTITION`].
struct Site {
    system: System,
    conversation: String,
}

impl Site {
    async fn start() -> Self {
        let system = System::start().await;
        let peer = system.peer_on(PARTITION, "alice", "bob");
        let conversation = system.conversation("alice", &[&peer]).await;
        let sent = system.send("alice", &conversation, "before").await;
        system.wait_until_published(&sent).await;
        Self { system, conversation }
    }

    async fn send(&self) -> Response {
        self.system.send("alice", &self.conversation, "hi").await
    }

    /// Waits until commands are refused, and readiness says why.
    async fn wait_until_refused(&self, reason: &str) {
        let unready = eventually("readiness says why", async || {
            let ready = self.system.request("GET", "/readyz").send().await;
            ready.body["errors"].to_string().contains(reason).then_some(ready)
        })
        .await;
        assert_eq!((unready.status, &unready.body["errors"][0]["field"]), (503, &json!("topic")), "{unready:?}");
        let refused = self.send().await;
        refused.assert_problem(503, "append_refused");
        assert_eq!(refused.header("retry-after"), "30");
    }

    /// Waits until commands are executed again, and the process is ready.
    async fn wait_until_accepted(&self) {
        eventually("commands are executed", async || (self.send().await.status == 201).then_some(())).await;
        eventually("the process is ready", async || {
            (self.system.request("GET", "/readyz").send().await.status == 200).then_some(())
        })
        .await;
    }

    /// Starts the system again.
    async fn restart(mut self) -> Self {
        self.system.stop().await;
        let system = System::with_roles(self.system.config.clone(), Roles::ALL).await;
        Self { system, conversation: self.conversation }
    }

    /// What the read model holds, and which projection it is.
    async fn read_model(&self) -> (Value, Vec<i64>) {
        let projection = self.system.row("SELECT * FROM projection WHERE $1 = ''", "").await;
        (projection, self.system.read_model().offsets().await.unwrap().0)
    }

    /// Asserts that a rebuild and a verification are refused with this reason, and change nothing.
    async fn assert_no_rebuild(&self, reason: &str) {
        let before = self.read_model().await;
        for arguments in [&["rebuild", "--reset"][..], &["verify"]] {
            let (succeeded, printed) = run(&self.system.config, arguments).await;
            assert!(!succeeded && printed.contains(reason), "{arguments:?}: {printed}");
            assert_eq!(self.read_model().await, before, "{printed}");
        }
        let page = self.system.get("alice", &format!("/api/messages?conversationId={}", self.conversation)).await;
        assert_eq!(page.data().as_array().unwrap().last().unwrap()["content"], "before", "{page:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_keep_the_partition_of_their_key_whatever_partitions_are_added() {
    let config = config();
    let spec = TopicSpec { name: config.kafka_topic.clone(), partitions: config.kafka_partitions };
    let topic = ensure_topic(&config.kafka_brokers, &spec).await.unwrap();
    add_partition(&config).await;

    // Its metadata already has the new partition.
    let producer = Producer::new(&config.kafka_brokers, (&topic).into(), None).unwrap();
    producer.warm_up().await.unwrap();
    let events = domain::testing::random_history(1, 30);
    for event in &events {
        producer.append(std::slice::from_ref(event), "").await.unwrap();
    }

    let records = log::records(&config.kafka_brokers, &config.kafka_topic).await;
    assert_eq!(records.len(), events.len());
    for record in records {
        assert_eq!(record.partition, partition_for(record.key.as_bytes(), topic.partitions), "{record:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_partition_stops_appends_and_folding_and_can_only_be_left_behind() {
    let site = Site::start().await;
    let system = &site.system;
    add_partition(&system.config).await;

    site.wait_until_refused("had 3 partitions and now has 4").await;
    assert!(system.records().await.iter().all(|record| record.partition < 3), "an event is where nobody reads");
    let folded = site.read_model().await;
    let late = domain::testing::random_history(1, 60);
    log::append(&system.config, &late.iter().map(NewRecord::event).collect::<Vec<_>>()).await;
    let (succeeded, printed) = run(&system.config, &["doctor"]).await;
    assert!(!succeeded && printed.contains("folded from 3 partitions, and the topic"), "{printed}");
    site.assert_no_rebuild("has 4 partitions now and had 3").await;

    let restarted = site.restart().await;
    restarted.wait_until_refused("folded from 3 partitions").await;
    assert_eq!(restarted.read_model().await, folded, "records of a topic with other partitions were folded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_setting_stops_appends_until_it_is_put_right() {
    let site = Site::start().await;
    for (name, wrong) in [("retention.ms", "604800000"), ("message.timestamp.type", "CreateTime")] {
        alter_topic(&site.system.config, &[(name, wrong)]).await;
        site.wait_until_refused(&format!("has {name}={wrong}, but needs")).await;

        alter_topic(&site.system.config, &[]).await;
        site.wait_until_accepted().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_topic_is_too_small_for_is_413_and_leaves_nothing_behind() {
    let Site { system, conversation, .. } = &Site::start().await;
    let peer = system.peer_on(PARTITION, "alice", "bob");
    let (plain, mentioning) = (long_content(), format!("{} @{peer}", long_content()));
    let message = |content: &str| json!({"conversationId": conversation, "content": content});
    let before = system.records().await.len();
    alter_topic(&system.config, &[("max.message.bytes", "3000")]).await;

    let refused = system.post_with_key("alice", "a-key", message(&plain)).await;
    refused.assert_problem(413, "event_too_large");
    assert_eq!(refused.header("retry-after"), "");
    // Its notification would fit.
    system.post("alice", message(&mentioning)).await.assert_problem(413, "event_too_large");
    assert_eq!(system.records().await.len(), before);
    let unread = system.get("alice", &format!("/api/conversations/{conversation}")).await;
    assert_eq!(unread.data()["lastMessage"]["content"], "before");
    let shorter = system.post_with_key("alice", "a-key", message("shorter")).await;
    assert_eq!((shorter.status, shorter.header("idempotent-replayed")), (201, ""), "the key is free: {shorter:?}");
    // Neither of the two counted.
    shorter.assert_rate_limit(system.config.limits.limit_messages, system.config.limits.limit_messages - 2);
    let (succeeded, printed) = run(&system.config, &["doctor"]).await;
    assert!(!succeeded && printed.contains("has max.message.bytes=3000, but needs 262144 or more"), "{printed}");

    alter_topic(&system.config, &[]).await;
    for content in [&plain, &mentioning] {
        assert_eq!(system.post("alice", message(content)).await.status, 201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_event_no_longer_fits_becomes_free() {
    let Site { system, conversation, .. } = &Site::start().await;
    let peer = system.peer_on(PARTITION, "alice", "bob");
    let content = format!("{} @{peer}", long_content());
    let message = |content: &str| json!({"conversationId": conversation, "content": content});
    alter_topic(&system.config, &[("max.message.bytes", "3000")]).await;

    // The first attempt may append the notification, so its outcome isn't known.
    let refused = eventually("the event is too large", async || {
        let answer = system.post_with_key("alice", "a-key", message(&content)).await;
        (answer.body["code"] != "append_unknown").then_some(answer)
    })
    .await;
    refused.assert_problem(413, "event_too_large");
    let other = system.post_with_key("alice", "a-key", message("shorter")).await;
    assert_eq!((other.status, other.header("idempotent-replayed")), (201, ""), "{other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_records_stop_appends_and_rebuilds_until_the_operator_goes_on_with_the_rest() {
    let site = Site::start().await;
    delete_records(&site.system.config, 1).await;

    let lost = format!("partition {PARTITION} lost 1 records from offset 0 on");
    site.wait_until_refused(&lost).await;
    site.assert_no_rebuild(&lost).await;
    let (_, printed) = run(&site.system.config, &["topic"]).await;
    assert!(printed.contains(&format!("✗ the topic no longer has its first records: {lost}")), "{printed}");

    // The read model has folded them, and the operator knows.
    let restarted = site.restart().await;
    restarted.wait_until_accepted().await;
    let (succeeded, printed) = run(&restarted.system.config, &["doctor"]).await;
    assert!(
        succeeded && printed.contains(&format!("! the topic no longer has its first records: {lost}")),
        "{printed}"
    );
    restarted.system.wait_until_caught_up().await;
    restarted.assert_no_rebuild(&lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_model_that_needs_deleted_records_is_named_and_gets_no_more_events() {
    let mut site = Site::start().await;
    site.system.stop().await;
    let next = site.system.read_model().offsets().await.unwrap().next(PARTITION);
    let late =
        NewRecord { key: site.conversation.clone(), value: b"late".to_vec(), event_type: None, timestamp_ms: None };
    log::append(&site.system.config, &[late]).await;
    delete_records(&site.system.config, next + 1).await;

    let restarted = site.restart().await;
    let lost = format!("needs: partition {PARTITION} lost 1 records from offset {next} on");
    restarted.wait_until_refused(&lost).await;
    let (succeeded, printed) = run(&restarted.system.config, &["doctor"]).await;
    assert!(!succeeded && printed.contains(&lost), "{printed}");
    restarted.assert_no_rebuild("no longer has its first records").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_read_model_is_not_folded_from_a_log_without_its_beginning() {
    let config = config();
    let spec = TopicSpec { name: config.kafka_topic.clone(), partitions: config.kafka_partitions };
    ensure_topic(&config.kafka_brokers, &spec).await.unwrap();
    let events = domain::testing::random_history(1, 60);
    log::append(&config, &events.iter().map(NewRecord::event).collect::<Vec<_>>()).await;
    delete_records(&config, 3).await;

    let system = System::with_roles(config, Roles::ALL).await;
    let site = Site { conversation: String::new(), system };
    eventually("readiness says why", async || {
        let ready = site.system.request("GET", "/readyz").send().await;
        let errors = ready.body["errors"].to_string();
        errors.contains(&format!("partition {PARTITION} lost 3 records from offset 0 on")).then_some(())
    })
    .await;
    let create = json!({"action": "conversation", "participantIds": ["bob"]});
    site.system.post("alice", create).await.assert_problem(503, "append_refused");
    assert_eq!(site.system.read_model().folded_topic().await.unwrap(), None);
}
