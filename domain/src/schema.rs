//! JSON Schema of what stands on the log, made from the types that read it.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::envelope::DecodedEnvelope;

/// JSON Schema (draft 2020-12) of a record's value: the envelope, with `data` by `type`. It accepts whatever commands
/// have put on the log in this version.
pub fn event() -> Schema {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<DecodedEnvelope>();
    if let Some(Value::Array(types)) = schema.get_mut("oneOf") {
        types.iter_mut().for_each(allow_no_data);
    }
    schema
}

/// Where every field of `data` may be absent, `data` itself may be.
fn allow_no_data(of_type: &mut Value) {
    let data = &mut of_type["properties"]["data"];
    if data["type"] == "object" && data["required"].is_null() {
        data["type"] = json!(["object", "null"]);
        of_type["required"] = json!(["type"]);
    }
}
