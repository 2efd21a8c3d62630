//! Appending events.

use std::time::{Duration, Instant};

use domain::{Event, Position, envelope};
use rdkafka::bindings::{rd_kafka_message_status, rd_kafka_msg_status_t};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use crate::client;

/// How long an event may take to be acknowledged, retries included.
const MESSAGE_TIMEOUT_MS: &str = "5000";
/// How long a flush or a look at the metadata may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why an event was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It is certainly not on the log.
    #[error("refused: {0}")]
    Refused(String),
    /// It may be on the log: it was sent, and no answer came.
    #[error("unknown: {0}")]
    Unknown(String),
}

type Delivered = Result<Position, AppendError>;

struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<oneshot::Sender<Delivered>>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        let delivered = match result {
            Ok(message) => Ok(Position { partition: message.partition(), offset: message.offset() }),
            Err((error, message)) => {
                // SAFETY: the message is borrowed from librdkafka for the length of this callback.
                let status = unsafe { rd_kafka_message_status(message.ptr()) };
                let reason = error.to_string();
                Err(match status {
                    rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED => AppendError::Refused(reason),
                    _ => AppendError::Unknown(reason),
                })
            }
        };
        // Whoever waited may be gone.
        let _ = waiting.send(delivered);
    }
}

/// Appends events with `acks=all`. Clones share one connection and one queue.
#[derive(Clone)]
pub struct Producer {
    producer: ThreadedProducer<Context>,
    topic: String,
    typing_topic: String,
}

impl Producer {
    /// Makes a producer. Connects in the background.
    ///
    /// # Errors
    /// When librdkafka refuses the settings.
    pub fn new(brokers: &str, topic: &str, typing_topic: Option<&str>) -> Result<Self, KafkaError> {
        let producer = client::config(brokers)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .set("compression.type", "lz4")
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", MESSAGE_TIMEOUT_MS)
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "262144")
            .create_with_context(Context)?;
        let typing_topic = typing_topic.unwrap_or(topic).to_owned();
        Ok(Self { producer, topic: topic.to_owned(), typing_topic })
    }

    /// Fetches what the first append would otherwise wait for.
    ///
    /// # Errors
    /// When Kafka doesn't answer.
    pub async fn warm_up(&self) -> Result<(), KafkaError> {
        let (producer, topic) = (self.producer.clone(), self.topic.clone());
        let metadata = client::blocking(move || producer.client().fetch_metadata(Some(&topic), TIMEOUT).map(drop));
        metadata.await.unwrap_or(Err(KafkaError::Canceled))
    }

    /// Appends events in their order and waits until all are acknowledged; gives the position of the first.
    /// The events are queued before this first waits, so that they are sent whether or not it is awaited.
    ///
    /// # Errors
    /// When one of them is not acknowledged: the first failure decides. A full queue refuses at once.
    pub async fn append(&self, events: &[Event], traceparent: &str) -> Result<Position, AppendError> {
        let started = Instant::now();
        let mut waiting = Vec::with_capacity(events.len());
        for event in events {
            waiting.push(self.enqueue(event, traceparent)?);
        }
        let mut first = None;
        for (event, delivered) in events.iter().zip(waiting) {
            let dropped = |_| AppendError::Unknown("the producer was shut down".to_owned());
            let position = delivered.await.map_err(dropped).flatten().inspect_err(count_failure)?;
            metrics::counter!("events_appended_total", "type" => event.data.type_name()).increment(1);
            first = first.or(Some(position));
        }
        metrics::histogram!("append_duration_seconds").record(started.elapsed());
        first.ok_or_else(|| AppendError::Refused("there was no event to append".to_owned()))
    }

    fn enqueue(&self, event: &Event, traceparent: &str) -> Result<oneshot::Receiver<Delivered>, AppendError> {
        let typing = matches!(event.data, domain::EventData::TypingStart {} | domain::EventData::TypingStop {});
        let topic = if typing { &self.typing_topic } else { &self.topic };
        let mut headers = OwnedHeaders::new();
        for (key, value) in &domain::envelope::headers(event) {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        headers = headers.insert(Header { key: "traceparent", value: Some(traceparent) });
        let (sender, delivered) = oneshot::channel();
        let (key, value) = (event.conversation_id.to_string(), envelope::encode(event));
        let record = BaseRecord::with_opaque_to(topic, Box::new(sender)).key(&key).payload(&value).headers(headers);
        self.producer.send(record).map_err(|(error, _)| {
            let full = matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            let reason = if full { "too many events wait for Kafka".to_owned() } else { error.to_string() };
            let error = AppendError::Refused(reason);
            count_failure(&error);
            error
        })?;
        Ok(delivered)
    }

    /// Waits until everything queued is acknowledged or has failed; dropping a producer throws away the rest.
    pub async fn flush(&self) {
        let producer = self.producer.clone();
        if let Ok(Err(error)) = client::blocking(move || producer.flush(TIMEOUT)).await {
            tracing::warn!(%error, "stopped before every event was acknowledged");
        }
    }
}

fn count_failure(error: &AppendError) {
    let outcome = match error {
        AppendError::Refused(_) => "refused",
        AppendError::Unknown(_) => "unknown",
    };
    metrics::counter!("append_failures_total", "outcome" => outcome).increment(1);
}
