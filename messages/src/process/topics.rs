//! The topics in Kafka: creates them if they are missing, and checks the settings of the topic of record.

use event_log::{Destination, Topic, TopicError, TopicSpec, ensure_topic, ensure_typing_topic};
use service::config::Config;

/// The topics of a system.
pub(crate) struct Topics {
    /// The topic of record.
    pub(crate) log: Topic,
    /// The topic for typing events, if it is a separate one.
    pub(crate) typing: Option<Destination>,
}

/// Ensures that the topic of record exists, and the topic for typing events if it is a separate one.
///
/// # Errors
/// When Kafka doesn't answer, or a setting of the topic of record is wrong.
pub(crate) async fn ensure_topics(config: &Config) -> Result<Topics, TopicError> {
    let spec = TopicSpec { name: config.kafka_topic.clone(), partitions: config.kafka_partitions };
    let log = ensure_topic(&config.kafka_brokers, &spec).await?;
    let typing = match &config.kafka_typing_topic {
        Some(name) => {
            let spec = TopicSpec { name: name.clone(), partitions: config.kafka_partitions };
            Some(ensure_typing_topic(&config.kafka_brokers, &spec).await?)
        }
        None => None,
    };
    Ok(Topics { log, typing })
}
