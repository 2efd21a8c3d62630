//! A frontend that is as brief as it can be, in a real browser: a page of the same origin that calls with `fetch`, a
//! method and a body alone, opens a socket without options, and is signed in by a cookie. The server runs with one
//! variable set. Pages of other origins can use the cookie for nothing.

use crate::harness::System;
use crate::harness::process::{ServiceProcess, free_port};
use crate::harness::system::config;
use crate::page::{node, well};

/// How many commands a page tries: three messages, one of them with a form, an edit and a deletion.
const WRITES: usize = 5;
/// How many sockets it tries to open: over WebSocket, and over polling.
const SOCKETS: usize = 2;

/// A process as `make run` starts it, with `AUTH_COOKIE`, and a conversation of alice and bob.
struct Site {
    process: ServiceProcess,
    system: System,
    conversation: String,
}

impl Site {
    async fn start() -> Self {
        let config = config();
        let environment = [("MESSAGES_ENV", "development"), ("AUTH_COOKIE", "session")];
        let process = ServiceProcess::with(&config, &["all"], &environment).await;
        let system = System::attach(config, &process.url);
        let conversation = system.conversation("alice", &["bob"]).await;
        Self { process, system, conversation }
    }

    /// Lets a page of this origin try everything with alice's cookie. Returns how many events that appended.
    async fn events_from(&self, origin: &str, kind: &str) -> usize {
        let message = self.system.message("alice", &self.conversation, "alice's own").await;
        let before = self.system.records().await.len();
        let mut script = node("cross-site.mjs");
        let token = self.system.token("alice");
        script.args([&self.system.url, &token, origin, &self.conversation, &message, kind]);
        well(script).await;
        self.system.records().await.len() - before
    }

    /// How many requests the server has refused as forged.
    async fn forged(&self) -> f64 {
        self.process.metric("http_requests_total", "status=\"403\"").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_with_a_session_cookie_needs_neither_a_token_nor_a_header() {
    let site = Site::start().await;
    let system = &site.system;
    let mut script = node("brief-frontend.mjs");
    let tokens = ["alice", "bob"].map(|user| system.token(user));
    script.arg(&system.url).args(&tokens).args(["alice", "bob", &site.conversation]);
    well(script).await;

    let records = system.records_of(&site.conversation).await;
    let mut by_alice = Vec::new();
    for record in &records {
        assert_eq!(record.value["actorId"], "alice", "{record:?}");
        by_alice.push(record.value["type"].as_str().unwrap());
    }
    for event in ["TYPING_START", "MESSAGE_SENT", "REACTION_ADDED", "MESSAGE_EDITED", "MESSAGE_DELETED"] {
        assert!(by_alice.contains(&event), "{event} is missing: {by_alice:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_can_do_nothing_with_the_cookie() {
    let site = Site::start().await;
    let own = site.system.url.clone();
    assert_eq!(site.events_from(&own, "OWN").await, WRITES);
    let port = free_port();
    let others =
        [own.replace("127.0.0.1", "localhost"), format!("http://127.0.0.1:{port}"), "http://evil.example".into()];
    for other in others {
        let forged = site.forged().await;
        assert_eq!(site.events_from(&other, "FOREIGN").await, 0, "{other}");
        // All of them did arrive, with the cookie: Playwright answers the preflights in place of the server.
        assert_eq!(site.forged().await - forged, (WRITES + SOCKETS) as f64, "{other}");
    }
}
