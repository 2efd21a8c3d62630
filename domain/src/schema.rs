//! JSON Schemas (draft 2020-12), generated from the types that read and write JSON. A schema refers to no other one: each
//! is complete by itself, and can stand anywhere.
//!
//! The schema of a type of events must accept every event of that type that a command has put on the log.

pub use schemars::generate::Contract;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::envelope::{self, DecodedEnvelope};

/// The JSON Schemas of the records of one type and version of events.
#[derive(Debug)]
pub struct EventSchema {
    /// The type in the envelope and in the header `ce_type`.
    pub event_type: String,
    /// The version in the envelope.
    pub version: u32,
    /// What happened, in a sentence or two.
    pub description: String,
    /// The schema of a record's value.
    pub value: Schema,
    /// The schema of a record's headers, as an object of texts.
    pub headers: Value,
}

impl EventSchema {
    /// The type with its version, such as `MESSAGE_SENT.v1`.
    pub fn name(&self) -> String {
        format!("{}.v{}", self.event_type, self.version)
    }
}

/// The schema of what is read or written as a `T`.
pub fn complete<T: JsonSchema>(contract: Contract) -> Schema {
    let mut settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(join_lines));
    settings.inline_subschemas = true;
    settings.contract = contract;
    settings.into_generator().into_root_schema_for::<T>()
}

/// Makes one line of a description: doc comments keep their line breaks.
fn join_lines(schema: &mut Schema) {
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ");
    }
}

/// The schemas of every type and version of events.
pub fn events() -> Vec<EventSchema> {
    let mut envelope = complete::<DecodedEnvelope<'_>>(Contract::Deserialize);
    let Some(Value::Array(forms)) = envelope.remove("oneOf") else { return Vec::new() };
    forms.into_iter().map(|form| event(&envelope, form)).collect()
}

/// The schemas of the type that has this form of `data`.
fn event(envelope: &Schema, mut form: Value) -> EventSchema {
    allow_absent_data(&mut form);
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let event_type = text(form.pointer("/properties/type/const"));
    let description = text(form.get("description"));
    let note = text(envelope.get("description"));
    let mut value = envelope.clone();
    value.insert("title".to_owned(), json!(event_type));
    value.insert("description".to_owned(), json!(format!("{description} {note}")));
    if let (Some(Value::Object(fields)), Value::Object(own)) = (value.get_mut("properties"), form["properties"].take())
    {
        fields.extend(own);
    }
    if let (Some(Value::Array(required)), Value::Array(own)) = (value.get_mut("required"), form["required"].take()) {
        required.extend(own);
    }
    let headers = headers(&event_type);
    EventSchema { event_type, version: envelope::VERSION, description, value, headers }
}

/// Makes `data` optional in a form in which all its fields are optional.
fn allow_absent_data(form: &mut Value) {
    let data = &mut form["properties"]["data"];
    if data["type"] == "object" && data["required"].is_null() {
        data["type"] = json!(["object", "null"]);
        form["required"] = json!(["type"]);
    }
}

/// The schema of the headers of a type: those of [`envelope::headers`], and the trace.
fn headers(event_type: &str) -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let constant =
        |value: &str, description: &str| json!({"type": "string", "const": value, "description": description});
    let formatted =
        |format: &str, description: &str| json!({"type": "string", "format": format, "description": description});
    let always = [
        ("ce_specversion", constant("1.0", "The version of CloudEvents.")),
        ("ce_type", constant(event_type, "The event's `type`.")),
        ("ce_id", formatted("uuid", "The event's `eventId`.")),
        ("ce_time", formatted("date-time", "The event's `occurredAt`.")),
        ("ce_subject", formatted("uuid", "The event's `conversationId`.")),
        ("ce_source", constant(envelope::SOURCE, "Where the event comes from.")),
        ("content-type", constant("application/json", "The media type of the value.")),
    ];
    let required = always.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let trace = ("traceparent", text("The trace of the request (W3C Trace Context)."));
    let properties = always.iter().cloned().chain([trace]).map(|(name, schema)| (name.to_owned(), schema));
    json!({"type": "object", "required": required, "properties": Value::Object(properties.collect::<Map<_, _>>())})
}
