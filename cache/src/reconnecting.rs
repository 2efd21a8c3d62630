//! A connection to Redis that is replaced when it leads nowhere any more: it is dead although it is open, or the server
//! at its end can't do the work, perhaps because another one has taken over its address.
//!
//! The client library reconnects by itself only when a connection is closed. When nothing answers, when a server that
//! has become a replica refuses to write, and when a server has refused to be connected to, it stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// When an operation last succeeded, in milliseconds after the beginning.
    worked_at_ms: Arc<AtomicU64>,
}

impl Attempt {
    fn begin(client: &Client) -> RedisResult<Self> {
        Ok(Self { manager: connection_manager(client)?, began: Instant::now(), worked_at_ms: Arc::default() })
    }

    fn record_success(&self) {
        let after = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.worked_at_ms.store(after, Ordering::Relaxed);
    }

    /// How long no operation has succeeded.
    fn useless_for(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.worked_at_ms.load(Ordering::Relaxed)))
    }
}

impl ReconnectingConnection {
    /// Prepares a connection that opens with the first operation.
    pub(crate) fn open_lazily(client: Client) -> RedisResult<Self> {
        let attempt = Attempt::begin(&client)?;
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
        self.judge(&attempt, error_in(&reply, std::slice::from_ref));
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
        self.judge(&attempt, error_in(&replies, Vec::as_slice));
        replies
    }

    /// Replaces the connection if an operation's error says that it is useless, unless another operation has done so.
    fn judge(&self, attempt: &Attempt, error: Option<RedisError>) {
        let Some(error) = error.filter(|error| !is_of_use(error)) else { return attempt.record_success() };
        if !is_fault_of_the_server(&error) && attempt.useless_for() < REPLACE_AFTER {
            return;
        }
        self.current.send_if_modified(|current| {
            if current.began != attempt.began || current.began.elapsed() < REPLACE_AFTER {
                return false;
            }
            match Attempt::begin(&self.client) {
                Ok(next) => *current = next,
                Err(error) => {
                    tracing::warn!(%error, "replacing the connection to Redis failed; the next error tries again");
                    return false;
                }
            }
            metrics::counter!("redis_reconnects_total").increment(1);
            tracing::debug!(%error, "replaced the connection to Redis");
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

/// The first error in a reply.
fn error_in<T>(reply: &RedisResult<T>, values: impl Fn(&T) -> &[Value]) -> Option<RedisError> {
    match reply {
        Err(error) => Some(error.clone()),
        Ok(reply) => values(reply).iter().find_map(|value| match value {
            Value::ServerError(error) => Some(error.clone().into()),
            _ => None,
        }),
    }
}

/// Whether an error is what a server says that works: the client loads the script, and calls it again.
fn is_of_use(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Whether another connection may lead to a better server.
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
