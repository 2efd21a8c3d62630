//! Thousands of sockets that answer pings and read nothing, while large messages come for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::table::{Proof, Row, grouped, scaled};
use crate::client_sync::start_realtime_node;
use crate::harness::process::ServiceProcess;
use crate::harness::raw_socket::RawSocket;
use crate::harness::{Client, System, eventually, log};
use crate::slow_sockets::{closed, large_message};

/// How many users have sockets that read nothing.
const USERS: usize = 100;
/// How many each has: as many as allowed.
const SOCKETS_PER_USER: usize = 100;
/// How many large messages come in the conversation of all, and in one of each user.
const MESSAGES: usize = 12;
/// How often each socket shows that its client lives.
const PONG_INTERVAL: Duration = Duration::from_secs(4);
/// How often the memory is measured.
const MEASURE_INTERVAL: Duration = Duration::from_millis(20);
const BOUND_MB: usize = 256;

/// The memory of a process, and the most of it since the last call of [`Memory::take_most`].
struct Memory {
    status: String,
    most_mb: AtomicUsize,
}

impl Memory {
    /// Measures from now on.
    fn of(process: &ServiceProcess) -> Arc<Self> {
        let status = format!("/proc/{}/status", process.child.id().unwrap());
        let memory = Arc::new(Self { status, most_mb: AtomicUsize::new(0) });
        let measuring = Arc::downgrade(&memory);
        std::thread::spawn(move || {
            while let Some(memory) = measuring.upgrade() {
                memory.most_mb.fetch_max(memory.resident_mb(), Ordering::Relaxed);
                std::thread::sleep(MEASURE_INTERVAL);
            }
        });
        memory
    }

    fn resident_mb(&self) -> usize {
        let status = std::fs::read_to_string(&self.status).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        resident.map_or(0, |kb| kb.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1_024)
    }

    fn take_most(&self) -> usize {
        self.most_mb.swap(0, Ordering::Relaxed).max(self.resident_mb())
    }
}

/// A user's sockets. Each sends pongs and reads nothing, until the node closes it.
async fn open_sockets(system: &System, url: &str, user: &str) {
    for _ in 0..SOCKETS_PER_USER {
        let mut socket = RawSocket::connect_with_small_buffer(system, url, user).await;
        tokio::spawn(async move {
            while socket.send("3").await {
                tokio::time::sleep(PONG_INTERVAL).await;
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs minutes: make proof"]
async fn sockets_that_read_nothing_hold_little_memory() {
    let mut proof = Proof::begin("slow_sockets");
    let system = System::unlimited().await;
    let node = start_realtime_node(&system).await;
    let mut reader = Client::open(json!({"url": node.url, "token": system.token("reader")})).await;
    reader.frame("connection:ready").await;
    let users: Vec<String> = (0..scaled(USERS)).map(|number| format!("idle{number}")).collect();
    let everyone: Vec<&str> = users.iter().map(String::as_str).chain(["reader"]).collect();
    let mut conversations = vec![system.conversation("writer", &everyone).await];
    for user in &users {
        conversations.push(system.conversation("writer", &[user]).await);
    }
    for some in users.chunks(8) {
        join_all(some.iter().map(|user| open_sockets(&system, &node.url, user))).await;
    }
    let sockets = users.len() * SOCKETS_PER_USER;
    assert_eq!(node.metric("realtime_sockets", "").await as usize, sockets + 1);
    let memory = Memory::of(&node);
    let idle_mb = memory.take_most();
    proof.progress(&format!("{} sockets; the process has {idle_mb} MB", grouped(sockets)));

    let (mut positions, mut most_queued) = (Vec::new(), 0.0_f64);
    for number in 0..MESSAGES {
        let records: Vec<_> = conversations.iter().map(|id| large_message("writer", id, number)).collect();
        positions.extend(log::append(&system.config, &records).await);
        most_queued = most_queued.max(node.metric("realtime_queued_bytes", "").await);
    }
    let in_group: Vec<_> = positions.iter().step_by(conversations.len()).cloned().collect();
    proof.progress(&format!("{} messages sent", grouped(positions.len())));
    let last = in_group.last().unwrap();
    let mut frames = reader.frames_until("the last message", |frame| frame.meta["position"] == last.as_str()).await;
    frames.retain(|frame| frame.name == "message:new");
    let received: Vec<_> = frames.iter().filter_map(|frame| frame.meta["position"].as_str()).collect();
    eventually("the sockets are closed", async || {
        most_queued = most_queued.max(node.metric("realtime_queued_bytes", "").await);
        (node.metric("realtime_sockets", "").await == 1.0).then_some(())
    })
    .await;

    let grown = memory.take_most().saturating_sub(idle_mb);
    proof.row(Row {
        what: format!(
            "{} sockets answer pings and read nothing; {} messages of 62 KB come in the conversation of all, and as many \
             in one of each user",
            grouped(sockets),
            MESSAGES
        ),
        figure: format!(
            "{grown} MB above the {idle_mb} MB of the idle process; at most {:.0} MB waited; {} sockets overflowed, {} \
             were closed because too much waited on the node, the others took nothing for 10 s; a reader got {} of {} messages in order",
            most_queued / 1e6,
            closed(&node, "socket").await as usize,
            closed(&node, "node").await as usize,
            if received == in_group { received.len() } else { 0 },
            in_group.len()
        ),
        bound: "≤ 256 MB, all messages",
        holds: grown <= BOUND_MB && received == in_group,
    });
    proof.end();
}
