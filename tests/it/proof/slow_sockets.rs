//! Thousands of sockets that answer pings and read nothing, while large messages come for them.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::table::{Proof, Row, grouped, scaled};
use crate::client_sync::start_realtime_node;
use crate::harness::process::ServiceProcess;
use crate::harness::raw_socket::RawSocket;
use crate::harness::system::TIMEOUT;
use crate::harness::{Client, System, log};
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
const MEASURE_INTERVAL: Duration = Duration::from_millis(50);
const BOUND_MB: usize = 256;

fn resident_mb(process: &ServiceProcess) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id().unwrap())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1_024
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
    let idle_mb = resident_mb(&node);
    proof.progress(&format!("{} sockets; the process has {idle_mb} MB", grouped(sockets)));

    let (mut most_mb, mut positions, mut most_queued) = (idle_mb, Vec::new(), 0.0_f64);
    for number in 0..MESSAGES {
        let records: Vec<_> = conversations.iter().map(|id| large_message("writer", id, number)).collect();
        for some in records.chunks(10) {
            positions.extend(log::append(&system.config, some).await);
            most_mb = most_mb.max(resident_mb(&node));
        }
        most_queued = most_queued.max(node.metric("realtime_queued_bytes", "").await);
    }
    let in_group: Vec<_> = positions.iter().step_by(conversations.len()).cloned().collect();
    let received = async {
        let last = in_group.last().unwrap();
        reader.frames_until("the last message", |frame| frame.meta["position"] == last.as_str()).await
    };
    let measured = async {
        loop {
            most_mb = most_mb.max(resident_mb(&node));
            tokio::time::sleep(MEASURE_INTERVAL).await;
        }
    };
    let frames = tokio::select! {
        frames = received => frames,
        () = measured => Vec::new(),
    };
    let received: Vec<_> = frames.iter().filter_map(|frame| frame.meta["position"].as_str()).collect();
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    while node.metric("realtime_sockets", "").await > 1.0 && tokio::time::Instant::now() < deadline {
        most_mb = most_mb.max(resident_mb(&node));
        most_queued = most_queued.max(node.metric("realtime_queued_bytes", "").await);
        tokio::time::sleep(MEASURE_INTERVAL).await;
    }

    let grown = most_mb.saturating_sub(idle_mb);
    proof.row(Row {
        what: format!(
            "{} sockets answer pings and read nothing; {} messages of 62 KB come in the conversation of all, and as many \
             in one of each user",
            grouped(sockets),
            MESSAGES
        ),
        figure: format!(
            "{grown} MB above the {idle_mb} MB of the idle process; at most {:.0} MB waited; {} sockets closed, {} of \
             them because too much waited on the node; a reader got {} of {} messages in order",
            most_queued / 1e6,
            closed(&node, "").await,
            closed(&node, "node").await,
            if received == in_group { received.len() } else { 0 },
            in_group.len()
        ),
        bound: "≤ 256 MB, all messages",
        holds: grown <= BOUND_MB && received == in_group,
    });
    proof.end();
}
