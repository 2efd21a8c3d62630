//! Realtime: delivers events from the log to the sockets of the users whom they concern.
//!
//! Every node reads the whole topic, and decodes only the records for which it has a room. Realtime must never open
//! Postgres, and never wait for the projector before it delivers an event.
//!
//! From the bottom up: `transport` has the connections under the sockets, `rooms` the users and conversations of this
//! node, `server_events` what sockets get, `delivery` the way from the log to the rooms, `presence` who is online, and
//! `session` a socket's life. `description` describes it for clients.

// A request pays for each byte of its future, which is moved and boxed: what it rarely awaits is in a box of its own.
#![warn(clippy::large_futures)]

mod delivery;
mod description;
mod presence;
mod rooms;
mod server_events;
mod session;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use cache::{Cache, CacheError, Progress};
use domain::PositionVector;
use event_log::{LogConsumer, LogError, StartAt};
use service::auth::Auth;
use service::health::{Fault, HealthChecks};
use service::token::PositionTokens;
use socketioxide::SocketIo;
use socketioxide::service::SocketIoService;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use delivery::{FrameSender, LagMonitor, Relay, RelayHealth, RelayTail, TailDelivery, TypingTimeouts};
use presence::{Heartbeat, NodeExpiry, PresencePublisher, PresenceQuery, PresenceRecorder, UserChanges};
use rooms::{MembershipLookup, Rooms};
use session::{CONCURRENT_JOINS, SessionContext, SocketLimit};
use transport::Connections;

pub use description::{ClientEventResponse, ClientEventSchema, SocketProtocol, socket_protocol};
pub use server_events::{Recipients, ServerEventSchema};

/// How long sockets may take to close when the node shuts down.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long Kafka may take to report the log's end.
const LOG_END_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before Kafka is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What realtime is made of.
pub struct Parts {
    /// Authenticates sockets.
    pub auth: Auth,
    /// Issues the tokens of `connection:ready`.
    pub tokens: PositionTokens,
    /// Memberships and presence.
    pub cache: Cache,
    /// The projector's published progress.
    pub progress: Progress,
    /// Reads the topic of record. Realtime assigns its partitions, so nothing else may use this consumer.
    pub log: LogConsumer,
    /// Reads the topic of typing events, if that is a separate topic.
    pub typing_log: Option<LogConsumer>,
    /// The base URL of query-api, for memberships that Redis doesn't have.
    pub query_api_url: String,
}

/// Why realtime can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Reading the log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The HTTP client for query-api can't be created.
    #[error("creating the HTTP client failed: {0}")]
    Http(#[from] reqwest::Error),
    /// Redis can't be addressed.
    #[error(transparent)]
    Redis(#[from] CacheError),
}

/// What the tasks and the sessions of this node share.
struct Node {
    /// Identifies this node in presence.
    id: Uuid,
    cache: Cache,
    /// Only for heartbeats.
    heartbeats: Cache,
    progress: Progress,
    rooms: Arc<Rooms>,
    memberships: Arc<MembershipLookup>,
    connections: Connections,
    frames: FrameSender,
    typing: Arc<TypingTimeouts>,
    tail: Arc<RelayTail>,
    health: Arc<RelayHealth>,
    user_changes: Arc<UserChanges>,
    partitions: usize,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Node {
    /// A node with the tail of its relay.
    fn new(parts: &Parts, tail: Arc<RelayTail>, shutdown: CancellationToken) -> Result<Self, StartError> {
        let rooms = Arc::new(Rooms::default());
        let connections = Connections::new();
        Ok(Self {
            id: Uuid::new_v4(),
            cache: parts.cache.clone(),
            heartbeats: parts.cache.with_own_connection()?,
            progress: parts.progress.clone(),
            frames: FrameSender::new(rooms.clone(), connections.clone()),
            rooms,
            memberships: Arc::new(MembershipLookup::new(parts)?),
            connections,
            typing: Arc::default(),
            partitions: tail.relayed().0.len(),
            tail,
            health: Arc::default(),
            user_changes: Arc::default(),
            tasks: TaskTracker::new(),
            shutdown,
        })
    }

    /// Starts the tasks that run until the shutdown.
    fn spawn_tasks(&self, log: Arc<LogConsumer>, typing_log: Option<LogConsumer>) -> Vec<AbortHandle> {
        let publisher = Arc::new(PresencePublisher {
            cache: self.cache.clone(),
            rooms: self.rooms.clone(),
            frames: self.frames.clone(),
            memberships: self.memberships.clone(),
            node: self.id,
        });
        let heartbeat = Heartbeat { cache: self.heartbeats.clone(), rooms: self.rooms.clone(), node: self.id };
        let recorder = PresenceRecorder::new(
            self.cache.clone(),
            self.rooms.clone(),
            self.user_changes.clone(),
            publisher.clone(),
            self.id,
        );
        let expiry = NodeExpiry {
            cache: self.cache.clone(),
            publisher: publisher.clone(),
            node: self.id,
            shutdown: self.shutdown.clone(),
        };
        let monitor = LagMonitor {
            log: log.clone(),
            tail: self.tail.clone(),
            health: self.health.clone(),
            shutdown: self.shutdown.clone(),
        };
        let tasks = &self.tasks;
        let mut running = vec![
            tasks.spawn(self.relay(log, Some(self.tail.clone())).run()).abort_handle(),
            tasks.spawn(self.tail.clone().follow_progress(self.progress.clone(), self.shutdown.clone())).abort_handle(),
            tasks.spawn(monitor.run()).abort_handle(),
            tasks.spawn(self.typing.clone().run(self.frames.clone(), self.shutdown.clone())).abort_handle(),
            tasks.spawn(heartbeat.run(self.shutdown.clone())).abort_handle(),
            tasks.spawn(recorder.run(self.shutdown.clone())).abort_handle(),
            tasks.spawn(publisher.follow_other_nodes(self.shutdown.clone())).abort_handle(),
            tasks.spawn(expiry.run()).abort_handle(),
            tasks.spawn(self.close_repaired()).abort_handle(),
        ];
        if let Some(log) = typing_log {
            running.push(tasks.spawn(self.relay(Arc::new(log), None).run()).abort_handle());
        }
        running
    }

    fn close_repaired(&self) -> impl Future<Output = ()> + use<> {
        let (cache, rooms) = (self.cache.clone(), self.rooms.clone());
        session::close_repaired(cache, rooms, self.connections.clone(), self.shutdown.clone())
    }

    fn relay(&self, log: Arc<LogConsumer>, tail: Option<Arc<RelayTail>>) -> Relay {
        Relay {
            log,
            tail,
            partitions: self.partitions,
            rooms: self.rooms.clone(),
            frames: self.frames.clone(),
            typing: self.typing.clone(),
            shutdown: self.shutdown.clone(),
        }
    }

    fn session_context(&self, auth: Auth, tokens: PositionTokens) -> SessionContext {
        SessionContext {
            auth,
            tokens,
            rooms: self.rooms.clone(),
            memberships: self.memberships.clone(),
            frames: self.frames.clone(),
            connections: self.connections.clone(),
            tail: self.tail.clone(),
            tail_delivery: TailDelivery {
                rooms: self.rooms.clone(),
                frames: self.frames.clone(),
                partitions: self.partitions,
            },
            user_changes: self.user_changes.clone(),
            presence: PresenceQuery {
                cache: self.cache.clone(),
                rooms: self.rooms.clone(),
                memberships: self.memberships.clone(),
                tail: self.tail.clone(),
            },
            socket_limit: SocketLimit::default(),
            joins: Semaphore::new(CONCURRENT_JOINS),
            tasks: self.tasks.clone(),
            shutdown: self.shutdown.clone(),
        }
    }

    /// Closes all sockets at the shutdown.
    fn spawn_close(&self, io: SocketIo) {
        let (shutdown, connections) = (self.shutdown.clone(), self.connections.clone());
        self.tasks.spawn(async move {
            shutdown.cancelled().await;
            // A client that reads nothing doesn't receive the close either, so the node cuts the streams that remain.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, io.close()).await;
            connections.cut_all();
        });
    }
}

/// A running realtime node. Clones share everything.
#[derive(Clone)]
pub struct Realtime {
    service: SocketIoService<Router>,
    auth: Auth,
    node: Arc<Node>,
    /// The tasks that must not end before the shutdown.
    running: Arc<[AbortHandle]>,
}

impl Realtime {
    /// Starts to relay from the log's end. The shutdown stops the relay and closes all sockets. Needs a tokio runtime.
    ///
    /// # Errors
    /// When Kafka doesn't answer.
    pub async fn start(mut parts: Parts, shutdown: CancellationToken) -> Result<Self, StartError> {
        let end = readable_end(&parts.log).await?;
        let from = Relay::assign_before(&parts.log, &end).await?;
        let typing_log = parts.typing_log.take();
        if let Some(log) = &typing_log {
            let end = readable_end(log).await?;
            let starts: Vec<_> = (0..).zip(end.0).map(|(partition, _)| (partition, StartAt::End)).collect();
            log.assign(&starts)?;
        }
        let node = Node::new(&parts, RelayTail::new(&from, &end), shutdown)?;
        let running = node.spawn_tasks(Arc::new(parts.log), typing_log);
        let context = Arc::new(node.session_context(parts.auth.clone(), parts.tokens));
        let (service, io) = transport::socket_io_builder().with_state(context).build_with_inner_svc(Router::new());
        session::register(&io);
        node.spawn_close(io);
        Ok(Self { service, auth: parts.auth, node: Arc::new(node), running: running.into() })
    }

    /// The Socket.IO route: `/socket.io/`.
    pub fn router(&self) -> Router {
        let Node { connections, shutdown, .. } = &*self.node;
        let (connections, shutdown) = (connections.clone(), shutdown.clone());
        transport::router(transport::PATH, self.service.clone(), connections, self.auth.clone(), shutdown)
    }

    /// The next offset of each partition that the relay looks at: it has relayed everything below, or is relaying it.
    pub fn relayed(&self) -> PositionVector {
        self.node.tail.relayed()
    }

    /// Adds the checks of realtime: the process needs a relay that keeps up with the log, and can go on without
    /// query-api.
    #[must_use]
    pub fn health_checks(&self, checks: HealthChecks) -> HealthChecks {
        let memberships = self.node.memberships.clone();
        let checks = checks.with_optional("query-api", move || {
            let memberships = memberships.clone();
            async move { memberships.check_query_api().await }
        });
        let running = self.running.clone();
        let relay_health = self.node.health.clone();
        checks.with_required("realtime", move || {
            let ended = running.iter().any(AbortHandle::is_finished);
            let health = if ended { Err("a task has ended".to_owned()) } else { relay_health.get() };
            let health = health.map_err(Fault::HalfWorks);
            async move { health }
        })
    }

    /// Waits at most `timeout` until all sockets are closed and all tasks have ended. Call this after the shutdown is
    /// cancelled.
    pub async fn finish(&self, timeout: Duration) {
        let tasks = &self.node.tasks;
        tasks.close();
        if tokio::time::timeout(timeout, tasks.wait()).await.is_err() {
            tracing::warn!(unfinished = tasks.len(), "the process stops before every socket is closed");
        }
    }
}

/// The offsets up to which the log can be read. The relay delivers everything from there on: also what an open
/// transaction of another producer holds back now. Retries for a while: right after a process has created the topic,
/// some brokers don't know yet that they lead its partitions.
async fn readable_end(log: &LogConsumer) -> Result<PositionVector, LogError> {
    let deadline = Instant::now() + LOG_END_TIMEOUT;
    loop {
        match log.readable_end_offsets().await {
            Err(error) if Instant::now() < deadline => {
                tracing::info!(%error, "reading the log's end failed; retrying");
            }
            result => return result,
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// The limits of this crate, for `docs/limits.md`.
pub const LIMITS: &[&[domain::limit_rows::LimitRow]] = &[
    transport::CONNECTION_LIMITS,
    transport::SOCKET_IO_LIMITS,
    transport::PACKET_LIMITS,
    session::SOCKET_LIMITS,
    session::JOIN_LIMITS,
    session::LOOKUP_LIMITS,
    session::QUERY_LIMITS,
    transport::QUEUE_LIMITS,
    presence::QUERY_LIMITS,
    presence::PUBLICATION_LIMITS,
    delivery::TYPING_LIMITS,
    delivery::TAIL_LIMITS,
    delivery::DEDUP_LIMITS,
];
