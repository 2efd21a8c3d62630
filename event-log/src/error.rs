//! Why reading the log failed.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::client::is_transient;

/// Why reading the log failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// Kafka reported an error, or no broker answers.
    #[error("Kafka: {0}")]
    Kafka(KafkaError),
    /// The log doesn't have the next offset to read: it lost records, or another topic has taken the name. librdkafka
    /// has stopped reading that partition.
    #[error("the log doesn't have the next offset to read; did it lose records, or was the topic created again?")]
    OffsetNotFound,
    /// No broker leads these partitions, so nobody can append to them or read them.
    #[error("Kafka: partitions {0:?} have no leader")]
    Leaderless(Vec<i32>),
    /// Kafka did not answer in time.
    #[error("Kafka did not answer in time")]
    TimedOut,
    /// The process is shutting down.
    #[error("the process shut down while it read the log")]
    Stopped,
}

impl LogError {
    /// Whether nobody answered, rather than with an error.
    pub fn is_without_answer(&self) -> bool {
        match self {
            Self::Kafka(error) => is_transient(error),
            Self::TimedOut => true,
            Self::OffsetNotFound | Self::Leaderless(_) | Self::Stopped => false,
        }
    }
}

impl From<KafkaError> for LogError {
    fn from(error: KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => Self::OffsetNotFound,
            Some(RDKafkaErrorCode::OperationTimedOut) => Self::TimedOut,
            _ => Self::Kafka(error),
        }
    }
}
