//! The largest event that the topic takes now. An operator can change that while the processes run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::error::KafkaError;

use crate::client::{self, Admin, KafkaContext};
use crate::topic::{self, Destination};

/// How many bytes a record takes besides the event's JSON: its key, its headers and what Kafka adds.
const RECORD_OVERHEAD: usize = 512;
/// How long the cluster may take to report the limit.
const TIMEOUT: Duration = Duration::from_secs(2);

domain::limit_rows! {
    Services, "the look-up of how large an event may be, after one was too large", Time TIMEOUT, "the last known limit counts", "the command that waits for it";
}

/// What is known of the limit.
pub(crate) struct SizeLimit {
    /// Connects with its first request.
    admin: Admin,
    topic: String,
    max_message_bytes: AtomicUsize,
}

impl SizeLimit {
    pub(crate) fn new(brokers: &str, destination: &Destination) -> Result<Self, KafkaError> {
        let admin = Arc::new(client::config(brokers).create_with_context(KafkaContext::default())?);
        let max_message_bytes = AtomicUsize::new(destination.max_message_bytes);
        Ok(Self { admin, topic: destination.topic.clone(), max_message_bytes })
    }

    /// Whether an event of so many bytes fits, as far as is known.
    pub(crate) fn takes(&self, bytes: usize) -> bool {
        bytes + RECORD_OVERHEAD <= self.max_message_bytes.load(Ordering::Relaxed)
    }

    /// Asks the cluster for the limit. Only where an event seems not to fit.
    pub(crate) async fn refresh(&self) {
        match tokio::time::timeout(TIMEOUT, topic::max_message_bytes(&self.admin, &self.topic)).await {
            Ok(Ok(found)) => {
                let known = self.max_message_bytes.swap(found, Ordering::Relaxed);
                if known != found {
                    tracing::warn!(topic = self.topic, known, found, "the topic takes events of another size");
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "reading how large an event may be failed"),
            Err(_) => tracing::warn!("Kafka did not answer how large an event may be"),
        }
    }
}
