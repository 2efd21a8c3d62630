//! The topic: made as the log of record has to be, and refused where it is set up otherwise.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use uuid::Uuid;

use crate::client::{self, KafkaLogContext};
use crate::topic_id;

/// How long each call to the cluster may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// From how many brokers on records are kept on three of them.
const REPLICATED_FROM: usize = 3;
/// How long to wait before a broker that doesn't know the topic yet is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(20);
/// The setting that says how many replicas must have a record before it is acknowledged.
pub(crate) const IN_SYNC: &str = "min.insync.replicas";

/// What a log of record has to be set to: nothing is ever thrown away, and times are the log's.
pub(crate) const REQUIRED: [(&str, &str); 4] = [
    ("cleanup.policy", "delete"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("message.timestamp.type", "LogAppendTime"),
];

/// What a topic of typing events is made with: nobody wants one that is an hour old.
const TYPING: [(&str, &str); 3] =
    [("cleanup.policy", "delete"), ("retention.ms", "3600000"), ("message.timestamp.type", "LogAppendTime")];

pub(crate) type Admin = Arc<AdminClient<KafkaLogContext>>;

/// Which topic is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// How many partitions it gets when it is made; one that exists keeps its own. Fixed for life: more
    /// partitions would move keys.
    pub partitions: i32,
}

/// A topic that is there and set up right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id (KIP-516): another one means another topic of the same name.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: usize,
}

/// Why there is no topic to work with.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// The cluster can't be asked.
    #[error("Kafka at {brokers}: {source}; is it running, and is KAFKA_BROKERS right?")]
    Kafka {
        /// The addresses asked.
        brokers: String,
        /// What went wrong.
        source: KafkaError,
    },
    /// Something is set otherwise than a log of record needs.
    #[error(
        "the topic {topic} has {name}={found}, but needs {wanted}, for it is the system of record; \
         set it with kafka-configs --alter, or name another topic in KAFKA_TOPIC"
    )]
    Misconfigured {
        /// The topic.
        topic: String,
        /// The setting.
        name: String,
        /// What it is.
        found: String,
        /// What it has to be.
        wanted: String,
    },
    /// The topic can't be described or made.
    #[error("the topic {topic}: {reason}")]
    Topic {
        /// The topic.
        topic: String,
        /// What the cluster says.
        reason: String,
    },
}

/// Makes the topic if it isn't there, and checks that it is set up as a log of record. With fewer than two copies
/// of what is acknowledged, it warns.
///
/// # Errors
/// When the cluster doesn't answer, or the topic is set up otherwise.
pub async fn ensure_topic(brokers: &str, spec: &TopicSpec) -> Result<Topic, TopicError> {
    let failed = |reason| TopicError::Topic { topic: spec.name.clone(), reason };
    let admin = make(brokers, spec, &REQUIRED).await?;
    let (partitions, replicas) = partitions_with_leaders(&admin, &spec.name).await?;
    let in_sync = check(&admin, &spec.name).await?;
    // A broker acknowledges when all replicas in sync have it, and refuses when fewer are than the setting says.
    let copies = replicas.min(in_sync);
    if copies < 2 {
        tracing::warn!(
            topic = spec.name,
            replicas,
            min_insync_replicas = in_sync,
            "an acknowledged event may be on one broker's disk only, and is lost with it"
        );
    }
    let (asked, name) = (admin.clone(), spec.name.clone());
    let id = client::blocking(move || topic_id::describe(&asked, &name))
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(failed)?;
    Ok(Topic { name: spec.name.clone(), id, partitions })
}

/// Makes the topic of typing events if it isn't there. Nothing about one that exists matters: what it forgets is
/// missed by nobody.
///
/// # Errors
/// When the cluster doesn't answer.
pub async fn ensure_typing_topic(brokers: &str, spec: &TopicSpec) -> Result<(), TopicError> {
    let admin = make(brokers, spec, &TYPING).await?;
    partitions_with_leaders(&admin, &spec.name).await?;
    Ok(())
}

/// Makes a topic with these settings if it isn't there.
async fn make(brokers: &str, spec: &TopicSpec, settings: &[(&str, &str)]) -> Result<Admin, TopicError> {
    let kafka = |source| TopicError::Kafka { brokers: brokers.to_owned(), source };
    let admin = connect(brokers)?;
    let cluster = look(&admin, &spec.name).await.map_err(kafka)?;
    if !cluster.has_topic {
        create(&admin, spec, settings, cluster.brokers).await?;
    }
    Ok(admin)
}

/// A client of the cluster; it connects when it is first asked.
pub(crate) fn connect(brokers: &str) -> Result<Admin, TopicError> {
    let made = client::config(brokers).create_with_context(KafkaLogContext);
    Ok(Arc::new(made.map_err(|source| TopicError::Kafka { brokers: brokers.to_owned(), source })?))
}

struct Cluster {
    brokers: usize,
    has_topic: bool,
}

async fn look(admin: &Admin, topic: &str) -> Result<Cluster, KafkaError> {
    let (admin, topic) = (admin.clone(), topic.to_owned());
    let looked = client::blocking(move || {
        let metadata = admin.inner().fetch_metadata(Some(&topic), TIMEOUT)?;
        // Where it can't be seen for another reason than that it isn't there, trying to make it says why.
        let has_topic = metadata.topics().first().is_some_and(|topic| !topic.partitions().is_empty());
        Ok(Cluster { brokers: metadata.brokers().len(), has_topic })
    });
    looked.await.unwrap_or(Err(KafkaError::Canceled))
}

async fn create(admin: &Admin, spec: &TopicSpec, settings: &[(&str, &str)], brokers: usize) -> Result<(), TopicError> {
    let replicated = brokers >= REPLICATED_FROM;
    let replication = TopicReplication::Fixed(if replicated { 3 } else { 1 });
    let mut topic = NewTopic::new(&spec.name, spec.partitions, replication);
    for (name, value) in settings {
        topic = topic.set(name, value);
    }
    topic = topic.set(IN_SYNC, if replicated { "2" } else { "1" });
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
    let failed = |reason: String| TopicError::Topic { topic: spec.name.clone(), reason };
    let results = admin.create_topics([&topic], &options).await.map_err(|error| failed(error.to_string()))?;
    match results.into_iter().next() {
        Some(Ok(name)) => tracing::info!(topic = name, partitions = spec.partitions, brokers, "made the topic"),
        // Another process was first.
        Some(Err((_, Code::TopicAlreadyExists))) => {}
        Some(Err((_, code))) => return Err(failed(code.to_string())),
        None => return Err(failed("the cluster did not say whether it was made".to_owned())),
    }
    Ok(())
}

/// The topic's settings by name.
pub(crate) async fn settings(admin: &Admin, topic: &str) -> Result<HashMap<String, String>, TopicError> {
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let failed = |reason: String| TopicError::Topic { topic: topic.to_owned(), reason };
    // Right after it was made, a broker may not know it yet.
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    loop {
        let described = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await;
        match described.map_err(|error| failed(error.to_string()))?.into_iter().next() {
            Some(Ok(config)) => {
                let entries = config.entries.into_iter();
                return Ok(entries.map(|entry| (entry.name, entry.value.unwrap_or_default())).collect());
            }
            Some(Err(Code::UnknownTopicOrPartition)) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            Some(Err(code)) => return Err(failed(code.to_string())),
            None => return Err(failed("the cluster described no settings".to_owned())),
        }
    }
}

/// Checks the topic's settings; gives how many replicas have to be in sync for a record to be taken.
async fn check(admin: &Admin, topic: &str) -> Result<usize, TopicError> {
    let failed = |reason: String| TopicError::Topic { topic: topic.to_owned(), reason };
    let settings = settings(admin, topic).await?;
    let found = |name: &str| settings.get(name).cloned().unwrap_or_default();
    match misconfigured(found) {
        None => found(IN_SYNC).parse().map_err(|_| failed(format!("the cluster did not say its {IN_SYNC}"))),
        Some((name, found, wanted)) => {
            let (topic, name, wanted) = (topic.to_owned(), name.to_owned(), wanted.to_owned());
            Err(TopicError::Misconfigured { topic, name, found, wanted })
        }
    }
}

/// The first setting that is not as it has to be: its name, what it is, what it has to be.
fn misconfigured(found: impl Fn(&str) -> String) -> Option<(&'static str, String, &'static str)> {
    REQUIRED.into_iter().find_map(|(name, wanted)| {
        let found = found(name);
        (found != wanted).then_some((name, found, wanted))
    })
}

/// Waits until every partition has a leader, and counts them; also the fewest replicas that one of them has.
async fn partitions_with_leaders(admin: &Admin, topic: &str) -> Result<(usize, usize), TopicError> {
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    loop {
        let (asked, name) = (admin.clone(), topic.to_owned());
        let counted = client::blocking(move || {
            let metadata = asked.inner().fetch_metadata(Some(&name), TIMEOUT).ok()?;
            let partitions = metadata.topics().first()?.partitions();
            let led = partitions.iter().all(|partition| partition.leader() >= 0 && partition.error().is_none());
            let replicas = partitions.iter().map(|partition| partition.replicas().len()).min()?;
            led.then_some((partitions.len(), replicas))
        });
        if let Ok(Some(counted)) = counted.await {
            return Ok(counted);
        }
        if tokio::time::Instant::now() >= deadline {
            let reason = "not every partition has a leader".to_owned();
            return Err(TopicError::Topic { topic: topic.to_owned(), reason });
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

#[cfg(test)]
mod tests {
    use super::{REQUIRED, misconfigured};

    fn as_required(name: &str) -> String {
        REQUIRED.iter().find(|(required, _)| *required == name).map(|(_, value)| (*value).to_owned()).unwrap()
    }

    #[test]
    fn a_topic_that_forgets_is_refused() {
        assert_eq!(misconfigured(as_required), None);
        let forgets = |name: &str| if name == "retention.ms" { "604800000".to_owned() } else { as_required(name) };
        assert_eq!(misconfigured(forgets), Some(("retention.ms", "604800000".to_owned(), "-1")));
    }
}
