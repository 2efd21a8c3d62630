//! The topic as an analyst reads it: with a plain Kafka client that knows nothing of the product's code.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{Event, envelope};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, Timestamp};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};
use service::config::Config;
use uuid::Uuid;

/// How long Kafka may take for one answer.
const KAFKA_TIMEOUT: Duration = Duration::from_secs(10);

/// A record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) timestamp_ms: i64,
    /// Whether that is the log's own time, and not its writer's.
    pub(crate) log_append_time: bool,
    pub(crate) bytes: Vec<u8>,
    /// The value as JSON; null where it is none.
    pub(crate) value: Value,
}

impl Record {
    /// Its position as the API writes it.
    pub(crate) fn position(&self) -> String {
        format!("{}:{}", self.partition, self.offset)
    }

    /// Asserts that this is an event as the contract has it, whole: key, headers, time of the log, and a value with
    /// nothing in it but the envelope and what is `expected` (`type`, `actorId`, `data`, perhaps `idempotencyKey`).
    #[track_caller]
    pub(crate) fn assert_event(&self, conversation: &str, expected: Value) {
        let text = |field: &str| self.value[field].as_str().unwrap_or_else(|| panic!("no {field}: {self:?}"));
        let (event_id, occurred_at) = (text("eventId"), text("occurredAt"));
        assert_eq!(event_id.parse::<Uuid>().unwrap().to_string(), event_id);
        let mut whole = expected;
        whole["eventId"] = json!(event_id);
        whole["version"] = json!(1);
        whole["occurredAt"] = json!(occurred_at);
        whole["conversationId"] = json!(conversation);
        if !whole["idempotencyKey"].is_null() {
            whole["requestHash"] = json!(text("requestHash"));
            assert_eq!(text("requestHash").len(), 64);
        } else if let Some(fields) = whole.as_object_mut() {
            fields.remove("idempotencyKey");
        }
        assert_eq!(self.value, whole);
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
        let taken = self.timestamp_ms - occurred_at.as_millis();
        // Clocks of one machine, read by two programs.
        assert!((-1_000..60_000).contains(&taken), "{taken} ms from the event to the log");
    }
}

/// Everything on a topic up to its end as it is now, partition by partition.
pub(crate) async fn records(brokers: &str, topic: &str) -> Vec<Record> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || read(&brokers, &topic)).await.unwrap()
}

fn read(brokers: &str, topic: &str) -> Vec<Record> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "an-analyst")
        .set("enable.auto.commit", "false")
        // Otherwise the first answer may be that of a partition on which nothing comes, half a second late.
        .set("fetch.wait.max.ms", "5")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), KAFKA_TIMEOUT).unwrap();
    let mut left = 0;
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), KAFKA_TIMEOUT).unwrap();
        left += high - low;
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut records = Vec::new();
    while left > 0 {
        let message = consumer.poll(KAFKA_TIMEOUT).expect("Kafka gave nothing").unwrap();
        records.push(record(&message));
        left -= 1;
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

fn record(message: &rdkafka::message::BorrowedMessage<'_>) -> Record {
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

/// A record to append directly, as no command would.
pub(crate) struct NewRecord {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    /// The header `ce_type`; none for a record without headers.
    pub(crate) event_type: Option<&'static str>,
    /// The record's own time, where the topic lets it have one.
    pub(crate) timestamp_ms: Option<i64>,
}

impl NewRecord {
    /// An event as the product writes it.
    pub(crate) fn event(event: &Event) -> Self {
        Self {
            key: event.conversation_id.to_string(),
            value: envelope::encode(event),
            event_type: Some(event.data.type_name()),
            timestamp_ms: None,
        }
    }
}

/// Appends records to the topic, each in the partition of its key, past everything that commands check; their
/// positions.
pub(crate) async fn append(config: &Config, records: &[NewRecord]) -> Vec<String> {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &config.kafka_brokers)
        .set("partitioner", "murmur2_random")
        // Many are under way at once, and stay in order.
        .set("enable.idempotence", "true")
        .create()
        .unwrap();
    let mut under_way = Vec::new();
    for record in records {
        let mut sending = FutureRecord::to(&config.kafka_topic).key(&record.key).payload(&record.value);
        if let Some(event_type) = record.event_type {
            sending = sending.headers(OwnedHeaders::new().insert(Header { key: "ce_type", value: Some(event_type) }));
        }
        if let Some(timestamp) = record.timestamp_ms {
            sending = sending.timestamp(timestamp);
        }
        under_way.push(producer.send_result(sending).map_err(|(error, _)| error).unwrap());
    }
    let mut positions = Vec::new();
    for delivery in under_way {
        let sent = delivery.await.unwrap().map_err(|(error, _)| error).unwrap();
        positions.push(format!("{}:{}", sent.partition, sent.offset));
    }
    positions
}
