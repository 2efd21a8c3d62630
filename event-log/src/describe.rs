//! Describes the topic as it is, for `messages topic` and `messages doctor`. It must never create a topic, and accepts
//! any settings.

use rdkafka::error::KafkaError;
use uuid::Uuid;

use crate::client::{self, Admin};
use crate::topic::{self, KAFKA_TIMEOUT, MIN_IN_SYNC_REPLICAS, TopicError, TopicSetting};
use crate::topic_id;

/// An existing topic and its settings, whether or not they are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// The topic's id (KIP-516).
    pub id: Uuid,
    /// The number of brokers in the cluster.
    pub brokers: usize,
    /// The number of partitions.
    pub partitions: usize,
    /// The partitions without a leader: nobody can append to them or read from them.
    pub leaderless: Vec<i32>,
    /// The number of replicas of the partition that has the fewest.
    pub replicas: usize,
    /// The number of replicas in sync now, of the partition that has the fewest.
    pub in_sync: usize,
    /// `min.insync.replicas`: a broker refuses records while fewer replicas than this are in sync.
    pub min_in_sync: usize,
    /// The settings that a log of record depends on.
    pub settings: Vec<TopicSetting>,
}

impl TopicDescription {
    /// The number of brokers that have a record when Kafka acknowledges it. The record is lost only if all of them are
    /// lost at once.
    pub fn copies(&self) -> usize {
        self.replicas.min(self.min_in_sync)
    }

    /// The settings with a value that won't do for a log of record.
    pub fn wrong_settings(&self) -> impl Iterator<Item = &TopicSetting> {
        self.settings.iter().filter(|setting| !setting.is_right)
    }
}

/// Describes the topic of this name. None if it doesn't exist.
///
/// # Errors
/// When the cluster doesn't answer within 10 s.
pub async fn describe_topic(brokers: &str, name: &str) -> Result<Option<TopicDescription>, TopicError> {
    let kafka_error = |source| TopicError::Kafka { brokers: brokers.to_owned(), source };
    let topic_error = |reason| TopicError::Topic { topic: name.to_owned(), reason };
    let admin = topic::connect(brokers)?;
    let described = describe_partitions(&admin, name).await.map_err(kafka_error)?;
    let Some(mut description) = described else { return Ok(None) };
    let settings = topic::settings(&admin, name).await?;
    description.min_in_sync = settings.get(MIN_IN_SYNC_REPLICAS).and_then(|value| value.parse().ok()).unwrap_or(0);
    description.settings = topic::compare_settings(&settings);
    description.id = topic_id::identify(admin, name.to_owned()).await.map_err(topic_error)?.id;
    Ok(Some(description))
}

/// Describes a topic from the cluster's metadata, without its id and settings. None if the topic doesn't exist.
async fn describe_partitions(admin: &Admin, topic: &str) -> Result<Option<TopicDescription>, KafkaError> {
    let admin = admin.clone();
    let topic = topic.to_owned();
    let described = client::run_blocking(move || {
        let metadata = admin.inner().fetch_metadata(Some(&topic), KAFKA_TIMEOUT)?;
        let partitions = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
        if partitions.is_empty() {
            return Ok(None);
        }
        let leaderless = partitions.iter().filter(|partition| partition.leader() < 0).map(|partition| partition.id());
        Ok(Some(TopicDescription {
            id: Uuid::nil(),
            brokers: metadata.brokers().len(),
            partitions: partitions.len(),
            leaderless: leaderless.collect(),
            replicas: partitions.iter().map(|partition| partition.replicas().len()).min().unwrap_or(0),
            in_sync: partitions.iter().map(|partition| partition.isr().len()).min().unwrap_or(0),
            min_in_sync: 0,
            settings: Vec::new(),
        }))
    });
    described.await.unwrap_or(Err(KafkaError::Canceled))
}
