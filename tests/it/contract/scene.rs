//! The scene in which many tests of the contract begin.

use crate::harness::System;
use crate::harness::http::Request;

/// A conversation that alice created, with a message of hers.
pub(super) struct Scene {
    pub(super) system: System,
    pub(super) conversation: String,
    pub(super) message: String,
}

impl Scene {
    /// Starts a system in which alice shares the conversation with these users.
    pub(super) async fn with(others: &[&str]) -> Self {
        let system = System::start().await;
        let conversation = system.conversation("alice", others).await;
        let message = system.message("alice", &conversation, "hi").await;
        Self { system, conversation, message }
    }

    /// `POST /api/messages` as alice, still without a body.
    pub(super) fn post(&self) -> Request {
        self.system.ask("alice", "POST", "/api/messages")
    }

    /// `PATCH` of the message as alice, still without a body.
    pub(super) fn patch(&self) -> Request {
        self.system.ask("alice", "PATCH", &format!("/api/messages/{}", self.message))
    }
}
