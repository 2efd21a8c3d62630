//! A part of the AsyncAPI document: a channel with its operations and messages.

use serde_json::{Map, Value, json};

/// What the document says about one channel.
pub(super) struct ChannelPart {
    /// The channel's key in the document.
    pub(super) key: &'static str,
    pub(super) channel: Value,
    /// What the server sends and receives on the channel, by key.
    pub(super) operations: Vec<(&'static str, Value)>,
    /// The channel's messages, by key.
    pub(super) messages: Map<String, Value>,
}

/// References to messages of a channel, which has them by these keys.
pub(super) fn message_references(channel: &str, keys: impl IntoIterator<Item = String>) -> Vec<Value> {
    keys.into_iter().map(|key| json!({"$ref": format!("#/channels/{channel}/messages/{key}")})).collect()
}

/// A schema as a part of the document: only a file of its own has `$schema`. The schemas use nothing that the draft of
/// AsyncAPI's own schemas (draft-07) doesn't have.
pub(super) fn embedded(schema: impl Into<Value>) -> Value {
    let mut schema = schema.into();
    if let Some(keywords) = schema.as_object_mut() {
        keywords.remove("$schema");
    }
    schema
}
