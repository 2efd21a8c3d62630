//! The log: the Kafka topic that is the system of record. This crate creates and checks the topic, appends events to
//! it, and reads them. It is the only crate that knows librdkafka. It must never delete or change a record.

mod append_outcome;
mod client;
mod consumer;
mod describe;
mod error;
mod lookup;
mod lost_records;
mod partition;
mod partition_reader;
mod producer;
mod record;
mod record_lookup;
mod size_limit;
mod topic;
mod topic_id;
mod topic_watch;

pub use append_outcome::AppendError;
pub use consumer::{LogConsumer, StartAt};
pub use describe::{TopicDescription, describe_topic};
pub use error::LogError;
pub use lost_records::LostRecords;
pub use partition::{partition_for, partition_of};
pub use partition_reader::{PartitionReader, ReadError};
pub use producer::Producer;
pub use record::{LogRecord, NotAnEvent};
pub use topic::{
    Destination, REQUIRED_SETTINGS, Topic, TopicError, TopicSetting, TopicSpec, ensure_topic, ensure_typing_topic,
};
pub use topic_watch::{TopicChange, TopicWatch};

/// The limits of this crate, for `docs/limits.md`.
pub const LIMITS: &[&[domain::limit_rows::LimitRow]] =
    &[client::LIMIT_ROWS, producer::LIMIT_ROWS, lookup::LIMIT_ROWS, record_lookup::LIMIT_ROWS, size_limit::LIMIT_ROWS];
