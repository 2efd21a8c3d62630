//! Measures Kafka alone, as the baseline of the latencies: librdkafka's acknowledgement, and produce to consume.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use domain::{Event, envelope};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::report::{Failures, Latencies, LatencyRecorder, Progress};
use crate::schedule::{ARRIVAL_TIMEOUT, Schedule};
use crate::workload::{Events, Population, number_in};

/// The number of partitions of each topic: the default of Messages.
pub(crate) const PARTITIONS: i32 = 12;
/// How long a flush or an admin operation may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long the consumer waits for a record before it checks whether to go on.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
/// A constant header, as long as those that Messages writes.
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The settings that the clients of the event log have, too.
fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("socket.nagle.disable", "true");
    config
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
            (Err((error, _)), _) => self.failures.add(format!("raw: {error}"), 1),
        }
    }
}

type BaselineProducer = ThreadedProducer<DeliveryContext>;

fn producer(brokers: &str, context: DeliveryContext) -> Result<BaselineProducer, KafkaError> {
    config(brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        .set("compression.type", "lz4")
        .set("partitioner", "murmur2_random")
        .create_with_context(context)
}

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
pub(crate) fn fill(brokers: &str, topic: &str, events: &[Event], failures: &Arc<Failures>) -> anyhow::Result<()> {
    let producer = producer(brokers, DeliveryContext { latencies: None, failures: failures.clone() })?;
    for event in events {
        produce(&producer, topic, 0, event)?;
    }
    Ok(producer.flush(TIMEOUT)?)
}

/// Produces on schedule and consumes at the same time.
pub(crate) async fn measure(
    brokers: &str,
    topic: &str,
    population: Population,
    schedule: Schedule,
    failures: &Arc<Failures>,
) -> anyhow::Result<Latencies> {
    let responses = Arc::new(LatencyRecorder::new(schedule));
    let frames = Arc::new(LatencyRecorder::new(schedule));
    let context = DeliveryContext { latencies: Some(responses.clone()), failures: failures.clone() };
    let producer = producer(brokers, context)?;
    let consumer = consumer(brokers, topic)?;
    let consuming = tokio::task::spawn_blocking({
        let frames = frames.clone();
        move || consume(&consumer, schedule.count(), &frames)
    });
    let producing = tokio::task::spawn_blocking({
        let (topic, failures, events) = (topic.to_owned(), failures.clone(), Events::new(population));
        let progress = Progress::new("Kafka alone", schedule.count())?;
        move || {
            schedule.run(|number| {
                let queued = events
                    .message_sent(number)
                    .and_then(|event| Ok(produce(&producer, &topic, usize::try_from(number)?, &event)?));
                if let Err(error) = queued {
                    failures.add(format!("raw: {error}"), 1);
                }
                progress.update(number);
            });
            producer.flush(TIMEOUT)
        }
    });
    producing.await??;
    consuming.await?.context("raw: Kafka")?;
    failures.add("raw: records that were never consumed", schedule.count() - frames.recorded());
    Ok(Latencies { responses: responses.take(), frames: frames.take() })
}

fn consumer(brokers: &str, topic: &str) -> Result<BaseConsumer, KafkaError> {
    let consumer: BaseConsumer = config(brokers)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("fetch.min.bytes", "1")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

/// Consumes until it has `count` records, or no record arrives for [`ARRIVAL_TIMEOUT`].
fn consume(consumer: &BaseConsumer, count: u64, frames: &LatencyRecorder) -> Result<(), KafkaError> {
    let mut last_arrival = Instant::now();
    while frames.recorded() < count && last_arrival.elapsed() < ARRIVAL_TIMEOUT {
        if let Some(message) = consumer.poll(POLL_TIMEOUT) {
            last_arrival = Instant::now();
            if let Some(number) = number_in(message?.payload().unwrap_or_default()) {
                frames.record(number);
            }
        }
    }
    Ok(())
}

/// Deletes the topics that a measurement has created.
pub(crate) async fn delete_topics(brokers: &str, topics: &[&str]) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = config(brokers).create()?;
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    for deleted in admin.delete_topics(topics, &options).await? {
        deleted.map_err(|(topic, code)| anyhow::anyhow!("can't delete the topic {topic}: {code}"))?;
    }
    Ok(())
}
