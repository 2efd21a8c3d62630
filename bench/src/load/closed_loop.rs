//! Connections that each send the same request again as soon as they have the response: the load with which a server
//! shows how many requests it can answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::http::{self, HttpConnection};
use crate::failures::Failures;
use crate::latency::Latencies;

/// The responses of a closed loop.
#[derive(Default)]
pub(crate) struct ClosedLoop {
    /// Of all responses.
    pub(crate) latencies: Latencies,
    /// How long it took.
    pub(crate) elapsed: Duration,
}

/// Sends each request over its own connection for `duration`, and counts responses with another status as failures.
pub(crate) async fn run(
    address: &str,
    requests: Vec<Arc<[u8]>>,
    status: u16,
    duration: Duration,
    failures: &Arc<Failures>,
) -> anyhow::Result<ClosedLoop> {
    let mut connections = Vec::with_capacity(requests.len());
    for request in requests {
        connections.push((HttpConnection::open(address).await?, request));
    }
    let started = Instant::now();
    let mut loops = JoinSet::new();
    for (connection, request) in connections {
        loops.spawn(repeat(connection, request, status, started + duration, failures.clone()));
    }
    let mut measured = ClosedLoop::default();
    while let Some(latencies) = loops.join_next().await {
        measured.latencies.add(&latencies??);
    }
    measured.elapsed = started.elapsed();
    Ok(measured)
}

async fn repeat(
    mut connection: HttpConnection,
    request: Arc<[u8]>,
    status: u16,
    until: Instant,
    failures: Arc<Failures>,
) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::default();
    let mut sent = Instant::now();
    while sent < until {
        let response = connection.send(&request).await?;
        let received = Instant::now();
        latencies.record(received - sent);
        if response.status != status {
            failures.add(http::unexpected(response.status, connection.body(response)), 1);
        }
        sent = received;
    }
    Ok(latencies)
}
