//! The topic: made as the log of record has to be, and refused where it is set up otherwise.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaErrorCode as Code;
use uuid::Uuid;

use crate::client::{self, Logging};
use crate::topic_id;

/// How long each call to the cluster may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// From how many brokers on records are kept on three of them.
const REPLICATED_FROM: usize = 3;

/// What a log of record has to be set to: nothing is ever thrown away, and times are the log's.
const REQUIRED: [(&str, &str); 4] = [
    ("cleanup.policy", "delete"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("message.timestamp.type", "LogAppendTime"),
];

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

/// Makes the topic if it isn't there, and checks that it is set up as a log of record.
///
/// # Errors
/// When the cluster doesn't answer, or the topic is set up otherwise.
pub async fn ensure_topic(brokers: &str, spec: &TopicSpec) -> Result<Topic, TopicError> {
    let kafka = |source| TopicError::Kafka { brokers: brokers.to_owned(), source };
    let admin: AdminClient<Logging> = client::config(brokers).create_with_context(Logging).map_err(kafka)?;
    let admin = std::sync::Arc::new(admin);
    let brokers_count = brokers_in(&admin).await.map_err(kafka)?;
    create(&admin, spec, brokers_count).await?;
    check(&admin, &spec.name).await?;
    let partitions = partitions_with_leaders(&admin, &spec.name).await?;
    let failed = |reason| TopicError::Topic { topic: spec.name.clone(), reason };
    let (asked, name) = (admin.clone(), spec.name.clone());
    let id = client::blocking(move || topic_id::describe(&asked, &name))
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(failed)?;
    Ok(Topic { name: spec.name.clone(), id, partitions })
}

async fn brokers_in(admin: &std::sync::Arc<AdminClient<Logging>>) -> Result<usize, KafkaError> {
    let admin = admin.clone();
    let metadata = client::blocking(move || admin.inner().fetch_metadata(Some("__none"), TIMEOUT)).await;
    match metadata {
        Ok(metadata) => Ok(metadata?.brokers().len()),
        Err(_) => Err(KafkaError::Canceled),
    }
}

async fn create(admin: &AdminClient<Logging>, spec: &TopicSpec, brokers: usize) -> Result<(), TopicError> {
    let replicated = brokers >= REPLICATED_FROM;
    let replication = TopicReplication::Fixed(if replicated { 3 } else { 1 });
    let mut topic = NewTopic::new(&spec.name, spec.partitions, replication);
    for (name, value) in REQUIRED {
        topic = topic.set(name, value);
    }
    topic = topic.set("min.insync.replicas", if replicated { "2" } else { "1" });
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
    let failed = |reason: String| TopicError::Topic { topic: spec.name.clone(), reason };
    let results = admin.create_topics([&topic], &options).await.map_err(|error| failed(error.to_string()))?;
    if !replicated {
        tracing::warn!(
            brokers,
            "fewer than three brokers: an acknowledged event is on one disk only, and is lost with it"
        );
    }
    match results.into_iter().next() {
        Some(Ok(name)) => tracing::info!(topic = name, partitions = spec.partitions, "made the topic"),
        // Another process may have been first.
        Some(Err((_, Code::TopicAlreadyExists))) => {}
        Some(Err((_, code))) => return Err(failed(code.to_string())),
        None => return Err(failed("the cluster did not say whether it was made".to_owned())),
    }
    Ok(())
}

async fn check(admin: &AdminClient<Logging>, topic: &str) -> Result<(), TopicError> {
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let failed = |reason: String| TopicError::Topic { topic: topic.to_owned(), reason };
    // Right after it was made, a broker may not know it yet.
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    let config = loop {
        let described = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await;
        match described.map_err(|error| failed(error.to_string()))?.into_iter().next() {
            Some(Ok(config)) => break config,
            Some(Err(RDKafkaErrorCode::UnknownTopicOrPartition)) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Some(Err(code)) => return Err(failed(code.to_string())),
            None => return Err(failed("the cluster described no settings".to_owned())),
        }
    };
    let entries = config.entry_map();
    let found = |name: &str| entries.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
    match misconfigured(found) {
        None => Ok(()),
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

/// Waits until every partition has a leader, and counts them.
async fn partitions_with_leaders(
    admin: &std::sync::Arc<AdminClient<Logging>>,
    topic: &str,
) -> Result<usize, TopicError> {
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    loop {
        let (asked, name) = (admin.clone(), topic.to_owned());
        let counted = client::blocking(move || {
            let metadata = asked.inner().fetch_metadata(Some(&name), TIMEOUT).ok()?;
            let topic = metadata.topics().first()?;
            let partitions = topic.partitions();
            let led = partitions.iter().all(|partition| partition.leader() >= 0 && partition.error().is_none());
            (led && !partitions.is_empty()).then_some(partitions.len())
        });
        if let Ok(Some(count)) = counted.await {
            return Ok(count);
        }
        if tokio::time::Instant::now() >= deadline {
            let reason = "not every partition has a leader".to_owned();
            return Err(TopicError::Topic { topic: topic.to_owned(), reason });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
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
