//! Pairs of users who chat while the projector has something else to do: each message goes to a socket that has just
//! connected, and both users read it at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::System;
use crate::harness::http::Response;
use crate::harness::raw_socket::RawSocket;

/// The pause between two messages of a pair.
const PAUSE: Duration = Duration::from_millis(500);

/// Two users with a direct conversation that is on one partition.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) sender: String,
    pub(super) peer: String,
    pub(super) conversation: String,
}

/// Whether a pair's reads can be expected to succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// Their partition goes on: the messages are read at once.
    AtOnce,
    /// Their partition is behind: the pair doesn't wait for the reads.
    Later,
}

/// What pairs have observed.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) messages: usize,
    /// How many reads were refused with 503.
    pub(super) refused_reads: usize,
    /// The longest time from the acknowledgement of a message until a read has it.
    pub(super) max_age: Duration,
    /// The longest time until a socket was ready.
    pub(super) max_connect: Duration,
    /// The longest time from sending a message until the peer's socket has it.
    pub(super) max_delivery: Duration,
}

impl Observed {
    fn merge(&mut self, other: &Self) {
        self.messages += other.messages;
        self.refused_reads += other.refused_reads;
        self.max_age = self.max_age.max(other.max_age);
        self.max_connect = self.max_connect.max(other.max_connect);
        self.max_delivery = self.max_delivery.max(other.max_delivery);
    }
}

impl Pair {
    /// Begins a conversation on a partition.
    pub(super) async fn create(system: &System, partition: i32) -> Self {
        let sender = format!("sender-{partition}");
        let peer = system.peer_on(partition, &sender, "peer");
        let created = system.post(&sender, json!({"action": "conversation", "participantIds": [peer]})).await;
        system.wait_until_projected(&created).await;
        assert!(created.position().starts_with(&format!("{partition}:")), "{created:?}");
        Self { conversation: created.id(), sender, peer }
    }

    /// Connects the peer's socket, sends it a message, and reads the message.
    pub(super) async fn exchange(&self, system: &System, content: &str, reads: Reads, observed: &mut Observed) {
        let began = Instant::now();
        let mut socket = RawSocket::connect(system, &system.url, &self.peer).await;
        observed.max_connect = observed.max_connect.max(began.elapsed());
        let began = Instant::now();
        let sent = system.send(&self.sender, &self.conversation, content).await;
        let acknowledged = Instant::now();
        assert_eq!(sent.status, 201, "{sent:?}");
        let quoted = format!("\"{content}\"");
        let delivery = async {
            while !socket.until("42[\"message:new\"").await.contains(&quoted) {}
            began.elapsed()
        };
        let read = async {
            let refused = self.read(system, &sent, content, reads).await;
            (refused, acknowledged.elapsed())
        };
        let (delivery, (refused, age)) = tokio::join!(delivery, read);
        observed.messages += 1;
        observed.max_delivery = observed.max_delivery.max(delivery);
        observed.refused_reads += refused;
        if reads == Reads::AtOnce {
            observed.max_age = observed.max_age.max(age);
        }
    }

    /// Reads a message in each way, with the token of its own command. Returns how many reads were refused.
    async fn read(&self, system: &System, sent: &Response, content: &str, reads: Reads) -> usize {
        let mut refused = 0;
        let one = format!("/api/messages/{}", sent.id());
        let page = format!("/api/messages?conversationId={}&limit=1", self.conversation);
        for (user, path) in [(&self.sender, &one), (&self.peer, &page), (&self.peer, &"/api/messages".to_owned())] {
            loop {
                let read = system.ask(user, "GET", path).header("Messages-Position", sent.position()).send().await;
                if read.status == 200 {
                    assert!(read.data().to_string().contains(content), "{path}: {read:?}");
                    break;
                }
                read.assert_problem(503, "projection_behind");
                refused += 1;
                if reads == Reads::Later {
                    break;
                }
            }
        }
        refused
    }
}

/// Pairs that chat until they are told to stop.
pub(super) struct Chats {
    stop: CancellationToken,
    running: Vec<JoinHandle<Observed>>,
}

impl Chats {
    pub(super) fn start(system: &Arc<System>, pairs: &[Pair], reads: Reads) -> Self {
        let stop = CancellationToken::new();
        let chat = |pair: &Pair| {
            let (system, pair, stop) = (system.clone(), pair.clone(), stop.clone());
            tokio::spawn(async move {
                let mut observed = Observed::default();
                while !stop.is_cancelled() {
                    let content = format!("message {} of {}", observed.messages, pair.sender);
                    pair.exchange(&system, &content, reads, &mut observed).await;
                    tokio::time::sleep(PAUSE).await;
                }
                observed
            })
        };
        let running = pairs.iter().map(chat).collect();
        Self { stop, running }
    }

    /// Stops, and asserts that no pair missed anything.
    pub(super) async fn stop(self) -> Observed {
        self.stop.cancel();
        let mut observed = Observed::default();
        for chat in self.running {
            observed.merge(&chat.await.unwrap());
        }
        observed
    }
}
