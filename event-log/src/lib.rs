//! The log: Kafka's topic, how events are appended to it and how they are read. The only crate that knows
//! librdkafka.

mod client;
mod consumer;
mod partition;
mod producer;
mod topic;
mod topic_id;

pub use consumer::{LogConsumer, LogError, LogRecord, StartAt};
pub use partition::partition_for;
pub use producer::{AppendError, Producer};
pub use topic::{Topic, TopicError, TopicSpec, ensure_topic};
