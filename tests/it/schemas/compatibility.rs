//! What may not change in a published schema: a pure comparison of a released schema with the current one.
//!
//! One rule holds for all: those on the log, which every later version reads, and those of sockets, over which processes
//! and clients of two releases talk to each other. An optional field may come, and so may a type of events, a message, an
//! operation or a channel: readers ignore those that they don't know. None may go. A field keeps its type and all its
//! constraints, and is required or not as before. The values of an enumeration stay: a reader can't ignore a value that
//! it doesn't know, so another value needs a new version of the type, or another field.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Keywords that don't say which values are valid. So do all that begin with `x-`.
const ANNOTATIONS: [&str; 5] = ["$schema", "title", "description", "examples", "deprecated"];

/// What breaks readers or writers of the released schema, in words.
pub(super) fn schema_changes(released: &Value, current: &Value) -> Vec<String> {
    let mut comparison = Comparison::default();
    comparison.schemas("", released, current);
    comparison.changes
}

/// What breaks clients that know the released AsyncAPI document, in words.
pub(super) fn document_changes(released: &Value, current: &Value) -> Vec<String> {
    let mut comparison = Comparison::default();
    for (map, part) in PARTS {
        comparison.named(map, &released[map], &current[map], part);
    }
    let [released, current] = [released, current].map(|document| &document["components"]["messages"]);
    comparison.named("messages", released, current, Comparison::messages);
    comparison.changes
}

/// Compares a released entry of a map of the document with the current one of the same name.
type ComparePart = fn(&mut Comparison, &str, &Value, &Value);

/// The maps of the document whose entries may not go, and what of an entry may not change.
const PARTS: [(&str, ComparePart); 3] = [
    ("servers", |it, path, released, current| it.equal(path, &["protocol", "pathname"], released, current)),
    ("channels", |it, path, released, current| {
        it.equal(path, &["address", "bindings"], released, current);
        it.named(&format!("{path}.messages"), &released["messages"], &current["messages"], |it, path, one, other| {
            it.equal(path, &["$ref"], one, other);
        });
    }),
    ("operations", |it, path, released, current| {
        it.equal(path, &["action", "channel"], released, current);
        it.no_message_gone(path, &released["messages"], &current["messages"]);
        it.no_message_gone(&format!("{path}.reply"), &released["reply"]["messages"], &current["reply"]["messages"]);
    }),
];

#[derive(Default)]
struct Comparison {
    changes: Vec<String>,
}

impl Comparison {
    fn report(&mut self, path: &str, change: impl std::fmt::Display) {
        self.changes.push(format!("{}: {change}", path.trim_start_matches('.')));
    }

    /// Compares the entries of maps: further ones may come.
    fn named(&mut self, path: &str, released: &Value, current: &Value, compare: ComparePart) {
        for (name, entry) in entries(released) {
            let path = format!("{path}.{name}");
            match current.get(name) {
                Some(other) => compare(self, &path, entry, other),
                None => self.report(&path, "is gone"),
            }
        }
    }

    fn equal(&mut self, path: &str, fields: &[&str], released: &Value, current: &Value) {
        for field in fields {
            let (one, other) = (&released[field], &current[field]);
            if one != other {
                self.report(path, format!("{field} was {one} and is {other}"));
            }
        }
    }

    fn no_message_gone(&mut self, path: &str, released: &Value, current: &Value) {
        for reference in released.as_array().into_iter().flatten() {
            if !current.as_array().is_some_and(|current| current.contains(reference)) {
                self.report(path, format!("{} is gone", reference["$ref"]));
            }
        }
    }

    fn messages(&mut self, path: &str, released: &Value, current: &Value) {
        self.equal(path, &["name", "contentType"], released, current);
        let any = json!({"type": "object"});
        for part in ["/payload", "/headers", "/bindings/kafka/key"] {
            let [one, other] = [released, current].map(|message| message.pointer(part).unwrap_or(&any));
            self.schemas(&format!("{path}{}", part.replace('/', ".")), one, other);
        }
    }

    fn schemas(&mut self, path: &str, released: &Value, current: &Value) {
        let none = Map::new();
        let [one, other] = [released, current].map(|schema| schema.as_object().unwrap_or(&none));
        let keywords: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
        for keyword in keywords.into_iter().filter(|it| !ANNOTATIONS.contains(&it.as_str()) && !it.starts_with("x-")) {
            let (one, other) = (&released[keyword], &current[keyword]);
            match keyword.as_str() {
                "properties" => self.named(path, one, other, Self::schemas),
                "required" => self.required(path, one, other, released),
                "items" => self.schemas(&format!("{path}[]"), one, other),
                "anyOf" | "oneOf" => self.forms(path, one, other),
                _ => self.equal(path, &[keyword], released, current),
            }
        }
    }

    fn required(&mut self, path: &str, one: &Value, other: &Value, released: &Value) {
        let [one, other] = [one, other].map(names);
        for name in other.difference(&one) {
            let is_known = released["properties"].get(name).is_some();
            let change = if is_known { "was optional and is required" } else { "is new and required" };
            self.report(&format!("{path}.{name}"), change);
        }
        for name in one.difference(&other) {
            self.report(&format!("{path}.{name}"), "was required and is not");
        }
    }

    fn forms(&mut self, path: &str, released: &Value, current: &Value) {
        let [one, other] = [released, current].map(|forms| forms.as_array().cloned().unwrap_or_default());
        if one.len() != other.len() {
            return self.report(path, format!("had {} forms or values and has {}", one.len(), other.len()));
        }
        for (one, other) in one.iter().zip(&other) {
            self.schemas(path, one, other);
        }
    }
}

fn entries(map: &Value) -> impl Iterator<Item = (&String, &Value)> {
    map.as_object().into_iter().flatten()
}

fn names(list: &Value) -> BTreeSet<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change to what was released, and what the comparison must say about it.
    struct Case {
        change: fn(&mut Value),
        found: &'static [&'static str],
    }

    fn assert_found(released: &Value, cases: &[Case], changes: fn(&Value, &Value) -> Vec<String>) {
        assert_eq!(changes(released, released), [""; 0]);
        for (number, Case { change, found }) in cases.iter().enumerate() {
            let mut current = released.clone();
            change(&mut current);
            assert_ne!(&current, released, "case {number} changes nothing");
            assert_eq!(changes(released, &current), *found, "case {number}");
        }
    }

    const SCHEMA_CASES: &[Case] = &[
        Case { change: |it| it["properties"]["new"] = json!({"type": "string"}), found: &[] },
        Case { change: |it| it["properties"]["data"]["properties"]["new"] = json!({}), found: &[] },
        Case { change: |it| it["properties"]["list"]["items"]["properties"]["new"] = json!({}), found: &[] },
        Case { change: |it| it["properties"]["id"]["description"] = json!("said in other words"), found: &[] },
        Case { change: |it| it["properties"]["id"]["x-maxLength"] = json!(7), found: &[] },
        Case { change: |it| drop(it["properties"].as_object_mut().unwrap().remove("note")), found: &["note: is gone"] },
        Case {
            change: |it| it["properties"]["id"]["type"] = json!("integer"),
            found: &["id: type was \"string\" and is \"integer\""],
        },
        Case {
            change: |it| it["properties"]["note"]["type"] = json!(["string", "null"]),
            found: &["note: type was \"string\" and is [\"string\",\"null\"]"],
        },
        Case {
            change: |it| it["properties"]["id"]["maxLength"] = json!(7),
            found: &["id: maxLength was null and is 7"],
        },
        Case {
            change: |it| it["properties"]["id"]["format"] = Value::Null,
            found: &["id: format was \"uuid\" and is null"],
        },
        Case { change: |it| it["required"] = json!(["id", "note"]), found: &["note: was optional and is required"] },
        Case { change: |it| it["required"] = json!([]), found: &["id: was required and is not"] },
        Case {
            change: |it| {
                it["properties"]["new"] = json!({});
                it["required"] = json!(["id", "new"]);
            },
            found: &["new: is new and required"],
        },
        Case {
            change: |it| it["properties"]["data"]["required"] = json!(["size"]),
            found: &["data.size: was optional and is required"],
        },
        Case {
            change: |it| it["properties"]["list"]["items"]["properties"]["name"]["type"] = json!("integer"),
            found: &["list[].name: type was \"string\" and is \"integer\""],
        },
        Case {
            change: |it| it["properties"]["kind"]["oneOf"].as_array_mut().unwrap().push(json!({"const": "VIDEO"})),
            found: &["kind: had 2 forms or values and has 3"],
        },
        Case {
            change: |it| it["properties"]["kind"]["oneOf"][1]["const"] = json!("PHOTO"),
            found: &["kind: const was \"IMAGE\" and is \"PHOTO\""],
        },
        Case {
            change: |it| it["properties"]["status"]["enum"] = json!(["online"]),
            found: &["status: enum was [\"online\",\"offline\"] and is [\"online\"]"],
        },
        Case {
            change: |it| it["additionalProperties"] = json!(false),
            found: &[": additionalProperties was null and is false"],
        },
    ];

    #[test]
    fn only_an_optional_field_may_come_to_a_schema() {
        let released = json!({
            "type": "object",
            "properties": {
                "id": {"type": "string", "format": "uuid", "description": "An id.", "x-maxLength": 5},
                "note": {"type": "string"},
                "data": {"type": "object", "properties": {"size": {"type": "integer"}}},
                "list": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
                "kind": {"oneOf": [{"const": "TEXT"}, {"const": "IMAGE"}]},
                "status": {"enum": ["online", "offline"]},
                // The names of fields, not keywords.
                "title": {"type": "string"},
                "required": {"type": "string"},
            },
            "required": ["id"],
        });
        assert_found(&released, SCHEMA_CASES, schema_changes);
        let titled = [Case {
            change: |it| drop(it["properties"].as_object_mut().unwrap().remove("title")),
            found: &["title: is gone"],
        }];
        assert_found(&released, &titled, schema_changes);
    }

    fn remove(value: &mut Value, pointer: &str, name: &str) {
        value.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(name).unwrap();
    }

    const DOCUMENT_CASES: &[Case] = &[
        Case { change: |it| it["channels"]["new"] = json!({"address": "new"}), found: &[] },
        Case { change: |it| it["channels"]["topic"]["messages"]["NEW.v1"] = json!({}), found: &[] },
        Case { change: |it| it["components"]["messages"]["NEW.v1"] = json!({"payload": {}}), found: &[] },
        Case { change: |it| it["operations"]["new"] = json!({"action": "send"}), found: &[] },
        Case { change: |it| it["info"]["version"] = json!("7.0.0"), found: &[] },
        Case { change: |it| remove(it, "/channels", "topic"), found: &["channels.topic: is gone"] },
        Case { change: |it| remove(it, "/servers", "kafka"), found: &["servers.kafka: is gone"] },
        Case { change: |it| remove(it, "/operations", "append"), found: &["operations.append: is gone"] },
        Case {
            change: |it| remove(it, "/channels/topic/messages", "SENT.v1"),
            found: &["channels.topic.messages.SENT.v1: is gone"],
        },
        Case { change: |it| remove(it, "/components/messages", "SENT.v1"), found: &["messages.SENT.v1: is gone"] },
        Case {
            change: |it| it["channels"]["topic"]["address"] = json!("other"),
            found: &["channels.topic: address was \"messages\" and is \"other\""],
        },
        Case {
            change: |it| it["operations"]["append"]["messages"] = json!([]),
            found: &["operations.append: \"#/channels/topic/messages/SENT.v1\" is gone"],
        },
        Case {
            change: |it| it["operations"]["append"]["action"] = json!("receive"),
            found: &["operations.append: action was \"send\" and is \"receive\""],
        },
        Case {
            change: |it| it["components"]["messages"]["SENT.v1"]["name"] = json!("SAID"),
            found: &["messages.SENT.v1: name was \"SENT\" and is \"SAID\""],
        },
        Case {
            change: |it| it["components"]["messages"]["SENT.v1"]["payload"]["required"] = json!(["a"]),
            found: &["messages.SENT.v1.payload.a: was optional and is required"],
        },
        Case {
            change: |it| remove(it, "/components/messages/SENT.v1/headers/properties", "ce_type"),
            found: &["messages.SENT.v1.headers.ce_type: is gone"],
        },
        Case {
            change: |it| {
                it["components"]["messages"]["SENT.v1"]["bindings"]["kafka"]["key"] = json!({"type": "integer"})
            },
            found: &["messages.SENT.v1.bindings.kafka.key: type was \"string\" and is \"integer\""],
        },
    ];

    #[test]
    fn a_channel_an_operation_or_a_message_may_come_to_the_document_and_none_may_go() {
        let released = json!({
            "info": {"version": "1.0.0"},
            "servers": {"kafka": {"protocol": "kafka"}},
            "channels": {"topic": {
                "address": "messages",
                "messages": {"SENT.v1": {"$ref": "#/components/messages/SENT.v1"}},
            }},
            "operations": {"append": {
                "action": "send",
                "channel": {"$ref": "#/channels/topic"},
                "messages": [{"$ref": "#/channels/topic/messages/SENT.v1"}],
            }},
            "components": {"messages": {"SENT.v1": {
                "name": "SENT",
                "payload": {"type": "object", "properties": {"a": {"type": "string"}}},
                "headers": {"type": "object", "properties": {"ce_type": {"type": "string"}}},
                "bindings": {"kafka": {"key": {"type": "string"}}},
            }}},
        });
        assert_found(&released, DOCUMENT_CASES, document_changes);
    }
}
