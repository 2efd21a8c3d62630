//! The topic as it is, for those who look after it: nothing is made, nothing is refused.

use rdkafka::error::KafkaError;
use uuid::Uuid;

use crate::client;
use crate::topic::{self, Admin, IN_SYNC, REQUIRED, TIMEOUT, TopicError};
use crate::topic_id;

/// A topic that is there, however it is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its id (KIP-516).
    pub id: Uuid,
    /// How many brokers the cluster has.
    pub brokers: usize,
    /// How many partitions it has.
    pub partitions: usize,
    /// Those without a leader: nothing can be appended to them or read from them.
    pub leaderless: Vec<i32>,
    /// On how many brokers a record is, at least.
    pub replicas: usize,
    /// How many of those follow now, at least.
    pub in_sync: usize,
    /// How many have to, for a record to be taken.
    pub min_in_sync: usize,
    /// The settings that matter.
    pub settings: Vec<TopicSetting>,
}

/// A setting of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSetting {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub found: String,
    /// What it has to be.
    pub wanted: &'static str,
}

impl TopicDescription {
    /// How many copies of a record there are when it is acknowledged: that many brokers have to be lost at once for it
    /// to be.
    pub fn copies(&self) -> usize {
        self.replicas.min(self.min_in_sync)
    }

    /// The settings that are otherwise than they have to be.
    pub fn wrong(&self) -> impl Iterator<Item = &TopicSetting> {
        self.settings.iter().filter(|setting| setting.found != setting.wanted)
    }
}

/// Describes the topic of this name; none where there is none.
///
/// # Errors
/// When the cluster doesn't answer within 10 s.
pub async fn describe_topic(brokers: &str, name: &str) -> Result<Option<TopicDescription>, TopicError> {
    let kafka = |source| TopicError::Kafka { brokers: brokers.to_owned(), source };
    let failed = |reason| TopicError::Topic { topic: name.to_owned(), reason };
    let admin = topic::connect(brokers)?;
    let Some(mut description) = partitions(&admin, name).await.map_err(kafka)? else { return Ok(None) };
    let entries = topic::settings(&admin, name).await?;
    let found = |name: &str| entries.get(name).cloned().unwrap_or_default();
    description.min_in_sync = found(IN_SYNC).parse().unwrap_or(0);
    description.settings =
        REQUIRED.into_iter().map(|(name, wanted)| TopicSetting { name, found: found(name), wanted }).collect();
    let (asked, named) = (admin.clone(), name.to_owned());
    let id = client::blocking(move || topic_id::describe(&asked, &named)).await;
    description.id = id.map_err(|error| failed(error.to_string()))?.map_err(failed)?;
    Ok(Some(description))
}

/// What the metadata say; none where there is no such topic.
async fn partitions(admin: &Admin, name: &str) -> Result<Option<TopicDescription>, KafkaError> {
    let (admin, name) = (admin.clone(), name.to_owned());
    let described = client::blocking(move || {
        let metadata = admin.inner().fetch_metadata(Some(&name), TIMEOUT)?;
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
