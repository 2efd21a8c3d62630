//! The topics in Kafka: creates them if they are missing, and checks the settings of the topic of record.

use event_log::{Topic, TopicError, TopicSpec, ensure_topic, ensure_typing_topic};
use service::config::Config;

/// Ensures that the topic of record exists, and the topic for typing events if it is a separate one. Returns the topic
/// of record.
///
/// # Errors
/// When Kafka doesn't answer, or a setting of the topic of record is wrong.
pub(crate) async fn ensure_topics(config: &Config) -> Result<Topic, TopicError> {
    let spec = TopicSpec { name: config.kafka_topic.clone(), partitions: config.kafka_partitions };
    let topic = ensure_topic(&config.kafka_brokers, &spec).await?;
    if let Some(name) = &config.kafka_typing_topic {
        let spec = TopicSpec { name: name.clone(), partitions: config.kafka_partitions };
        ensure_typing_topic(&config.kafka_brokers, &spec).await?;
    }
    Ok(topic)
}
