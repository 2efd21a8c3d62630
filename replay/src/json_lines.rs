//! Records as JSON lines: each record's own value, behind its place in the log.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::{Timestamp, envelope};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::replayed_record::{ContentChoice, ReplayedRecord};

/// The fields of `data` that have content.
const CONTENT_FIELDS: [&str; 4] = ["content", "attachments", "title", "label"];

/// A record that is no event.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UndecodableLine<'a> {
    partition: i32,
    offset: i64,
    logged_at: Option<Timestamp>,
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The value, if it is a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    /// The value in Base64, if it isn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

/// Writes a record as a line.
pub(crate) fn write(record: &ReplayedRecord, content: ContentChoice, out: &mut impl Write) -> io::Result<()> {
    let ReplayedRecord { position, logged_at, .. } = record;
    match &record.event {
        Err(reason) => write_undecodable(record, content.reason(reason), content, out)?,
        Ok(event) => {
            let place = format!(r#"{{"partition":{},"offset":{}"#, position.partition, position.offset);
            out.write_all(place.as_bytes())?;
            match logged_at {
                Some(time) => write!(out, r#","loggedAt":"{time}","#)?,
                None => out.write_all(br#","loggedAt":null,"#)?,
            }
            match content {
                ContentChoice::Kept => write_fields(&record.value, out)?,
                ContentChoice::LeftOut => write_fields(&without_content(&envelope::encode(event))?, out)?,
            }
        }
    }
    out.write_all(b"\n")
}

/// Writes what follows the first brace of a JSON object.
fn write_fields(object: &[u8], out: &mut impl Write) -> io::Result<()> {
    let fields = object.trim_ascii().get(1..).unwrap_or_default();
    // In JSON, a line break can only be white space. Other programs may have written some.
    match std::str::from_utf8(fields) {
        Ok(text) if !text.contains(['\n', '\r']) => out.write_all(fields),
        _ => out.write_all(String::from_utf8_lossy(fields).replace(['\n', '\r'], " ").as_bytes()),
    }
}

/// The fields of an event that this version knows, without its content.
fn without_content(value: &[u8]) -> io::Result<Vec<u8>> {
    let mut event: Map<String, Value> = serde_json::from_slice(value)?;
    event.remove("requestHash");
    if let Some(data) = event.get_mut("data").and_then(Value::as_object_mut) {
        data.retain(|name, _| !CONTENT_FIELDS.contains(&name.as_str()));
    }
    Ok(serde_json::to_vec(&event)?)
}

fn write_undecodable(
    record: &ReplayedRecord,
    error: &str,
    content: ContentChoice,
    out: &mut impl Write,
) -> io::Result<()> {
    let value = (content == ContentChoice::Kept).then_some(&record.value);
    let text = value.and_then(|value| std::str::from_utf8(value).ok());
    let line = UndecodableLine {
        partition: record.position.partition,
        offset: record.position.offset,
        logged_at: record.logged_at,
        error,
        key: (content == ContentChoice::Kept).then(|| String::from_utf8_lossy(&record.key).into_owned()),
        value: text,
        value_base64: value.filter(|_| text.is_none()).map(|value| STANDARD.encode(value)),
    };
    Ok(serde_json::to_writer(out, &line)?)
}
