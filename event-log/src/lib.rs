//! The log: Kafka's topic, how events are appended to it and how they are read. The only crate that knows
//! librdkafka.

mod client;
mod consumer;
mod describe;
mod error;
mod lookup;
mod partition;
mod producer;
mod record;
mod topic;
mod topic_id;
mod topic_watch;

pub use consumer::{LogConsumer, StartAt};
pub use describe::{TopicDescription, TopicSetting, describe_topic};
pub use error::LogError;
pub use partition::partition_for;
pub use producer::{AppendError, Producer};
pub use record::{LogRecord, NotAnEvent};
pub use topic::{Topic, TopicError, TopicSpec, ensure_topic, ensure_typing_topic};
pub use topic_watch::TopicWatch;
