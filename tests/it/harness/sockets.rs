//! The official Socket.IO client, in a Node process of its own, driven by lines of JSON.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::script;
use super::system::{System, TIMEOUT};

/// A client with one socket, or several.
pub(crate) struct Client {
    child: Child,
    stdin: ChildStdin,
    lines: UnboundedReceiver<String>,
    /// What came while something else was waited for.
    kept: Vec<Value>,
}

/// A frame as the client got it.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) name: String,
    /// The payload.
    pub(crate) data: Value,
    /// The second argument; null where there is none.
    pub(crate) meta: Value,
    /// Which of the client's sockets got it, from 0.
    pub(crate) socket: usize,
}

impl Frame {
    fn of(line: &Value) -> Self {
        let args = &line["args"];
        Self {
            name: line["name"].as_str().unwrap().to_owned(),
            data: args[0].clone(),
            meta: args[1].clone(),
            socket: line["socket"].as_u64().map_or(0, |socket| usize::try_from(socket).unwrap()),
        }
    }

    /// Whether this is the message with this content.
    pub(crate) fn is_message(&self, content: &str) -> bool {
        self.name == "message:new" && self.data["content"] == content
    }
}

impl Client {
    /// Connects as a user over WebSocket and waits for `connection:ready`.
    pub(crate) async fn connect(system: &System, user: &str) -> Self {
        let mut client = Self::open(json!({"url": system.url, "token": system.token(user)})).await;
        client.frame("connection:ready").await;
        client
    }

    /// Begins to connect, as told; see `tests/js/socket-client.mjs`.
    pub(crate) async fn open(order: Value) -> Self {
        let (child, stdin, mut printed) = script::start("socket-client.mjs");
        let (sender, lines) = mpsc::unbounded_channel();
        // Taken as they come: a client whose pipe is full stands still, and its server thinks that it is gone.
        tokio::spawn(async move {
            while let Ok(Some(line)) = printed.next_line().await {
                let _ = sender.send(line);
            }
        });
        let mut client = Self { child, stdin, lines, kept: Vec::new() };
        client.instruct(order).await;
        client
    }

    /// Tells the client to do something.
    pub(crate) async fn instruct(&mut self, order: Value) {
        self.stdin.write_all(format!("{order}\n").as_bytes()).await.unwrap();
    }

    /// Emits an event.
    pub(crate) async fn emit(&mut self, name: &str, data: Value) {
        self.instruct(json!({"do": "emit", "name": name, "args": [data]})).await;
    }

    /// Emits an event and waits for its acknowledgement.
    pub(crate) async fn emit_with_ack(&mut self, name: &str, data: Value) -> Value {
        self.instruct(json!({"do": "emit", "name": name, "args": [data], "ack": true, "id": 1})).await;
        self.line("an acknowledgement", |line| line["at"] == "ack").await["args"][0].clone()
    }

    /// Waits for a frame of this name; what came before it and was not asked for is kept.
    pub(crate) async fn frame(&mut self, name: &str) -> Frame {
        Frame::of(&self.line(name, |line| line["at"] == "event" && line["name"] == name).await)
    }

    /// All frames that nobody asked for yet, in order, up to the one that is the last as `is_last` says.
    pub(crate) async fn frames_until(&mut self, what: &str, mut is_last: impl FnMut(&Frame) -> bool) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            let frame = Frame::of(&self.line(what, |line| line["at"] == "event").await);
            let last = is_last(&frame);
            frames.push(frame);
            if last {
                return frames;
            }
        }
    }

    /// Waits for a line such as `{"at": "connect_error", …}`.
    pub(crate) async fn wait_for(&mut self, what: &str) -> Value {
        self.line(what, |line| line["at"] == what).await
    }

    /// The names of the frames that came and that nobody asked for, once the client has got everything that the
    /// server sent it before this call: an answered question can't overtake a frame.
    pub(crate) async fn unread_frames(&mut self) -> Vec<String> {
        self.emit_with_ack("presence:get", json!({"userIds": []})).await;
        let names = self.kept.drain(..).filter(|line| line["at"] == "event");
        names.map(|line| line["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Stops the client's process where it is: its connection stays, and nothing answers.
    pub(crate) async fn freeze(&mut self) {
        let process = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-STOP", &process]).status().await.unwrap().success());
    }

    async fn line(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(index) = self.kept.iter().position(&wanted) {
            return self.kept.remove(index);
        }
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        loop {
            let line = tokio::time::timeout_at(deadline, self.lines.recv()).await;
            let Ok(line) = line else { panic!("{what} never came; what came: {:?}", self.kept) };
            let line = line.unwrap_or_else(|| panic!("the client ended before {what}"));
            let line: Value = serde_json::from_str(&line).unwrap();
            assert_ne!(line["at"], "bad_line", "{line}");
            if wanted(&line) {
                return line;
            }
            self.kept.push(line);
        }
    }
}

/// How much longer than a promised time a test waits for it.
pub(crate) const SLACK: Duration = Duration::from_secs(5);
