//! Why the log can't be read.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// The log can't be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// Kafka says so, or doesn't answer.
    #[error("Kafka: {0}")]
    Kafka(KafkaError),
    /// The log doesn't have the offset that was to be read next: it lost records, or another topic has taken
    /// the name. librdkafka has stopped reading that partition.
    #[error("the log doesn't have the offset that was to be read next; were records lost, or the topic made anew?")]
    Lost,
    /// Kafka did not answer in time.
    #[error("Kafka did not answer in time")]
    TimedOut,
    /// The process is shutting down.
    #[error("stopped while reading the log")]
    Stopped,
}

impl From<KafkaError> for LogError {
    fn from(error: KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => Self::Lost,
            Some(RDKafkaErrorCode::OperationTimedOut) => Self::TimedOut,
            _ => Self::Kafka(error),
        }
    }
}
