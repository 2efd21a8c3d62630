//! The topic: creates it with the settings of a log of record, and refuses a topic with other settings. This module
//! must never change the settings of an existing topic.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataPartition;
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::time::Instant;
use uuid::Uuid;

use crate::client::{self, Admin, KafkaContext};
use crate::topic_id;

/// How long each call to the cluster may take.
pub(crate) const KAFKA_TIMEOUT: Duration = Duration::from_secs(10);
/// A cluster with this many brokers, or more, keeps each record on three of them.
const MIN_BROKERS_TO_REPLICATE: usize = 3;
/// The pause before asking again a broker that doesn't know a new topic yet.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// The setting for how many replicas must have a record before Kafka acknowledges it.
pub(crate) const MIN_IN_SYNC_REPLICAS: &str = "min.insync.replicas";

/// The setting for the largest record that the topic takes, with what Kafka adds to it.
pub(crate) const RECORD_SIZE_SETTING: &str = "max.message.bytes";
/// What [`RECORD_SIZE_SETTING`] must be at least: every event that a command can make fits. A body has 64 KiB, of which only
/// addresses grow, up to three times, when they are encoded.
const LARGEST_EVENT_BYTES: usize = 256 << 10;
/// The same, for people.
const LARGEST_EVENT: &str = "262144 or more";

/// The settings of a log of record: Kafka never deletes a record, and each record has the time at which the log
/// appended it.
pub const REQUIRED_SETTINGS: [(&str, &str); 4] = [
    ("cleanup.policy", "delete"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("message.timestamp.type", "LogAppendTime"),
];

/// The settings of a new topic of typing events. Kafka deletes them after an hour: nobody needs older ones.
const TYPING_SETTINGS: [(&str, &str); 3] =
    [("cleanup.policy", "delete"), ("retention.ms", "3600000"), ("message.timestamp.type", "LogAppendTime")];

/// The topic to use, or to create if it doesn't exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// The topic's name.
    pub name: String,
    /// The number of partitions of a new topic. It is fixed for the topic's life, because more partitions would move
    /// keys. An existing topic keeps the number that it has.
    pub partitions: i32,
}

/// An existing topic with the settings of a log of record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// The topic's name.
    pub name: String,
    /// The topic's id (KIP-516). Another id means another topic of the same name.
    pub id: Uuid,
    /// The number of partitions.
    pub partitions: usize,
    /// The largest record that the topic takes, in bytes.
    pub max_message_bytes: usize,
}

/// A topic to append to, as it was when the process started. librdkafka would follow added partitions within minutes,
/// and then append to partitions that nobody reads, and events of one conversation to two partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The topic's name.
    pub topic: String,
    /// Among how many partitions the keys are shared out.
    pub partitions: usize,
    /// The largest record that the topic takes, in bytes.
    pub max_message_bytes: usize,
}

impl From<&Topic> for Destination {
    fn from(topic: &Topic) -> Self {
        let Topic { name, partitions, max_message_bytes, .. } = topic;
        Self { topic: name.clone(), partitions: *partitions, max_message_bytes: *max_message_bytes }
    }
}

/// Why the topic can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// The cluster doesn't answer.
    #[error("Kafka at {brokers}: {source}; is it running, and is KAFKA_BROKERS right?")]
    Kafka {
        /// The addresses of the brokers.
        brokers: String,
        /// The error of the Kafka client.
        source: KafkaError,
    },
    /// A setting has another value than a log of record needs.
    #[error(
        "the topic {topic} has {name}={found}, but needs {wanted}, because it is the system of record; \
         set it with kafka-configs --alter, or name another topic in KAFKA_TOPIC"
    )]
    Misconfigured {
        /// The topic's name.
        topic: String,
        /// The setting's name.
        name: String,
        /// The present value.
        found: String,
        /// The value that a log of record needs.
        wanted: String,
    },
    /// The cluster can't describe or create the topic.
    #[error("the topic {topic}: {reason}")]
    Topic {
        /// The topic's name.
        topic: String,
        /// The reason that the cluster reports.
        reason: String,
    },
}

/// Creates the topic if it doesn't exist, and checks that it has the settings of a log of record. Warns when Kafka
/// acknowledges a record with fewer than two copies.
///
/// # Errors
/// When the cluster doesn't answer, or a setting of the topic is wrong.
pub async fn ensure_topic(brokers: &str, spec: &TopicSpec) -> Result<Topic, TopicError> {
    let admin = create_if_missing(brokers, spec, &REQUIRED_SETTINGS).await?;
    let PartitionCounts { partitions, replicas } = await_leaders(&admin, &spec.name).await?;
    let CheckedSettings { min_in_sync, max_message_bytes } = check_settings(&admin, &spec.name).await?;
    // A broker acknowledges a record when all replicas in sync have it, and refuses it while fewer replicas are in sync
    // than the setting demands.
    let copies = replicas.min(min_in_sync);
    if copies < 2 {
        tracing::warn!(
            topic = spec.name,
            replicas,
            min_insync_replicas = min_in_sync,
            "Kafka acknowledges events that only one broker has; losing its disk would lose them"
        );
    }
    let identity = topic_id::identify(admin, spec.name.clone()).await;
    let id = identity.map_err(|reason| TopicError::Topic { topic: spec.name.clone(), reason })?.id;
    Ok(Topic { name: spec.name.clone(), id, partitions, max_message_bytes })
}

/// Creates the topic of typing events if it doesn't exist. Accepts an existing one with any settings: nobody misses
/// typing events that Kafka deletes.
///
/// # Errors
/// When the cluster doesn't answer.
pub async fn ensure_typing_topic(brokers: &str, spec: &TopicSpec) -> Result<Destination, TopicError> {
    let admin = create_if_missing(brokers, spec, &TYPING_SETTINGS).await?;
    let partitions = await_leaders(&admin, &spec.name).await?.partitions;
    let max_message_bytes = max_message_bytes(&admin, &spec.name).await?;
    Ok(Destination { topic: spec.name.clone(), partitions, max_message_bytes })
}

/// Creates a topic with these settings if it doesn't exist.
async fn create_if_missing(brokers: &str, spec: &TopicSpec, settings: &[(&str, &str)]) -> Result<Admin, TopicError> {
    let kafka_error = |source| TopicError::Kafka { brokers: brokers.to_owned(), source };
    let admin = connect(brokers)?;
    let cluster = describe_cluster(&admin, &spec.name).await.map_err(kafka_error)?;
    if !cluster.has_topic {
        create(&admin, spec, settings, cluster.brokers).await?;
    }
    Ok(admin)
}

/// A client of the cluster. It connects with its first request.
pub(crate) fn connect(brokers: &str) -> Result<Admin, TopicError> {
    let admin = client::config(brokers).create_with_context(KafkaContext::default());
    Ok(Arc::new(admin.map_err(|source| TopicError::Kafka { brokers: brokers.to_owned(), source })?))
}

/// What creating a topic depends on.
struct Cluster {
    brokers: usize,
    has_topic: bool,
}

async fn describe_cluster(admin: &Admin, topic: &str) -> Result<Cluster, KafkaError> {
    let admin = admin.clone();
    let topic = topic.to_owned();
    let described = client::run_blocking(move || {
        let metadata = admin.inner().fetch_metadata(Some(&topic), KAFKA_TIMEOUT)?;
        // An existing topic may be invisible, say for lack of a permission. Then the attempt to create it reports why.
        let has_topic = metadata.topics().first().is_some_and(|topic| !topic.partitions().is_empty());
        Ok(Cluster { brokers: metadata.brokers().len(), has_topic })
    });
    described.await.unwrap_or(Err(KafkaError::Canceled))
}

async fn create(admin: &Admin, spec: &TopicSpec, settings: &[(&str, &str)], brokers: usize) -> Result<(), TopicError> {
    let replicated = brokers >= MIN_BROKERS_TO_REPLICATE;
    let replication = TopicReplication::Fixed(if replicated { 3 } else { 1 });
    let mut topic = NewTopic::new(&spec.name, spec.partitions, replication);
    for (name, value) in settings {
        topic = topic.set(name, value);
    }
    topic = topic.set(MIN_IN_SYNC_REPLICAS, if replicated { "2" } else { "1" });
    let options = AdminOptions::new().operation_timeout(Some(KAFKA_TIMEOUT)).request_timeout(Some(KAFKA_TIMEOUT));
    let topic_error = |reason: String| TopicError::Topic { topic: spec.name.clone(), reason };
    let results = admin.create_topics([&topic], &options).await.map_err(|error| topic_error(error.to_string()))?;
    match results.into_iter().next() {
        Some(Ok(name)) => tracing::info!(topic = name, partitions = spec.partitions, brokers, "created the topic"),
        // Another process created it first.
        Some(Err((_, Code::TopicAlreadyExists))) => {}
        Some(Err((_, code))) => return Err(topic_error(code.to_string())),
        None => return Err(topic_error("the cluster did not report whether it created the topic".to_owned())),
    }
    Ok(())
}

/// The topic's settings by name.
pub(crate) async fn settings(admin: &Admin, topic: &str) -> Result<HashMap<String, String>, TopicError> {
    let options = AdminOptions::new().request_timeout(Some(KAFKA_TIMEOUT));
    let topic_error = |reason: String| TopicError::Topic { topic: topic.to_owned(), reason };
    // A broker may not know a new topic yet.
    let deadline = Instant::now() + KAFKA_TIMEOUT;
    loop {
        let described = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await;
        match described.map_err(|error| topic_error(error.to_string()))?.into_iter().next() {
            Some(Ok(config)) => {
                let entries = config.entries.into_iter();
                return Ok(entries.map(|entry| (entry.name, entry.value.unwrap_or_default())).collect());
            }
            Some(Err(Code::UnknownTopicOrPartition)) if Instant::now() < deadline => {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            Some(Err(code)) => return Err(topic_error(code.to_string())),
            None => return Err(topic_error("the cluster reported no settings".to_owned())),
        }
    }
}

/// The largest record that the topic takes now, in bytes.
pub(crate) async fn max_message_bytes(admin: &Admin, topic: &str) -> Result<usize, TopicError> {
    number(&settings(admin, topic).await?, RECORD_SIZE_SETTING, topic)
}

/// A setting that is a number.
fn number(settings: &HashMap<String, String>, name: &str, topic: &str) -> Result<usize, TopicError> {
    let number = settings.get(name).and_then(|value| value.parse().ok());
    number.ok_or_else(|| {
        let reason = format!("the cluster did not report its {name}");
        TopicError::Topic { topic: topic.to_owned(), reason }
    })
}

/// What a process needs to know of a topic with the right settings.
struct CheckedSettings {
    min_in_sync: usize,
    max_message_bytes: usize,
}

/// Checks the topic's settings.
async fn check_settings(admin: &Admin, topic: &str) -> Result<CheckedSettings, TopicError> {
    let settings = settings(admin, topic).await?;
    if let Some(wrong) = compare_settings(&settings).into_iter().find(|setting| !setting.is_right) {
        return Err(TopicError::Misconfigured {
            topic: topic.to_owned(),
            name: wrong.name.to_owned(),
            found: wrong.found,
            wanted: wrong.wanted.to_owned(),
        });
    }
    Ok(CheckedSettings {
        min_in_sync: number(&settings, MIN_IN_SYNC_REPLICAS, topic)?,
        max_message_bytes: number(&settings, RECORD_SIZE_SETTING, topic)?,
    })
}

/// A setting of a topic, compared with what a log of record needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSetting {
    /// The name in Kafka, such as `retention.ms`.
    pub name: &'static str,
    /// The present value; empty if the cluster doesn't report one.
    pub found: String,
    /// What a log of record needs.
    pub wanted: &'static str,
    /// Whether the present value will do.
    pub is_right: bool,
}

/// Compares a topic's settings with what a log of record needs.
pub(crate) fn compare_settings(settings: &HashMap<String, String>) -> Vec<TopicSetting> {
    let value_of = |name: &str| settings.get(name).cloned().unwrap_or_default();
    let fixed = REQUIRED_SETTINGS.into_iter().map(|(name, wanted)| {
        let found = value_of(name);
        TopicSetting { name, is_right: found == wanted, found, wanted }
    });
    let found = value_of(RECORD_SIZE_SETTING);
    let is_right = found.parse::<usize>().is_ok_and(|bytes| bytes >= LARGEST_EVENT_BYTES);
    let size = TopicSetting { name: RECORD_SIZE_SETTING, found, wanted: LARGEST_EVENT, is_right };
    fixed.chain([size]).collect()
}

struct PartitionCounts {
    partitions: usize,
    /// The number of replicas of the partition that has the fewest.
    replicas: usize,
}

/// Waits until every partition has a leader, for up to 10 s.
async fn await_leaders(admin: &Admin, topic: &str) -> Result<PartitionCounts, TopicError> {
    let deadline = Instant::now() + KAFKA_TIMEOUT;
    loop {
        let admin = admin.clone();
        let name = topic.to_owned();
        let counted = client::run_blocking(move || {
            let metadata = admin.inner().fetch_metadata(Some(&name), KAFKA_TIMEOUT).ok()?;
            let partitions = metadata.topics().first()?.partitions();
            let has_leader = |partition: &MetadataPartition| partition.leader() >= 0 && partition.error().is_none();
            let replicas = partitions.iter().map(|partition| partition.replicas().len()).min()?;
            let all_led = partitions.iter().all(has_leader);
            all_led.then_some(PartitionCounts { partitions: partitions.len(), replicas })
        });
        if let Ok(Some(counts)) = counted.await {
            return Ok(counts);
        }
        if Instant::now() >= deadline {
            let reason = "some partitions have no leader".to_owned();
            return Err(TopicError::Topic { topic: topic.to_owned(), reason });
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the settings that are wrong, if one of them has this value and the others are right.
    fn wrong_with(name: &str, value: &str) -> Vec<&'static str> {
        let mut settings: HashMap<_, _> =
            REQUIRED_SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        settings.insert(RECORD_SIZE_SETTING.to_owned(), "1048588".to_owned());
        settings.insert(name.to_owned(), value.to_owned());
        let wrong = compare_settings(&settings).into_iter().filter(|setting| !setting.is_right);
        wrong.map(|setting| setting.name).collect()
    }

    #[test]
    fn a_topic_with_the_required_settings_is_accepted() {
        assert_eq!(wrong_with(RECORD_SIZE_SETTING, &LARGEST_EVENT_BYTES.to_string()), [""; 0]);
        assert!(LARGEST_EVENT.starts_with(&LARGEST_EVENT_BYTES.to_string()));
    }

    #[test]
    fn a_topic_that_deletes_old_records_or_takes_no_large_ones_is_refused() {
        assert_eq!(wrong_with("retention.ms", "604800000"), ["retention.ms"]);
        assert_eq!(wrong_with(RECORD_SIZE_SETTING, "262143"), [RECORD_SIZE_SETTING]);
    }
}
