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

/// The settings of a log of record: Kafka never deletes a record, and each record has the time at which the log
/// appended it.
pub(crate) const REQUIRED_SETTINGS: [(&str, &str); 4] = [
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
    let min_in_sync = check_settings(&admin, &spec.name).await?;
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
    Ok(Topic { name: spec.name.clone(), id, partitions })
}

/// Creates the topic of typing events if it doesn't exist. Accepts an existing one with any settings: nobody misses
/// typing events that Kafka deletes. Returns its number of partitions.
///
/// # Errors
/// When the cluster doesn't answer.
pub async fn ensure_typing_topic(brokers: &str, spec: &TopicSpec) -> Result<usize, TopicError> {
    let admin = create_if_missing(brokers, spec, &TYPING_SETTINGS).await?;
    Ok(await_leaders(&admin, &spec.name).await?.partitions)
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

/// Checks the topic's settings. Returns its `min.insync.replicas`.
async fn check_settings(admin: &Admin, topic: &str) -> Result<usize, TopicError> {
    let settings = settings(admin, topic).await?;
    let value_of = |name: &str| settings.get(name).cloned().unwrap_or_default();
    if let Some(wrong) = first_wrong_setting(value_of) {
        return Err(TopicError::Misconfigured {
            topic: topic.to_owned(),
            name: wrong.name.to_owned(),
            found: wrong.found,
            wanted: wrong.wanted.to_owned(),
        });
    }
    value_of(MIN_IN_SYNC_REPLICAS).parse().map_err(|_| {
        let reason = format!("the cluster did not report its {MIN_IN_SYNC_REPLICAS}");
        TopicError::Topic { topic: topic.to_owned(), reason }
    })
}

/// A setting with another value than a log of record needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongSetting {
    /// The name in Kafka, such as `retention.ms`.
    pub name: &'static str,
    /// The present value.
    pub found: String,
    /// The value that a log of record needs.
    pub wanted: &'static str,
}

/// The first of the required settings with another value. `value_of` returns the present value of a setting.
pub(crate) fn first_wrong_setting(value_of: impl Fn(&str) -> String) -> Option<WrongSetting> {
    REQUIRED_SETTINGS.into_iter().find_map(|(name, wanted)| {
        let found = value_of(name);
        (found != wanted).then_some(WrongSetting { name, found, wanted })
    })
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
    use super::{REQUIRED_SETTINGS, WrongSetting, first_wrong_setting};

    fn required_value(name: &str) -> String {
        let required = REQUIRED_SETTINGS.iter().find(|(required, _)| *required == name);
        required.map(|(_, value)| (*value).to_owned()).unwrap()
    }

    #[test]
    fn a_topic_with_the_required_settings_is_accepted() {
        assert_eq!(first_wrong_setting(required_value), None);
    }

    #[test]
    fn a_topic_that_deletes_old_records_is_refused() {
        let one_week = "604800000";
        let with_retention =
            |name: &str| if name == "retention.ms" { one_week.to_owned() } else { required_value(name) };
        let wrong = WrongSetting { name: "retention.ms", found: one_week.to_owned(), wanted: "-1" };
        assert_eq!(first_wrong_setting(with_retention), Some(wrong));
    }
}
