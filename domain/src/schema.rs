//! The JSON Schema of events on the log, generated from the types that decode them. It must accept every event that a
//! command has put on the log.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::envelope::DecodedEnvelope;

/// The JSON Schema (draft 2020-12) of a record's value: the envelope, with a form of `data` for each `type`.
pub fn event() -> Schema {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<DecodedEnvelope<'_>>();
    if let Some(Value::Array(forms)) = schema.get_mut("oneOf") {
        forms.iter_mut().for_each(allow_absent_data);
    }
    schema
}

/// Makes `data` optional in a form in which all its fields are optional.
fn allow_absent_data(form: &mut Value) {
    let data = &mut form["properties"]["data"];
    if data["type"] == "object" && data["required"].is_null() {
        data["type"] = json!(["object", "null"]);
        form["required"] = json!(["type"]);
    }
}
