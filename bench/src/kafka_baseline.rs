//! Kafka with nothing around it: librdkafka's acknowledgement, and produce to consume.

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

use crate::events::{Events, Shape, number_in};
use crate::pace::Pace;
use crate::report::{Faults, Latencies, Measured, Progress};
use crate::{PARTITIONS, load};

/// How long a flush or an order to the cluster may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often the consumer looks whether it waits in vain.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// As the event log's own clients are set up.
fn config(kafka: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka).set("socket.nagle.disable", "true");
    config
}

/// Notes when records are acknowledged.
struct Acknowledgements {
    latencies: Option<Arc<Latencies>>,
    faults: Arc<Faults>,
}

impl ClientContext for Acknowledgements {}

impl ProducerContext for Acknowledgements {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match (result, &self.latencies) {
            (Ok(_), Some(latencies)) => latencies.note(number as u64),
            (Ok(_), None) => {}
            (Err((error, _)), _) => self.faults.add(format!("raw: {error}"), 1),
        }
    }
}

type RawProducer = ThreadedProducer<Acknowledgements>;

fn producer(kafka: &str, acknowledgements: Acknowledgements) -> Result<RawProducer, KafkaError> {
    config(kafka)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        .set("compression.type", "lz4")
        .set("partitioner", "murmur2_random")
        .create_with_context(acknowledgements)
}

/// Queues an event as a record like those of the event log; waits while the queue is full.
fn produce(producer: &RawProducer, topic: &str, number: usize, event: &Event) -> Result<(), KafkaError> {
    let mut headers = OwnedHeaders::new();
    for (key, value) in &envelope::headers(event) {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    headers = headers.insert(Header { key: "traceparent", value: Some(traceparent) });
    let (key, value) = (event.conversation_id.to_string(), envelope::encode(event));
    let mut record = BaseRecord::with_opaque_to(topic, number).key(&key).payload(&value).headers(headers);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// Puts events on a topic, as fast as it goes.
pub(crate) fn fill(kafka: &str, topic: &str, events: &[Event], faults: &Arc<Faults>) -> anyhow::Result<()> {
    let producer = producer(kafka, Acknowledgements { latencies: None, faults: faults.clone() })?;
    for event in events {
        produce(&producer, topic, 0, event)?;
    }
    Ok(producer.flush(TIMEOUT)?)
}

/// Produces at a pace, and consumes at the same time.
pub(crate) async fn measure(
    kafka: &str,
    topic: &str,
    shape: Shape,
    pace: Pace,
    faults: &Arc<Faults>,
) -> anyhow::Result<Measured> {
    let (answers, frames) = (Arc::new(Latencies::new(pace)), Arc::new(Latencies::new(pace)));
    let acknowledgements = Acknowledgements { latencies: Some(answers.clone()), faults: faults.clone() };
    let producer = producer(kafka, acknowledgements)?;
    let consumer = consumer(kafka, topic)?;
    let consuming = tokio::task::spawn_blocking({
        let frames = frames.clone();
        move || consume(&consumer, pace.count(), &frames)
    });
    let producing = tokio::task::spawn_blocking({
        let (topic, faults, events) = (topic.to_owned(), faults.clone(), Events::new(shape));
        let progress = Progress::new("Kafka alone", pace.count())?;
        move || {
            pace.run(|number| {
                let queued = events
                    .sent(number)
                    .and_then(|event| Ok(produce(&producer, &topic, usize::try_from(number)?, &event)?));
                if let Err(error) = queued {
                    faults.add(format!("raw: {error}"), 1);
                }
                progress.show(number);
            });
            producer.flush(TIMEOUT)
        }
    });
    producing.await??;
    consuming.await?.context("raw: Kafka")?;
    faults.add("raw: records that were never consumed", pace.count() - frames.seen());
    Ok(Measured { answers: answers.take(), frames: frames.take() })
}

fn consumer(kafka: &str, topic: &str) -> Result<BaseConsumer, KafkaError> {
    let consumer: BaseConsumer = config(kafka)
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

/// Consumes so many records, until none comes any more.
fn consume(consumer: &BaseConsumer, count: u64, frames: &Latencies) -> Result<(), KafkaError> {
    let mut last = Instant::now();
    while frames.seen() < count && last.elapsed() < load::GRACE {
        if let Some(message) = consumer.poll(LOOK_EVERY) {
            last = Instant::now();
            if let Some(number) = number_in(message?.payload().unwrap_or_default()) {
                frames.note(number);
            }
        }
    }
    Ok(())
}

/// Deletes topics.
pub(crate) async fn delete_topics(kafka: &str, topics: &[&str]) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = config(kafka).create()?;
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    for deleted in admin.delete_topics(topics, &options).await? {
        deleted.map_err(|(topic, code)| anyhow::anyhow!("the topic {topic} can't be deleted: {code}"))?;
    }
    Ok(())
}
