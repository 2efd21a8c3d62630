//! The topic, read and written with a plain Kafka client that uses none of the product's code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::{Event, envelope};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders, Timestamp};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};
use service::config::Config;
use uuid::Uuid;

/// How long Kafka may take for one response.
const KAFKA_TIMEOUT: Duration = Duration::from_secs(10);

/// A record on the topic.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) timestamp_ms: i64,
    /// Whether the broker set the timestamp (`LogAppendTime`), and not the producer.
    pub(crate) log_append_time: bool,
    pub(crate) bytes: Vec<u8>,
    /// The value as JSON, or null when it isn't JSON.
    pub(crate) value: Value,
}

impl Record {
    /// The record's position in the API's form, such as `0:42`.
    pub(crate) fn position(&self) -> String {
        format!("{}:{}", self.partition, self.offset)
    }

    /// Asserts that the record is exactly the event that the contract defines: its key, headers and broker timestamp,
    /// and a value that has only the envelope and the `expected` fields (`type`, `actorId`, `data`, maybe
    /// `idempotencyKey`).
    #[track_caller]
    pub(crate) fn assert_event(&self, conversation: &str, expected: Value) {
        let text = |field: &str| self.value[field].as_str().unwrap_or_else(|| panic!("no {field}: {self:?}"));
        let (event_id, occurred_at) = (text("eventId"), text("occurredAt"));
        assert_eq!(event_id.parse::<Uuid>().unwrap().to_string(), event_id);
        let mut value = expected;
        value["eventId"] = json!(event_id);
        value["version"] = json!(1);
        value["occurredAt"] = json!(occurred_at);
        value["conversationId"] = json!(conversation);
        if !value["idempotencyKey"].is_null() {
            value["requestHash"] = json!(text("requestHash"));
            assert_eq!(text("requestHash").len(), 64);
        } else if let Some(fields) = value.as_object_mut() {
            fields.remove("idempotencyKey");
        }
        assert_eq!(self.value, value);
        assert_eq!(self.key, conversation);
        let mut headers = self.headers.clone();
        let traceparent = headers.remove("traceparent").unwrap_or_default();
        let parts: Vec<usize> = traceparent.split('-').map(str::len).collect();
        assert_eq!(parts, [2, 32, 16, 2], "{traceparent}");
        let expected = [
            ("ce_id", event_id),
            ("ce_source", "/messages"),
            ("ce_specversion", "1.0"),
            ("ce_subject", conversation),
            ("ce_time", occurred_at),
            ("ce_type", text("type")),
            ("content-type", "application/json"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(headers, BTreeMap::from(expected));
        assert!(self.log_append_time, "{self:?}");
        let occurred_at: domain::Timestamp = occurred_at.parse().unwrap();
        let delay_ms = self.timestamp_ms - occurred_at.as_millis();
        // The product and Kafka read the clock of the same machine, but may round it differently.
        assert!((-1_000..60_000).contains(&delay_ms), "{delay_ms} ms from the event to the log");
    }
}

/// Reads every record of a topic up to its present end, partition by partition.
pub(crate) async fn records(brokers: &str, topic: &str) -> Vec<Record> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || {
        let mut records = Vec::new();
        read(&brokers, &topic, |message| records.push(record(message)));
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    })
    .await
    .unwrap()
}

/// Reads every record of a topic up to its present end, one after the other, and keeps none. Blocks the thread. Of a
/// partition, records come in the order of the log.
pub(crate) fn read(brokers: &str, topic: &str, mut consume: impl FnMut(&BorrowedMessage<'_>)) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "an-analyst")
        .set("enable.auto.commit", "false")
        // By default Kafka holds the fetch of an empty partition back for half a second.
        .set("fetch.wait.max.ms", "5")
        // Offsets have gaps where transactions ended: the number of records doesn't tell the end.
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), KAFKA_TIMEOUT).unwrap();
    let mut unfinished = BTreeSet::new();
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        unfinished.insert(partition.id());
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    while !unfinished.is_empty() {
        match consumer.poll(KAFKA_TIMEOUT).expect("Kafka returned no record in time") {
            Ok(message) => consume(&message),
            Err(KafkaError::PartitionEOF(partition)) => drop(unfinished.remove(&partition)),
            Err(error) => panic!("{error}"),
        }
    }
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let mut headers = BTreeMap::new();
    for header in message.headers().into_iter().flat_map(Headers::iter) {
        let value = String::from_utf8(header.value.unwrap_or_default().to_vec()).unwrap();
        headers.insert(header.key.to_owned(), value);
    }
    let bytes = message.payload().unwrap_or_default().to_vec();
    Record {
        partition: message.partition(),
        offset: message.offset(),
        key: String::from_utf8(message.key().unwrap_or_default().to_vec()).unwrap(),
        headers,
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
        log_append_time: matches!(message.timestamp(), Timestamp::LogAppendTime(_)),
        value: serde_json::from_slice(&bytes).unwrap_or_default(),
        bytes,
    }
}

/// A record to append past the command API, for example one that no command would produce.
#[derive(Clone)]
pub(crate) struct NewRecord {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    /// The header `ce_type`. `None` appends a record without headers.
    pub(crate) event_type: Option<&'static str>,
    /// The producer's timestamp. The topic keeps it only when its timestamp type is `CreateTime`.
    pub(crate) timestamp_ms: Option<i64>,
}

impl NewRecord {
    /// An event in the form that the product appends.
    pub(crate) fn event(event: &Event) -> Self {
        Self {
            key: event.conversation_id.to_string(),
            value: envelope::encode(event),
            event_type: Some(event.data.type_name()),
            timestamp_ms: None,
        }
    }
}

/// Appends records to the topic, each to the partition of its key, without the checks of the command API. Returns their
/// positions.
pub(crate) async fn append(config: &Config, records: &[NewRecord]) -> Vec<String> {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &config.kafka_brokers)
        .set("partitioner", "murmur2_random")
        // The producer sends many records at once and still keeps their order.
        .set("enable.idempotence", "true")
        .create()
        .unwrap();
    let mut deliveries = Vec::new();
    for record in records {
        let mut outgoing = FutureRecord::to(&config.kafka_topic).key(&record.key).payload(&record.value);
        if let Some(event_type) = record.event_type {
            outgoing = outgoing.headers(OwnedHeaders::new().insert(Header { key: "ce_type", value: Some(event_type) }));
        }
        if let Some(timestamp) = record.timestamp_ms {
            outgoing = outgoing.timestamp(timestamp);
        }
        deliveries.push(producer.send_result(outgoing).map_err(|(error, _)| error).unwrap());
    }
    let mut positions = Vec::new();
    for delivery in deliveries {
        let sent = delivery.await.unwrap().map_err(|(error, _)| error).unwrap();
        positions.push(format!("{}:{}", sent.partition, sent.offset));
    }
    positions
}
