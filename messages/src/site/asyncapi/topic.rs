//! The topic of events: its messages are records.

use domain::ConversationId;
use domain::schema::{self, EventSchema};
use event_log::REQUIRED_SETTINGS;
use serde_json::{Map, Value, json};
use service::config::{DEFAULT_PARTITIONS, DEFAULT_TOPIC};

use super::channel_part::{ChannelPart, embedded, message_references};

/// The channel's key in the document.
const KEY: &str = "topic";
/// The version of the Kafka bindings for AsyncAPI that the document uses.
const BINDING_VERSION: &str = "0.5.0";

const DESCRIPTION: &str = "\
The system of record. It keeps its records permanently, and the number of its partitions never changes. A record's key \
is the id of its conversation, so the events of a conversation are in order. The name and the number of partitions are \
the defaults: an operator may choose others, and may put typing events on a topic of their own.

A record that repeats an `eventId` is a copy, and the first counts. A record that is no event has no effect.";

/// The brokers of the topic.
pub(super) fn server() -> Value {
    json!({
        "host": "{brokers}",
        "protocol": "kafka",
        "description": "The brokers of the topic, for those who may read it.",
        "variables": {"brokers": {"default": "127.0.0.1:9092", "description": "The operator's `KAFKA_BROKERS`."}},
    })
}

/// What the document says about the topic.
pub(super) fn part() -> ChannelPart {
    let events = schema::events();
    let keys = events.iter().map(EventSchema::name);
    let channel = json!({
        "address": DEFAULT_TOPIC,
        "title": "The topic",
        "description": DESCRIPTION,
        "servers": [{"$ref": "#/servers/kafka"}],
        "bindings": {"kafka": {
            "topic": DEFAULT_TOPIC,
            "partitions": DEFAULT_PARTITIONS,
            "topicConfiguration": topic_configuration(),
            "bindingVersion": BINDING_VERSION,
        }},
    });
    let append = json!({
        "action": "send",
        "channel": {"$ref": format!("#/channels/{KEY}")},
        "title": "Events",
        "summary": "The command API appends an event before it answers a command.",
        "messages": message_references(KEY, keys),
    });
    let messages = events.into_iter().map(|event| (event.name(), message(event))).collect();
    ChannelPart { key: KEY, channel, operations: vec![("appendEvents", append)], messages }
}

/// The settings of the topic in the form of the Kafka binding: numbers are numbers, and policies a list.
fn topic_configuration() -> Map<String, Value> {
    let value = |name: &str, value: &str| match (name, value.parse::<i64>()) {
        ("cleanup.policy", _) => json!([value]),
        (_, Ok(number)) => json!(number),
        (_, Err(_)) => json!(value),
    };
    REQUIRED_SETTINGS.iter().map(|(name, wanted)| ((*name).to_owned(), value(name, wanted))).collect()
}

fn message(event: EventSchema) -> Value {
    let key = schema::complete::<ConversationId>(schema::Contract::Serialize);
    json!({
        "name": event.event_type,
        "title": event.name(),
        "summary": event.description,
        "headers": event.headers,
        "payload": embedded(event.value),
        "bindings": {"kafka": {"key": embedded(key), "bindingVersion": BINDING_VERSION}},
    })
}
