//! Appends events to the log. An append must never report an event as refused that may be on the log.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use domain::{ConversationId, Event, EventData, Position, envelope};
use rdkafka::ClientConfig;
use rdkafka::bindings::{rd_kafka_message_status, rd_kafka_msg_status_t};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use crate::append_outcome::{AppendError, Delivery, combine, count_failure};
use crate::client::{self, KafkaContext};
use crate::partition::partition_of;
use crate::size_limit::SizeLimit;
use crate::topic::Destination;

/// How long Kafka may take to acknowledge an event, retries included. librdkafka checks this once a second, so the
/// caller hears of it within 5 s.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(4);
/// How many events may wait in the producer.
const QUEUED_EVENTS: usize = 100_000;
/// How many bytes of events may wait in the producer.
const QUEUED_BYTES: usize = 256 << 20;
/// How many bytes of events the producer sends to a partition at once: librdkafka's own default.
const LARGEST_BATCH_BYTES: usize = 1_000_000;
/// How long a flush or a request for metadata may take.
const KAFKA_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a new producer takes to get its id. Without one, a broker accepts nothing from an idempotent producer
/// (KIP-98). librdkafka requests the id 500 ms after the start, since nothing is connected before, and doesn't report
/// when it has come.
const PRODUCER_ID_DELAY: Duration = Duration::from_millis(550);

domain::limit_rows! {
    Services, "wait for Kafka to acknowledge an event", Time MESSAGE_TIMEOUT, "503 `append_unknown`", "tasks and connections";
    Memory, "events that wait for Kafka", Count QUEUED_EVENTS, "503 `append_refused`", "memory";
    Memory, "bytes of events that wait for Kafka", Bytes QUEUED_BYTES, "503 `append_refused`", "memory";
}

/// The pending delivery of one event, or why librdkafka's queue refused the event.
type QueuedEvent = Result<oneshot::Receiver<Delivery>, AppendError>;

impl ProducerContext for KafkaContext {
    type DeliveryOpaque = Box<oneshot::Sender<Delivery>>;

    fn delivery(&self, result: &DeliveryResult<'_>, sender: Self::DeliveryOpaque) {
        let delivery = match result {
            Ok(message) if message.offset() >= 0 => {
                Ok(Position { partition: message.partition(), offset: message.offset() })
            }
            // A broker that recognizes a retry may no longer know the offset of the first attempt.
            Ok(_) => Err(AppendError::Unknown("Kafka has the event, but did not report its offset".to_owned())),
            Err((error, message)) => {
                // SAFETY: the message is borrowed from librdkafka for the length of this callback.
                let status = unsafe { rd_kafka_message_status(message.ptr()) };
                let not_persisted = status == rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED;
                // librdkafka counts a broker's "unknown server error" as a refusal, but it only means that the broker
                // failed.
                let may_be_persisted = error.rdkafka_error_code() == Some(RDKafkaErrorCode::Unknown);
                Err(match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::MessageSizeTooLarge) if not_persisted => AppendError::TooLarge,
                    _ if not_persisted && !may_be_persisted => AppendError::Refused(error.to_string()),
                    _ => AppendError::Unknown(error.to_string()),
                })
            }
        };
        // The caller may have stopped waiting.
        let _ = sender.send(delivery);
    }
}

/// Appends events with `acks=all`. Clones share one connection and one queue.
#[derive(Clone)]
pub struct Producer(Arc<Shared>);

struct Shared {
    config: ClientConfig,
    /// Replaced when it breaks down.
    current: RwLock<ThreadedProducer<KafkaContext>>,
    topic: Destination,
    typing_topic: Destination,
    size_limit: SizeLimit,
}

impl Shared {
    fn current(&self) -> ThreadedProducer<KafkaContext> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Producer {
    /// Creates a producer. It connects in the background. Typing events go to `typing_topic` if there is one, all other
    /// events to `topic`.
    ///
    /// # Errors
    /// When librdkafka refuses the settings.
    pub fn new(brokers: &str, topic: Destination, typing_topic: Option<Destination>) -> Result<Self, KafkaError> {
        let mut config = client::config(brokers);
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .set("compression.type", "lz4")
            .set("message.timeout.ms", MESSAGE_TIMEOUT.as_millis().to_string())
            .set("queue.buffering.max.messages", QUEUED_EVENTS.to_string())
            .set("queue.buffering.max.kbytes", (QUEUED_BYTES >> 10).to_string())
            // Events that Kafka would take one by one must not be too large together.
            .set("message.max.bytes", topic.max_message_bytes.clamp(1_000, LARGEST_BATCH_BYTES).to_string());
        client::count_requests(&mut config);
        let current = RwLock::new(config.create_with_context(KafkaContext::default())?);
        let typing_topic = typing_topic.unwrap_or_else(|| topic.clone());
        let size_limit = SizeLimit::new(brokers, &topic)?;
        Ok(Self(Arc::new(Shared { config, current, topic, typing_topic, size_limit })))
    }

    /// Whether typing events go to a topic of their own. Their positions are then on that topic.
    pub fn has_typing_topic(&self) -> bool {
        self.0.typing_topic.topic != self.0.topic.topic
    }

    /// Connects and gets a producer id, so the first append doesn't wait for them. Takes half a second.
    ///
    /// # Errors
    /// When Kafka doesn't answer within 5 s.
    pub async fn warm_up(&self) -> Result<(), KafkaError> {
        let shared = self.0.clone();
        let metadata = client::run_blocking(move || {
            let producer = shared.current();
            for Destination { topic, .. } in [&shared.topic, &shared.typing_topic] {
                producer.client().fetch_metadata(Some(topic), KAFKA_TIMEOUT)?;
            }
            Ok(())
        });
        let (metadata, ()) = tokio::join!(metadata, tokio::time::sleep(PRODUCER_ID_DELAY));
        metadata.unwrap_or(Err(KafkaError::Canceled))
    }

    /// Appends events in their order and waits until Kafka has acknowledged or refused each. Returns the position of
    /// the first. The call queues all events before it first waits, so the producer sends them even if the caller stops
    /// waiting.
    ///
    /// # Errors
    /// When Kafka doesn't acknowledge every event. A full queue refuses at once, and so does an event that is too large,
    /// for all of them.
    pub async fn append(&self, events: &[Event], traceparent: &str) -> Result<Position, AppendError> {
        let started = Instant::now();
        let values: Vec<Vec<u8>> = events.iter().map(envelope::encode).collect();
        let largest = values.iter().map(Vec::len).max().unwrap_or(0);
        // Before the first is queued: none may be on the log without the others.
        if !self.0.size_limit.takes(largest) {
            self.0.size_limit.refresh().await;
            if !self.0.size_limit.takes(largest) {
                return Err(AppendError::TooLarge).inspect_err(count_failure);
            }
        }
        let appended = self.append_encoded(events, &values, traceparent).await;
        let error = match appended {
            Ok(position) => {
                metrics::histogram!("append_duration_seconds").record(started.elapsed());
                return Ok(position);
            }
            // Kafka refuses a batch as a whole, and doesn't say which of its events is too large.
            Err(AppendError::TooLarge) if self.0.size_limit.takes(largest) => {
                AppendError::Refused("a batch of events was larger than the topic takes".to_owned())
            }
            Err(error) => error,
        };
        Err(error).inspect_err(count_failure)
    }

    async fn append_encoded(
        &self,
        events: &[Event],
        values: &[Vec<u8>],
        traceparent: &str,
    ) -> Result<Position, AppendError> {
        let _in_flight = InFlight::enter(events.len());
        let mut deliveries = Vec::with_capacity(events.len());
        for (event, queued) in events.iter().zip(self.enqueue(events, values, traceparent)?) {
            let delivery = match queued {
                Ok(pending) => pending.await.unwrap_or_else(|_| Err(shut_down())),
                Err(error) => Err(error),
            };
            if delivery.is_ok() {
                metrics::counter!("events_appended_total", "type" => event.data.type_name()).increment(1);
            }
            deliveries.push(delivery);
        }
        if deliveries.contains(&Err(AppendError::TooLarge)) {
            self.0.size_limit.refresh().await;
        }
        combine(deliveries)
    }

    /// Appends a record that is no event, as another program or a later version may do. It goes to the partition of a
    /// conversation, where the projector parks it. For demonstrations only.
    ///
    /// # Errors
    /// When Kafka doesn't acknowledge the record.
    pub async fn append_undecodable(
        &self,
        key: ConversationId,
        event_type: Option<&str>,
        value: &[u8],
    ) -> Result<Position, AppendError> {
        let _in_flight = InFlight::enter(1);
        let headers = event_type.map_or_else(OwnedHeaders::new, |event_type| {
            OwnedHeaders::new().insert(Header { key: "ce_type", value: Some(event_type) })
        });
        let pending = enqueue_record(&self.working_producer()?, &self.0.topic, key, value, headers)?;
        let delivery = pending.await.unwrap_or_else(|_| Err(shut_down()));
        delivery.inspect_err(count_failure)
    }

    /// Queues events, up to the first that the queue refuses.
    fn enqueue(
        &self,
        events: &[Event],
        values: &[Vec<u8>],
        traceparent: &str,
    ) -> Result<Vec<QueuedEvent>, AppendError> {
        let producer = self.working_producer()?;
        let mut queued = Vec::with_capacity(events.len());
        for (event, value) in events.iter().zip(values) {
            queued.push(self.enqueue_one(&producer, event, value, traceparent));
            if queued.last().is_some_and(Result::is_err) {
                break;
            }
        }
        Ok(queued)
    }

    fn enqueue_one(
        &self,
        producer: &ThreadedProducer<KafkaContext>,
        event: &Event,
        value: &[u8],
        traceparent: &str,
    ) -> QueuedEvent {
        let is_typing = matches!(event.data, EventData::TypingStart {} | EventData::TypingStop {});
        let destination = if is_typing { &self.0.typing_topic } else { &self.0.topic };
        let mut headers = OwnedHeaders::new();
        for (key, value) in &envelope::headers(event) {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        headers = headers.insert(Header { key: "traceparent", value: Some(traceparent) });
        enqueue_record(producer, destination, event.conversation_id, value, headers)
    }

    /// A producer without a fatal error. librdkafka gives an idempotent producer up after some errors, such as a
    /// sequence number that the broker doesn't expect because it lost records. A new producer then replaces it, and the
    /// events that the old one had not sent are refused.
    fn working_producer(&self) -> Result<ThreadedProducer<KafkaContext>, AppendError> {
        let current = self.0.current();
        if current.client().fatal_error().is_none() {
            return Ok(current);
        }
        let mut slot = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((code, reason)) = slot.client().fatal_error() {
            let replacement = self.0.config.create_with_context(KafkaContext::default());
            let replacement = replacement.map_err(|error| AppendError::Refused(error.to_string()))?;
            tracing::error!(%code, reason, "the Kafka producer broke down; a new one replaces it");
            let broken = std::mem::replace(&mut *slot, replacement);
            // Dropping it waits for its thread and for the events that it had in flight.
            drop(client::run_blocking(move || drop((broken, current))));
        }
        Ok(slot.clone())
    }

    /// Waits up to 5 s until Kafka has acknowledged or refused every queued event. Dropping a producer discards those
    /// that remain.
    pub async fn flush(&self) {
        let producer = self.0.current();
        if let Ok(Err(error)) = client::run_blocking(move || producer.flush(KAFKA_TIMEOUT)).await {
            tracing::warn!(%error, "Kafka did not acknowledge every queued event in time; the rest is discarded");
        }
    }
}

/// Queues a record for the partition of its key.
fn enqueue_record(
    producer: &ThreadedProducer<KafkaContext>,
    destination: &Destination,
    key: ConversationId,
    value: &[u8],
    headers: OwnedHeaders,
) -> QueuedEvent {
    let (sender, delivery) = oneshot::channel();
    let partition = partition_of(key, destination.partitions);
    let key = key.to_string();
    let record = BaseRecord::with_opaque_to(&destination.topic, Box::new(sender))
        .partition(partition)
        .key(&key)
        .payload(value)
        .headers(headers);
    match producer.send(record) {
        Ok(()) => Ok(delivery),
        Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
            Err(AppendError::Refused("the queue of events for Kafka is full".to_owned()))
        }
        Err((KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge), _)) => Err(AppendError::TooLarge),
        Err((error, _)) => Err(AppendError::Refused(error.to_string())),
    }
}

/// The error of an event whose producer is gone.
fn shut_down() -> AppendError {
    AppendError::Unknown("the producer shut down".to_owned())
}

/// Counts events in the metric of events in flight, until it is dropped.
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
