//! Appending events.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use domain::{Event, EventData, Position, envelope};
use rdkafka::ClientConfig;
use rdkafka::bindings::{rd_kafka_message_status, rd_kafka_msg_status_t};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use crate::client::{self, KafkaLogContext};

/// How long an event may take to be acknowledged, retries included. librdkafka looks once a second: a caller
/// hears of it within 5 s.
const MESSAGE_TIMEOUT_MS: &str = "4000";
/// How long a flush or a look at the metadata may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// When a new producer has its id, without which the broker takes nothing from it (KIP-98): librdkafka asks for
/// one 500 ms after the start, since nothing is connected before, and doesn't tell when it has come.
const HAS_ITS_ID_AFTER: Duration = Duration::from_millis(550);

/// Why events were not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// None of them is on the log, certainly.
    #[error("refused: {0}")]
    Refused(String),
    /// They may be on the log, all or some: they were sent, and no good answer came for all.
    #[error("unknown: {0}")]
    Unknown(String),
}

type Delivered = Result<Position, AppendError>;

impl ProducerContext for KafkaLogContext {
    type DeliveryOpaque = Box<oneshot::Sender<Delivered>>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        let delivered = match result {
            Ok(message) if message.offset() >= 0 => {
                Ok(Position { partition: message.partition(), offset: message.offset() })
            }
            // A broker that recognizes a retry may not know any more where it put the first try.
            Ok(_) => Err(AppendError::Unknown("Kafka has it, but did not say where".to_owned())),
            Err((error, message)) => {
                // SAFETY: the message is borrowed from librdkafka for the length of this callback.
                let status = unsafe { rd_kafka_message_status(message.ptr()) };
                let not_persisted = status == rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED;
                // librdkafka takes a broker's "unknown server error" for a no; the broker only says that it failed.
                let unclear = error.rdkafka_error_code() == Some(RDKafkaErrorCode::Unknown);
                let reason = error.to_string();
                Err(if not_persisted && !unclear { AppendError::Refused(reason) } else { AppendError::Unknown(reason) })
            }
        };
        // Whoever waited may be gone.
        let _ = waiting.send(delivered);
    }
}

/// Appends events with `acks=all`. Clones share one connection and one queue.
#[derive(Clone)]
pub struct Producer(Arc<Shared>);

struct Shared {
    config: ClientConfig,
    current: RwLock<ThreadedProducer<KafkaLogContext>>,
    topic: String,
    typing_topic: String,
}

impl Producer {
    /// Makes a producer. Connects in the background. Typing goes to `typing_topic` if there is one, everything
    /// else to `topic`.
    ///
    /// # Errors
    /// When librdkafka refuses the settings.
    pub fn new(brokers: &str, topic: &str, typing_topic: Option<&str>) -> Result<Self, KafkaError> {
        let mut config = client::config(brokers);
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .set("compression.type", "lz4")
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", MESSAGE_TIMEOUT_MS)
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "262144");
        let current = RwLock::new(config.create_with_context(KafkaLogContext)?);
        let typing_topic = typing_topic.unwrap_or(topic).to_owned();
        Ok(Self(Arc::new(Shared { config, current, topic: topic.to_owned(), typing_topic })))
    }

    /// Whether typing goes to a topic of its own: then its positions are of that one.
    pub fn has_typing_topic(&self) -> bool {
        self.0.typing_topic != self.0.topic
    }

    /// Waits, for half a second, for what the first append would otherwise wait for.
    ///
    /// # Errors
    /// When Kafka doesn't answer within 5 s.
    pub async fn warm_up(&self) -> Result<(), KafkaError> {
        let shared = self.0.clone();
        let metadata = client::blocking(move || {
            let producer = shared.current.read().unwrap_or_else(PoisonError::into_inner).clone();
            for topic in [&shared.topic, &shared.typing_topic] {
                producer.client().fetch_metadata(Some(topic), TIMEOUT)?;
            }
            Ok(())
        });
        let (metadata, ()) = tokio::join!(metadata, tokio::time::sleep(HAS_ITS_ID_AFTER));
        metadata.unwrap_or(Err(KafkaError::Canceled))
    }

    /// Appends events in their order and waits until all are acknowledged or have failed; gives the position of
    /// the first. All are queued before this first waits, so that they are sent whether or not it is awaited
    /// any further.
    ///
    /// # Errors
    /// When one of them is not acknowledged. A full queue refuses at once.
    pub async fn append(&self, events: &[Event], traceparent: &str) -> Result<Position, AppendError> {
        let started = Instant::now();
        let _in_flight = InFlight::enter(events.len());
        let mut each = Vec::with_capacity(events.len());
        for (event, queued) in events.iter().zip(self.enqueue(events, traceparent)?) {
            let delivered = match queued {
                Ok(delivered) => delivered
                    .await
                    .unwrap_or_else(|_| Err(AppendError::Unknown("the producer was shut down".to_owned()))),
                Err(error) => Err(error),
            };
            if delivered.is_ok() {
                metrics::counter!("events_appended_total", "type" => event.data.type_name()).increment(1);
            }
            each.push(delivered);
        }
        let position = together(each).inspect_err(count_failure)?;
        metrics::histogram!("append_duration_seconds").record(started.elapsed());
        Ok(position)
    }

    /// Queues events up to the first that the queue doesn't take.
    fn enqueue(
        &self,
        events: &[Event],
        traceparent: &str,
    ) -> Result<Vec<Result<oneshot::Receiver<Delivered>, AppendError>>, AppendError> {
        let producer = self.usable().inspect_err(count_failure)?;
        let mut queued = Vec::with_capacity(events.len());
        for event in events {
            queued.push(self.enqueue_one(&producer, event, traceparent));
            if queued.last().is_some_and(Result::is_err) {
                break;
            }
        }
        Ok(queued)
    }

    fn enqueue_one(
        &self,
        producer: &ThreadedProducer<KafkaLogContext>,
        event: &Event,
        traceparent: &str,
    ) -> Result<oneshot::Receiver<Delivered>, AppendError> {
        let typing = matches!(event.data, EventData::TypingStart {} | EventData::TypingStop {});
        let topic = if typing { &self.0.typing_topic } else { &self.0.topic };
        let mut headers = OwnedHeaders::new();
        for (key, value) in &envelope::headers(event) {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        headers = headers.insert(Header { key: "traceparent", value: Some(traceparent) });
        let (sender, delivered) = oneshot::channel();
        let (key, value) = (event.conversation_id.to_string(), envelope::encode(event));
        let record = BaseRecord::with_opaque_to(topic, Box::new(sender)).key(&key).payload(&value).headers(headers);
        match producer.send(record) {
            Ok(()) => Ok(delivered),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                Err(AppendError::Refused("too many events wait for Kafka".to_owned()))
            }
            Err((error, _)) => Err(AppendError::Refused(error.to_string())),
        }
    }

    /// The producer to queue with. After some errors (such as a sequence number that the broker doesn't expect,
    /// because it lost what it had) librdkafka gives up an idempotent producer for good: a new one takes its
    /// place. What the old one had not sent is refused.
    fn usable(&self) -> Result<ThreadedProducer<KafkaLogContext>, AppendError> {
        let current = self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        if current.client().fatal_error().is_none() {
            return Ok(current);
        }
        let mut slot = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((code, reason)) = slot.client().fatal_error() {
            let made = self.0.config.create_with_context(KafkaLogContext);
            let made = made.map_err(|error| AppendError::Refused(error.to_string()))?;
            tracing::error!(%code, reason, "Kafka's producer broke down; a new one takes its place");
            let broken = std::mem::replace(&mut *slot, made);
            // It waits for its thread and for what it had in flight.
            drop(client::blocking(move || drop((broken, current))));
        }
        Ok(slot.clone())
    }

    /// Waits up to 5 s until everything queued is acknowledged or has failed; dropping a producer throws away the
    /// rest.
    pub async fn flush(&self) {
        let producer = self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Ok(Err(error)) = client::blocking(move || producer.flush(TIMEOUT)).await {
            tracing::warn!(%error, "stopped before every event was acknowledged");
        }
    }
}

/// Events that wait for Kafka, for as long as somebody waits for them.
struct InFlight(f64);

impl InFlight {
    fn enter(events: usize) -> Self {
        let in_flight = Self(events as f64);
        metrics::gauge!("append_in_flight").increment(in_flight.0);
        in_flight
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        metrics::gauge!("append_in_flight").decrement(self.0);
    }
}

/// What became of events together, from what became of each: refused only if none of them can be on the log.
fn together(each: Vec<Delivered>) -> Delivered {
    let none_kept = each.iter().all(|delivered| matches!(delivered, Err(AppendError::Refused(_))));
    let mut first = None;
    for delivered in each {
        match delivered {
            Ok(position) => first = first.or(Some(position)),
            Err(AppendError::Refused(reason) | AppendError::Unknown(reason)) => {
                return Err(if none_kept { AppendError::Refused(reason) } else { AppendError::Unknown(reason) });
            }
        }
    }
    first.ok_or_else(|| AppendError::Refused("there was no event to append".to_owned()))
}

fn count_failure(error: &AppendError) {
    let outcome = match error {
        AppendError::Refused(_) => "refused",
        AppendError::Unknown(_) => "unknown",
    };
    metrics::counter!("append_failures_total", "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use domain::Position;

    use super::{AppendError, Delivered, together};

    fn kept(offset: i64) -> Delivered {
        Ok(Position { partition: 1, offset })
    }

    fn refused() -> Delivered {
        Err(AppendError::Refused("too large".to_owned()))
    }

    fn unknown() -> Delivered {
        Err(AppendError::Unknown("timed out".to_owned()))
    }

    #[test]
    fn several_events_are_refused_only_if_none_of_them_can_be_on_the_log() {
        assert_eq!(together(vec![kept(7), kept(8)]), kept(7));
        assert_eq!(together(vec![refused(), refused()]), refused());
        for some_kept in [vec![kept(7), refused()], vec![refused(), kept(7)], vec![refused(), unknown()]] {
            let outcome = together(some_kept);
            assert!(matches!(outcome, Err(AppendError::Unknown(_))), "{outcome:?}");
        }
    }
}
