//! The page for people: the AsyncAPI document as plain HTML. It needs no script and nothing from elsewhere.

use serde_json::Value;

const STYLE: &str = "\
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 70rem; margin: 0 auto; padding: 1rem; }
h2, h3 { border-top: 1px solid color-mix(in srgb, currentColor 25%, transparent); padding-top: 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { text-align: start; vertical-align: top; padding: .25rem 1rem .25rem 0; }
caption { text-align: start; font-weight: bold; }
code { font: .9em ui-monospace, monospace; }";

/// The page of a document.
pub(super) fn html(document: &Value) -> String {
    let title = text(&document["info"]["title"]);
    let channels = entries(&document["channels"]).map(|(key, channel)| channel_section(document, key, channel));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}: the topic and the sockets</title>\n<link rel=\"icon\" href=\"data:,\">\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}: the topic and the sockets</h1>\n{}\n\
         <p>For programs: <a href=\"/asyncapi.json\">/asyncapi.json</a> (AsyncAPI {}). \
         The HTTP API: <a href=\"/docs/\">/docs</a>.</p>\n{}</main>\n</body>\n</html>\n",
        paragraphs(&document["info"]["description"]),
        text(&document["asyncapi"]),
        channels.collect::<String>(),
    )
}

fn channel_section(document: &Value, key: &str, channel: &Value) -> String {
    let servers = references(&channel["servers"]).map(|name| server_line(&document["servers"][name]));
    let reference = format!("#/channels/{key}");
    let operations = entries(&document["operations"]).filter(|(_, it)| it["channel"]["$ref"] == reference.as_str());
    format!(
        "<section>\n<h2>{}: <code>{}</code></h2>\n{}\n{}{}</section>\n",
        text(&channel["title"]),
        text(&channel["address"]),
        paragraphs(&channel["description"]),
        servers.collect::<String>(),
        operations.map(|(_, operation)| operation_section(document, operation)).collect::<String>(),
    )
}

fn server_line(server: &Value) -> String {
    let address = format!("{}{}", text(&server["host"]), text(&server["pathname"]));
    format!("<p>{}: <code>{address}</code>. {}</p>\n", text(&server["protocol"]), text(&server["description"]))
}

fn operation_section(document: &Value, operation: &Value) -> String {
    let message = |key: &str| &document["components"]["messages"][key];
    let messages = references(&operation["messages"]).map(|key| message_section(key, message(key)));
    let replies = references(&operation["reply"]["messages"]);
    let replies = replies.map(|key| message_section(&format!("reply.{key}"), message(key))).collect::<String>();
    let reply = if replies.is_empty() { String::new() } else { format!("<h4>The client gets</h4>\n{replies}") };
    format!(
        "<h3>{}</h3>\n<p>{}</p>\n{}{reply}",
        text(&operation["title"]),
        text(&operation["summary"]),
        messages.collect::<String>(),
    )
}

fn message_section(id: &str, message: &Value) -> String {
    let id = escape(id);
    let heading = format!("<h4 id=\"{id}\"><a href=\"#{id}\"><code>{}</code></a></h4>", text(&message["name"]));
    let tables = [("payload", "Payload"), ("headers", "Headers")].map(|(part, title)| table(title, &message[part]));
    format!("<article>\n{heading}\n<p>{}</p>\n{}</article>\n", text(&message["summary"]), tables.concat())
}

/// The fields of a schema, one a row; nothing for a schema that isn't there.
fn table(title: &str, schema: &Value) -> String {
    if schema.is_null() {
        return String::new();
    }
    let mut rows = String::new();
    add_rows(&mut rows, "", schema);
    format!(
        "<table>\n<caption>{title}: {}</caption>\n<thead><tr><th>Field</th><th>Type</th><th>Required</th><th>Meaning</th></tr>\
         </thead>\n<tbody>\n{rows}</tbody>\n</table>\n",
        escape(&type_name(schema)),
    )
}

/// Adds a row for each field of a schema's objects, and for the fields within them.
fn add_rows(rows: &mut String, path: &str, schema: &Value) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in entries(&schema["properties"]) {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let is_required = if required.contains(&name.as_str()) { "yes" } else { "no" };
        rows.push_str(&format!(
            "<tr><td><code>{}</code></td><td>{}</td><td>{is_required}</td><td>{}</td></tr>\n",
            escape(&path),
            escape(&type_name(field)),
            text(&field["description"]),
        ));
        add_rows(rows, &path, field);
    }
    if let Some(items) = schema.get("items") {
        add_rows(rows, &format!("{path}[]"), items);
    }
    for variant in variants(schema) {
        add_rows(rows, path, variant);
    }
}

fn variants(schema: &Value) -> impl Iterator<Item = &Value> {
    ["anyOf", "oneOf"].into_iter().filter_map(|keyword| schema[keyword].as_array()).flatten()
}

/// The type of a value in words, such as `array of string (uuid)`.
fn type_name(schema: &Value) -> String {
    if !schema["const"].is_null() {
        return schema["const"].to_string();
    }
    let of_variants: Vec<String> = variants(schema).map(type_name).collect();
    if !of_variants.is_empty() {
        return of_variants.join(" or ");
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join(" or ");
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => vec![one.as_str().unwrap_or("any")],
    };
    let named = types.into_iter().map(|name| match (name, &schema["format"]) {
        ("array", _) => format!("array of {}", type_name(&schema["items"])),
        ("string", Value::String(format)) => format!("string ({format})"),
        _ => name.to_owned(),
    });
    named.collect::<Vec<_>>().join(" or ")
}

fn entries(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

/// The last parts of the references in a list.
fn references(list: &Value) -> impl Iterator<Item = &str> {
    let references = list.as_array().into_iter().flatten().filter_map(|it| it["$ref"].as_str());
    references.filter_map(|reference| reference.rsplit('/').next())
}

/// A text with its empty lines as ends of paragraphs.
fn paragraphs(value: &Value) -> String {
    let parts = value.as_str().unwrap_or_default().split("\n\n");
    parts.map(|part| format!("<p>{}</p>", marked_up(part))).collect::<Vec<_>>().join("\n")
}

/// A text as HTML.
fn text(value: &Value) -> String {
    marked_up(value.as_str().unwrap_or_default())
}

/// HTML in which what stands between backquotes is code.
fn marked_up(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts
        .map(|(index, part)| if index % 2 == 0 { escape(part) } else { format!("<code>{}</code>", escape(part)) })
        .collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_is_no_markup_except_for_code() {
        assert_eq!(marked_up("a < `b & \"c\"`"), "a &lt; <code>b &amp; &quot;c&quot;</code>");
        assert_eq!(paragraphs(&json!("a\n\nb")), "<p>a</p>\n<p>b</p>");
    }

    #[test]
    fn a_type_is_named_in_words() {
        for (schema, name) in [
            (json!({"type": ["string", "null"], "format": "uuid"}), "string (uuid) or null"),
            (json!({"type": "array", "items": {"type": "integer"}}), "array of integer"),
            (
                json!({"anyOf": [{"oneOf": [{"const": "A"}, {"const": "B"}]}, {"type": "null"}]}),
                "\"A\" or \"B\" or null",
            ),
            (json!({"enum": ["a", "b"]}), "\"a\" or \"b\""),
        ] {
            assert_eq!(type_name(&schema), name, "{schema}");
        }
    }

    #[test]
    fn every_field_has_a_row_also_those_within_others() {
        let mut rows = String::new();
        let part = json!({"type": "object", "required": ["b"], "properties": {"b": {"type": "string"}}});
        add_rows(&mut rows, "", &json!({"anyOf": [{"properties": {"a": {"type": "array", "items": part}}}]}));
        assert!(rows.contains("<code>a</code></td><td>array of object</td><td>no</td>"), "{rows}");
        assert!(rows.contains("<code>a[].b</code></td><td>string</td><td>yes</td>"), "{rows}");
    }
}
