//! Operations that a client emits: sockets only tell, so it is told where to ask.

use serde_json::{Map, Value, json};

/// An operation, and the route that does it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) event: &'static str,
    method: &'static str,
    action: Option<&'static str>,
}

const fn post(event: &'static str, action: &'static str) -> Operation {
    Operation { event, method: "POST", action: Some(action) }
}

/// All of them.
pub(crate) const OPERATIONS: [Operation; 8] = [
    post("message:send", "message"),
    Operation { event: "message:edit", method: "PATCH", action: None },
    Operation { event: "message:delete", method: "DELETE", action: None },
    post("reaction:add", "reaction"),
    post("reaction:remove", "remove_reaction"),
    post("typing:start", "typing_start"),
    post("typing:stop", "typing_stop"),
    post("messages:read", "mark_read"),
];

impl Operation {
    /// What to ask instead, with what the client gave.
    pub(crate) fn redirect(&self, given: &Value) -> Value {
        let mut fields: Map<String, Value> = given.as_object().cloned().unwrap_or_default();
        let (path, body) = if let Some(action) = self.action {
            fields.insert("action".to_owned(), Value::from(action));
            ("/api/messages".to_owned(), Value::Object(fields))
        } else {
            let id = fields.remove("messageId").or_else(|| fields.remove("id"));
            // Anything else would make another path of it.
            let plain =
                |id: &&str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            let id = id.as_ref().and_then(Value::as_str).filter(plain);
            let body = if self.method == "PATCH" { json!({"content": fields.remove("content")}) } else { Value::Null };
            (format!("/api/messages/{}", id.unwrap_or("{messageId}")), body)
        };
        json!({"event": self.event, "method": self.method, "path": path, "body": body})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_shown_its_route() {
        let redirect = |event: &str, given: Value| {
            OPERATIONS.iter().find(|operation| operation.event == event).unwrap().redirect(&given)
        };
        assert_eq!(
            redirect("message:send", json!({"content": "hi"})),
            json!({"event": "message:send", "method": "POST", "path": "/api/messages",
                   "body": {"action": "message", "content": "hi"}})
        );
        assert_eq!(
            redirect("message:edit", json!({"messageId": "7", "content": "ho"})),
            json!({"event": "message:edit", "method": "PATCH", "path": "/api/messages/7", "body": {"content": "ho"}})
        );
        assert_eq!(redirect("message:delete", json!({"messageId": "../x"}))["path"], "/api/messages/{messageId}");
        assert_eq!(redirect("messages:read", json!([1]))["body"], json!({"action": "mark_read"}));
        assert_eq!(redirect("message:delete", Value::Null)["path"], "/api/messages/{messageId}");
    }
}
