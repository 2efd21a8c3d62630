//! Random commands with idempotency keys, for tests that cut connections, and kill or restart processes, meanwhile.

use std::time::Duration;

use domain::testing::Rng;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::System;
use crate::harness::http::{Request, Response};

/// The pause before a command is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A command that can be sent any number of times, to any node.
#[derive(Debug, Clone)]
pub(crate) struct KeyedCommand {
    pub(crate) user: String,
    pub(crate) key: String,
    method: &'static str,
    path: String,
    /// Null for a command without a body.
    body: Value,
}

impl KeyedCommand {
    /// A random command of a user: in one of these conversations, or about one of the user's own messages.
    pub(crate) fn random(
        rng: &mut Rng,
        user: &str,
        number: usize,
        conversations: &[String],
        own_messages: &[String],
    ) -> Self {
        let conversation = rng.pick(conversations).unwrap();
        let content = json!({"content": format!("{user} {number}")});
        let post = "/api/messages".to_owned();
        let (method, path, body) = match (rng.below(10), rng.pick(own_messages)) {
            (0, Some(id)) => ("PATCH", format!("/api/messages/{id}"), content),
            (1, Some(id)) => ("DELETE", format!("/api/messages/{id}"), Value::Null),
            (2 | 3, Some(id)) => ("POST", post, json!({"action": "reaction", "messageId": id, "emoji": "👍"})),
            (4, _) => ("POST", post, json!({"action": "mark_read", "conversationId": conversation})),
            _ => ("POST", post, json!({"conversationId": conversation, "content": content["content"]})),
        };
        Self { user: user.to_owned(), key: format!("{user}-{number}"), method, path, body }
    }

    /// Whether this sends a message.
    pub(crate) fn sends_a_message(&self) -> bool {
        self.method == "POST" && self.body["content"].is_string()
    }

    /// Sends the command to these nodes in turn, until one of them answers whether the command was done.
    pub(crate) async fn send_until_decided(&self, nodes: &[&System], timeout: Duration) -> Response {
        let deadline = Instant::now() + timeout;
        for node in nodes.iter().cycle() {
            match self.request(node).try_send().await {
                Some(answer) if answer.status != 503 => return answer,
                answer => assert!(Instant::now() < deadline, "{self:?} is still undecided: {answer:?}"),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        unreachable!("the list of nodes is repeated endlessly")
    }

    fn request(&self, node: &System) -> Request {
        let request = node.ask(&self.user, self.method, &self.path).key(&self.key);
        if self.body.is_null() { request } else { request.json(&self.body) }
    }
}
