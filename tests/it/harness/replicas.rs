//! Clients that follow the documented synchronization rule, in a Node process: see `tests/js/replica.mjs`.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::script;
use super::system::{System, TIMEOUT};

/// The pause between two queries of the clients' status.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The clients of some users, one client each.
pub(crate) struct Replicas {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    users: usize,
}

impl Replicas {
    /// Connects each user's WebSocket to the first reachable URL, with the present sync token and an empty store. HTTP
    /// requests go to the system's own URL.
    pub(crate) async fn start(system: &System, urls: &[&str], users: &[String]) -> Self {
        Self::start_over(&["websocket"], system, urls, users).await
    }

    /// Like [`Self::start`], over these transports.
    pub(crate) async fn start_over(transports: &[&str], system: &System, urls: &[&str], users: &[String]) -> Self {
        let mut logins = Vec::with_capacity(users.len());
        for user in users {
            let now = system.get(user, "/api/messages/sync").await;
            let since = now.body["next"].as_str().unwrap_or_else(|| panic!("no token: {now:?}"));
            logins.push(json!({"user": user, "token": system.token(user), "since": since}));
        }
        let (child, stdin, lines) = script::start("replica.mjs");
        let mut replicas = Self { _child: child, stdin, lines, users: users.len() };
        let order = json!({"urls": urls, "api": system.url, "users": logins, "transports": transports});
        replicas.order(order).await;
        replicas.all_ready().await;
        replicas
    }

    /// Waits until every client is connected and has caught up.
    pub(crate) async fn all_ready(&mut self) {
        let users = self.users;
        // Thousands of clients need this long in an unoptimized build.
        let deadline = tokio::time::Instant::now() + 4 * TIMEOUT;
        loop {
            let status = self.status().await;
            if status["ready"] == users {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "not every client is connected and has caught up: {status}"
            );
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until every client equals the server's state for its user, and asserts that no event took effect twice.
    pub(crate) async fn assert_equals_server(&mut self, system: &System, users: &[String]) {
        self.all_ready().await;
        let mut difference = String::new();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(25);
        while tokio::time::Instant::now() < deadline {
            difference.clear();
            for (dump, user) in self.dump().await.iter().zip(users) {
                let server = server_dump(system, user).await;
                if *dump != server {
                    difference = format!("{user} has\n{dump}\nbut the server has\n{server}");
                    break;
                }
            }
            if difference.is_empty() {
                let status = self.status().await;
                assert_eq!(status["again"], 0, "an event took effect twice: {status}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("{difference}");
    }

    /// The clients' counters, summed over all users.
    pub(crate) async fn status(&mut self) -> Value {
        self.order(json!({"do": "status"})).await;
        self.line().await
    }

    /// Each client's store, in the order of the users.
    pub(crate) async fn dump(&mut self) -> Vec<Value> {
        self.order(json!({"do": "dump"})).await;
        let mut dumps = Vec::with_capacity(self.users);
        for _ in 0..self.users {
            dumps.push(self.line().await);
        }
        dumps
    }

    async fn order(&mut self, order: Value) {
        self.stdin.write_all(format!("{order}\n").as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> Value {
        let line = tokio::time::timeout(TIMEOUT, self.lines.next_line()).await;
        let line =
            line.expect("the clients' process printed nothing in time").unwrap().expect("the clients' process ended");
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_ne!(line["at"], "bad_line", "{line}");
        line
    }
}

/// The server's state for a user, in the form of [`Replicas::dump`].
pub(crate) async fn server_dump(system: &System, user: &str) -> Value {
    let (mut conversations, mut messages) = (Vec::new(), Vec::new());
    for conversation in all(system, user, "/api/messages?limit=100").await {
        let id = conversation["id"].as_str().unwrap().to_owned();
        for message in all(system, user, &format!("/api/messages?limit=100&conversationId={id}")).await {
            messages.push(dumped(&message));
        }
        conversations.push(id);
    }
    conversations.sort_unstable();
    messages.sort_by(|one, other| one["id"].as_str().cmp(&other["id"].as_str()));
    json!({"at": "dump", "user": user, "conversations": conversations, "messages": messages})
}

fn dumped(message: &Value) -> Value {
    let group = |group: &Value| {
        let mut users: Vec<&str> =
            group["userIds"].as_array().unwrap().iter().map(|user| user.as_str().unwrap()).collect();
        users.sort_unstable();
        // The replicas learn by frames: these don't tell in which form an emoji was given first.
        let emoji = group["emoji"].as_str().unwrap().replace(['\u{fe0e}', '\u{fe0f}'], "");
        json!([emoji, users])
    };
    let mut reactions: Vec<Value> = message["reactions"].as_array().unwrap().iter().map(group).collect();
    reactions.sort_by_key(|group| group[0].as_str().unwrap().encode_utf16().collect::<Vec<u16>>());
    json!({"id": message["id"], "content": message["content"], "editedAt": message["editedAt"],
           "deletedAt": message["deletedAt"], "reactions": reactions})
}

/// All pages of a list.
pub(crate) async fn all(system: &System, user: &str, path: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = system.get(user, &format!("{path}{cursor}")).await;
        items.extend(answer.data().as_array().unwrap_or_else(|| panic!("no list: {answer:?}")).iter().cloned());
        match answer.body["page"]["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}
