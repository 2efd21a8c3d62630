//! A connection to Redis that is replaced when it leads nowhere any more: it is dead although it is open, or the server
//! at its end can't do the work, perhaps because another one has taken over its address.
//!
//! The client library reconnects by itself only when a connection is closed. When nothing answers, and when a server
//! that has become a replica refuses to write, it stays.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::sync::watch;

/// How long Redis may take to answer one operation before it counts as down.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long connecting may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How old a connection is at least when it is replaced: while Redis stays as it is, each connection is tried for so
/// long.
const REPLACE_AFTER: Duration = Duration::from_secs(1);

domain::limit_rows! {
    Services, "wait for Redis to answer", Time RESPONSE_TIMEOUT, "the request goes on without Redis", "clients, who wait";
    Services, "wait for a connection to Redis", Time CONNECT_TIMEOUT, "the request goes on without Redis", "clients, who wait";
    Services, "pause between two connections to a Redis that can't do its work", Time REPLACE_AFTER, "the process keeps the connection for so long", "Redis, which all processes try at once";
}

/// A connection that its clones share.
#[derive(Clone)]
pub(crate) struct ReconnectingConnection {
    client: Client,
    current: Arc<watch::Sender<Attempt>>,
}

/// One of the connections that follow each other.
#[derive(Clone)]
struct Attempt {
    manager: ConnectionManager,
    began: Instant,
}

impl ReconnectingConnection {
    /// Prepares a connection that opens with the first operation.
    pub(crate) fn open_lazily(client: Client) -> RedisResult<Self> {
        let attempt = Attempt { manager: connection_manager(&client)?, began: Instant::now() };
        Ok(Self { client, current: Arc::new(watch::Sender::new(attempt)) })
    }

    /// The client, for connections of their own.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Changes whenever the connection is replaced.
    pub(crate) fn replacements(&self) -> Replacements {
        Replacements(self.current.subscribe())
    }

    pub(crate) async fn execute(&self, command: &Cmd) -> RedisResult<Value> {
        let mut attempt = self.current.borrow().clone();
        let reply = attempt.manager.req_packed_command(command).await;
        self.replace_if_useless(&attempt, fault_in(&reply, std::slice::from_ref));
        reply
    }

    pub(crate) async fn execute_all(
        &self,
        pipeline: &Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        let mut attempt = self.current.borrow().clone();
        let replies = attempt.manager.req_packed_commands(pipeline, offset, count).await;
        self.replace_if_useless(&attempt, fault_in(&replies, Vec::as_slice));
        replies
    }

    /// Replaces the connection unless another operation has already done so.
    fn replace_if_useless(&self, failed: &Attempt, fault: Option<String>) {
        let Some(fault) = fault else { return };
        self.current.send_if_modified(|current| {
            if current.began != failed.began || current.began.elapsed() < REPLACE_AFTER {
                return false;
            }
            match connection_manager(&self.client) {
                Ok(manager) => *current = Attempt { manager, began: Instant::now() },
                Err(error) => {
                    tracing::warn!(%error, "replacing the connection to Redis failed; the next error tries again");
                    return false;
                }
            }
            metrics::counter!("redis_reconnects_total").increment(1);
            tracing::debug!(fault, "replaced the connection to Redis");
            true
        });
    }
}

/// Tells when a connection is replaced.
pub(crate) struct Replacements(watch::Receiver<Attempt>);

impl Replacements {
    /// Waits until the connection is replaced, or nobody uses it any more.
    pub(crate) async fn next(&mut self) {
        let _ = self.0.changed().await;
    }
}

fn connection_manager(client: &Client) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        // Each operation waits for the connection attempt under way. With retries and their pauses it would wait for
        // seconds; without them, the next operation starts the next attempt.
        .set_number_of_retries(0);
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

/// The error of a reply after which another connection may lead to a better server.
fn fault_in<T>(reply: &RedisResult<T>, values: impl Fn(&T) -> &[Value]) -> Option<String> {
    let fault = |error: &RedisError| is_fault_of_the_server(error).then(|| error.to_string());
    match reply {
        Err(error) => fault(error),
        Ok(reply) => values(reply).iter().find_map(|value| match value {
            Value::ServerError(error) => fault(&RedisError::from(error.clone())),
            _ => None,
        }),
    }
}

fn is_fault_of_the_server(error: &RedisError) -> bool {
    match error.kind() {
        // Also a time-out, on a connection that may be dead.
        ErrorKind::Io | ErrorKind::AuthenticationFailed => true,
        ErrorKind::Server(kind) => {
            let replica = matches!(kind, ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown);
            // Some versions of Redis have a command's error in the text of its script's.
            replica || kind == ServerErrorKind::BusyLoading || error.to_string().contains("READONLY")
        }
        // It may ask for a password that the one before didn't want.
        _ => error.code() == Some("NOAUTH"),
    }
}
