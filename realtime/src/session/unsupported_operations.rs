//! Operations that clients emit on a socket, although sockets only deliver. The node responds with the HTTP request
//! that does the same, and must never execute it.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::server_events::Redirect;

/// The route to which clients send commands.
const COMMANDS_PATH: &str = "/api/messages";
/// What stands in a path for the id of a message.
const ID_PARAMETER: &str = "{messageId}";

/// An operation, and the HTTP route for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    /// The event that the client emits.
    pub(crate) event: &'static str,
    method: &'static str,
    /// The `action` in the body, where the route is `POST /api/messages`.
    action: Option<&'static str>,
}

const fn post(event: &'static str, action: &'static str) -> Operation {
    Operation { event, method: "POST", action: Some(action) }
}

/// All operations that sockets don't support.
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
    /// The HTTP request to send instead, with the fields of the client's payload.
    pub(super) fn redirect(&self, payload: &Value) -> Redirect {
        let mut fields: Map<String, Value> = payload.as_object().cloned().unwrap_or_default();
        let (path, body) = if let Some(action) = self.action {
            fields.insert("action".to_owned(), Value::from(action));
            (COMMANDS_PATH.to_owned(), Some(fields))
        } else {
            let id = fields.remove("messageId").or_else(|| fields.remove("id"));
            // Any other character could turn the path into a different one.
            let is_plain =
                |id: &&str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            let id = id.as_ref().and_then(Value::as_str).filter(is_plain);
            let content = || Map::from_iter([("content".to_owned(), json!(fields.remove("content")))]);
            (format!("{COMMANDS_PATH}/{}", id.unwrap_or(ID_PARAMETER)), (self.method == "PATCH").then(content))
        };
        Redirect { event: self.event, method: self.method, path, body }
    }
}

/// The request in words.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.action {
            Some(action) => write!(f, "`{} {COMMANDS_PATH}` with the action `{action}`", self.method),
            None => write!(f, "`{} {COMMANDS_PATH}/{ID_PARAMETER}`", self.method),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_is_redirected_to_its_http_request() {
        let redirect = |event: &str, payload: Value| {
            let operation = OPERATIONS.iter().find(|operation| operation.event == event).unwrap();
            json!(operation.redirect(&payload))
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
