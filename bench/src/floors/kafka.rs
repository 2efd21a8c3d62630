//! Kafka alone: librdkafka's acknowledgement, and produce to consume. It runs in the generator itself, because
//! librdkafka is the client whose latency counts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use domain::{Event, envelope};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::failures::Failures;
use crate::latency::{Latencies, LatencyRecorder};
use crate::progress::Progress;
use crate::schedule::Schedule;
use crate::workload::{Events, Population, number_in};

/// The number of partitions of each topic: the default of Messages.
pub(crate) const PARTITIONS: i32 = 12;
/// How long a flush or an admin operation may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long the last records may take to arrive once all are sent.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the consumer waits for a record before it checks whether to go on.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
/// A constant header, as long as those that Messages writes.
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The settings that the clients of the event log have, too.
fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("socket.nagle.disable", "true").set("enable.metrics.push", "false");
    config
}

/// The settings of the event log's producer.
pub(super) fn producer_config(brokers: &str) -> ClientConfig {
    let mut config = config(brokers);
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        .set("compression.type", "lz4")
        .set("partitioner", "murmur2_random");
    config
}

/// A consumer of all partitions from their beginning, with the event log's settings and these ones.
///
/// # Errors
/// When librdkafka refuses the settings.
pub(super) fn consumer_with<C: Consumer + FromClientConfig>(
    brokers: &str,
    topic: &str,
    settings: &[(&str, &str)],
) -> Result<C, KafkaError> {
    let mut config = config(brokers);
    config
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("fetch.queue.backoff.ms", "5");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    let consumer: C = config.create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

/// Records the latency of each acknowledgement, if it has a recorder, and each failure.
struct DeliveryContext {
    latencies: Option<Arc<LatencyRecorder>>,
    failures: Arc<Failures>,
}

impl ClientContext for DeliveryContext {}

impl ProducerContext for DeliveryContext {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match (result, &self.latencies) {
            (Ok(_), Some(latencies)) => latencies.record(number as u64),
            (Ok(_), None) => {}
            (Err((error, _)), _) => self.failures.add(format!("Kafka alone: {error}"), 1),
        }
    }
}

type BaselineProducer = ThreadedProducer<DeliveryContext>;

/// Queues an event as a record like those of the event log. Waits while the queue is full.
fn produce(producer: &BaselineProducer, topic: &str, number: usize, event: &Event) -> Result<(), KafkaError> {
    let mut headers = OwnedHeaders::new();
    for (key, value) in &envelope::headers(event) {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    headers = headers.insert(Header { key: "traceparent", value: Some(TRACEPARENT) });
    let (key, value) = (event.conversation_id.to_string(), envelope::encode(event));
    let mut record = BaseRecord::with_opaque_to(topic, number).key(&key).payload(&value).headers(headers);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), rejected)) => {
                record = rejected;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// Appends events to a topic as fast as possible.
///
/// # Errors
/// When Kafka doesn't take them.
pub(crate) fn fill(brokers: &str, topic: &str, events: &[Event], failures: &Arc<Failures>) -> anyhow::Result<()> {
    let context = DeliveryContext { latencies: None, failures: failures.clone() };
    let producer: BaselineProducer = producer_config(brokers).create_with_context(context)?;
    for event in events {
        produce(&producer, topic, 0, event)?;
    }
    Ok(producer.flush(TIMEOUT)?)
}

/// The latencies of Kafka alone.
#[derive(Default)]
pub(crate) struct KafkaLatencies {
    pub(crate) acknowledged: Latencies,
    pub(crate) consumed: Latencies,
}

impl KafkaLatencies {
    /// Adds another slice of the same measurement.
    pub(crate) fn add(&mut self, other: &Self) {
        self.acknowledged.add(&other.acknowledged);
        self.consumed.add(&other.consumed);
    }
}

/// Produces on schedule and consumes at the same time.
///
/// # Errors
/// When Kafka doesn't answer.
pub(crate) async fn measure(
    brokers: &str,
    topic: &str,
    population: Population,
    schedule: Schedule,
    failures: &Arc<Failures>,
) -> anyhow::Result<KafkaLatencies> {
    let numbers = schedule.numbers();
    let count = numbers.end - numbers.start;
    let acknowledged = Arc::new(LatencyRecorder::new(schedule.clone()));
    let consumed = Arc::new(LatencyRecorder::new(schedule.clone()));
    let context = DeliveryContext { latencies: Some(acknowledged.clone()), failures: failures.clone() };
    let producer: BaselineProducer = producer_config(brokers).create_with_context(context)?;
    let consumer: BaseConsumer =
        consumer_with(brokers, topic, &[("fetch.min.bytes", "1"), ("fetch.wait.max.ms", "100")])?;
    let consuming = tokio::task::spawn_blocking({
        let consumed = consumed.clone();
        move || consume(&consumer, count, &consumed)
    });
    let producing = tokio::task::spawn_blocking({
        let (topic, failures, events) = (topic.to_owned(), failures.clone(), Events::new(population));
        let progress = Progress::new("Kafka alone", count)?;
        move || {
            schedule.run(|number| {
                let queued = events
                    .message_sent(number)
                    .and_then(|event| Ok(produce(&producer, &topic, usize::try_from(number)?, &event)?));
                if let Err(error) = queued {
                    failures.add(format!("Kafka alone: {error}"), 1);
                }
                progress.update(number - numbers.start);
            });
            producer.flush(TIMEOUT)
        }
    });
    producing.await??;
    consuming.await?.context("Kafka alone")?;
    failures.add("Kafka alone: records that were never consumed", count.saturating_sub(consumed.recorded()));
    Ok(KafkaLatencies { acknowledged: acknowledged.take(), consumed: consumed.take() })
}

/// Consumes until it has `count` records, or no record arrives for [`ARRIVAL_TIMEOUT`].
fn consume(consumer: &BaseConsumer, count: u64, consumed: &LatencyRecorder) -> Result<(), KafkaError> {
    let mut last_arrival = Instant::now();
    while consumed.recorded() < count && last_arrival.elapsed() < ARRIVAL_TIMEOUT {
        if let Some(message) = consumer.poll(POLL_TIMEOUT) {
            last_arrival = Instant::now();
            if let Some(number) = number_in(message?.payload().unwrap_or_default()) {
                consumed.record(number);
            }
        }
    }
    Ok(())
}

/// Deletes the topics that a measurement has created.
///
/// # Errors
/// When Kafka keeps one.
pub(crate) async fn delete_topics(brokers: &str, topics: &[&str]) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = config(brokers).create()?;
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    for deleted in admin.delete_topics(topics, &options).await? {
        deleted.map_err(|(topic, code)| anyhow::anyhow!("can't delete the topic {topic}: {code}"))?;
    }
    Ok(())
}
