//! The official Socket.IO client, in its own Node process: see `tests/js/socket-client.mjs`.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::script;
use super::system::{System, TIMEOUT};

/// A client process with one or more sockets.
pub(crate) struct Client {
    child: Child,
    stdin: ChildStdin,
    lines: UnboundedReceiver<String>,
    /// Lines that arrived while the test waited for another one.
    unread: Vec<Value>,
}

/// A frame that the client received.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) name: String,
    /// The payload.
    pub(crate) data: Value,
    /// The second argument, or null.
    pub(crate) meta: Value,
    /// The index of the socket that received the frame, from 0.
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

    /// Whether this is `message:new` with this content.
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

    /// Starts to connect with these options; see `tests/js/socket-client.mjs`.
    pub(crate) async fn open(options: Value) -> Self {
        let (child, stdin, mut printed) = script::start("socket-client.mjs");
        let (sender, lines) = mpsc::unbounded_channel();
        // Read all the time: a client whose output pipe is full stops, and the server then takes it for dead.
        tokio::spawn(async move {
            while let Ok(Some(line)) = printed.next_line().await {
                let _ = sender.send(line);
            }
        });
        let mut client = Self { child, stdin, lines, unread: Vec::new() };
        client.instruct(options).await;
        client
    }

    /// Sends an instruction to the client's process; see `tests/js/socket-client.mjs`.
    pub(crate) async fn instruct(&mut self, instruction: Value) {
        self.stdin.write_all(format!("{instruction}\n").as_bytes()).await.unwrap();
    }

    /// Connects a socket by its index, and doesn't wait for `connection:ready`.
    pub(crate) async fn connect_socket(&mut self, socket: usize) {
        self.instruct(json!({"do": "connect", "socket": socket})).await;
    }

    /// Disconnects a socket by its index, and waits until it is disconnected.
    pub(crate) async fn disconnect_socket(&mut self, socket: usize) {
        self.instruct(json!({"do": "disconnect", "socket": socket})).await;
        self.wait_for("disconnect").await;
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

    /// Waits for a frame of this name. Other frames that arrive first stay unread.
    pub(crate) async fn frame(&mut self, name: &str) -> Frame {
        Frame::of(&self.line(name, |line| line["at"] == "event" && line["name"] == name).await)
    }

    /// Reads all unread frames in order, up to the first for which `is_last` holds.
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

    /// Waits for a line of this kind, such as `{"at": "connect_error", …}`.
    pub(crate) async fn wait_for(&mut self, kind: &str) -> Value {
        self.line(kind, |line| line["at"] == kind).await
    }

    /// The names of the unread frames, once the client has everything that the server sent before this call: the
    /// acknowledgement of an event can't overtake a frame.
    pub(crate) async fn unread_frames(&mut self) -> Vec<String> {
        self.emit_with_ack("presence:get", json!({"userIds": []})).await;
        let names = self.unread.drain(..).filter(|line| line["at"] == "event");
        names.map(|line| line["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Asserts that the client has received no frame that the test hasn't read.
    pub(crate) async fn assert_no_unread_frames(&mut self, reason: &str) {
        assert_eq!(self.unread_frames().await, [""; 0], "{reason}");
    }

    /// Freezes the client's process (SIGSTOP): its connection stays open, and nothing answers on it.
    pub(crate) async fn freeze(&mut self) {
        let process = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-STOP", &process]).status().await.unwrap().success());
    }

    async fn line(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(index) = self.unread.iter().position(&wanted) {
            return self.unread.remove(index);
        }
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        loop {
            let line = tokio::time::timeout_at(deadline, self.lines.recv()).await;
            let Ok(line) = line else { panic!("{what} never came; these lines did: {:?}", self.unread) };
            let line = line.unwrap_or_else(|| panic!("the client ended before {what}"));
            let line: Value = serde_json::from_str(&line).unwrap();
            assert_ne!(line["at"], "bad_line", "{line}");
            if wanted(&line) {
                return line;
            }
            self.unread.push(line);
        }
    }
}

/// How much later than promised an event may happen: the machine may be busy.
pub(crate) const SLACK: Duration = Duration::from_secs(5);
