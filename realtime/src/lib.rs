//! Realtime: from the log to the sockets of those whom it concerns, without a database and without waiting for
//! the projector.
//!
//! Every node reads the whole topic and looks into what has a room here. Rooms are kept here rather than in the
//! Socket.IO library, because a frame that doesn't fit into a socket's buffer must be known by its socket.

mod connect;
mod deliver;
mod frames;
mod memberships;
mod pace;
mod presence;
mod recent;
mod redirect;
mod relay;
mod rooms;
mod seats;
mod stream;
#[cfg(test)]
mod suites;
mod transport;
mod typing;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use cache::{Cache, Progress};
use domain::PositionVector;
use event_log::{LogConsumer, LogError, StartAt};
use service::auth::Auth;
use service::readiness::Readiness;
use service::token::PositionTokens;
use socketioxide::service::SocketIoService;
use socketioxide::{ParserConfig, SocketIo, SocketIoBuilder};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// Where the sockets are.
const PATH: &str = "/socket.io/";
/// The largest message that a client may send.
const MESSAGE_BYTES: usize = 64 << 10;
/// How many frames may wait for a slow socket.
const SOCKET_BUFFER: usize = 128;
/// How often a socket is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may stay without a socket that was let in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long sockets may take to hear that the node stops.
const GOODBYE: Duration = Duration::from_secs(1);
/// How many sockets may be joining their rooms at a time, so that thousands at once don't fell the query side.
const JOINING: usize = 64;
/// How long the log may take to say where it ends.
const LOG_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before it is asked again.
const LOG_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What realtime is made of.
pub struct Parts {
    /// Who may connect.
    pub auth: Auth,
    /// Issues the tokens of `connection:ready`.
    pub tokens: PositionTokens,
    /// Memberships and presence.
    pub cache: Cache,
    /// How far the projector is.
    pub progress: Progress,
    /// Reads the topic; a consumer of realtime's own, for it is assigned here.
    pub log: LogConsumer,
    /// Reads the topic of typing events, where that is another one.
    pub typing_log: Option<LogConsumer>,
    /// Where query-api is, for memberships that Redis doesn't have.
    pub query_api_url: String,
}

/// Why realtime can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// There can be no client for query-api.
    #[error("the HTTP client: {0}")]
    Http(#[from] reqwest::Error),
}

/// What the handlers and tasks share.
struct Shared {
    auth: Auth,
    tokens: PositionTokens,
    cache: Cache,
    memberships: memberships::Memberships,
    rooms: rooms::Rooms,
    seats: seats::Seats,
    transports: transport::Transports,
    presence: presence::Presence,
    typing: typing::Typing,
    health: relay::Health,
    partitions: usize,
    /// Everything below these offsets was relayed, or is being relayed.
    processed: Mutex<PositionVector>,
    joining: Semaphore,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// Which node this is, in presence.
    node: Uuid,
}

impl Shared {
    fn processed(&self) -> PositionVector {
        self.processed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A running realtime worker; its copies are the same.
#[derive(Clone)]
pub struct Realtime {
    service: SocketIoService<Router>,
    shared: Arc<Shared>,
    /// The tasks that must not end before the shutdown.
    running: Arc<[AbortHandle]>,
}

impl Realtime {
    /// Starts to relay from the log's end on, until the shutdown, which also closes all sockets. Needs a tokio
    /// runtime.
    ///
    /// # Errors
    /// When Kafka doesn't answer.
    pub async fn start(parts: Parts, shutdown: CancellationToken) -> Result<Self, StartError> {
        let end = end_offsets(&parts.log).await?;
        relay::begin(&parts.log, &end).await?;
        let typing_log = match parts.typing_log {
            Some(ref log) => Some(end_offsets(log).await?),
            None => None,
        };
        let shared = Arc::new(Shared {
            memberships: memberships::Memberships::new(&parts)?,
            auth: parts.auth,
            tokens: parts.tokens,
            cache: parts.cache,
            rooms: rooms::Rooms::default(),
            seats: seats::Seats::default(),
            transports: transport::Transports::new(),
            presence: presence::Presence::default(),
            typing: typing::Typing::default(),
            health: relay::Health::default(),
            partitions: end.0.len(),
            processed: Mutex::new(end),
            joining: Semaphore::new(JOINING),
            tasks: TaskTracker::new(),
            shutdown,
            node: Uuid::new_v4(),
        });
        let tasks = &shared.tasks;
        let log = Arc::new(parts.log);
        let mut running = vec![
            tasks.spawn(relay::run(shared.clone(), log.clone(), Some(shared.processed()))).abort_handle(),
            tasks.spawn(relay::watch(shared.clone(), log)).abort_handle(),
            tasks.spawn(typing::run(shared.clone())).abort_handle(),
            tasks.spawn(presence::run(shared.clone())).abort_handle(),
            tasks.spawn(presence::follow(shared.clone())).abort_handle(),
            tasks.spawn(presence::sweep(shared.clone())).abort_handle(),
        ];
        if let (Some(log), Some(end)) = (parts.typing_log, typing_log) {
            let starts: Vec<_> = (0..).zip(end.0).map(|(partition, _)| (partition, StartAt::End)).collect();
            log.assign(&starts)?;
            running.push(tasks.spawn(relay::run(shared.clone(), Arc::new(log), None)).abort_handle());
        }
        let (service, io) = socket_io(&shared);
        let leaving = shared.clone();
        shared.tasks.spawn(async move {
            leaving.shutdown.cancelled().await;
            // Whoever takes nothing doesn't take their leave either.
            let _ = tokio::time::timeout(GOODBYE, io.close()).await;
            leaving.transports.cut_all();
        });
        Ok(Self { service, shared, running: running.into() })
    }

    /// The route of Socket.IO: `/socket.io/`.
    pub fn router(&self) -> Router {
        let shared = &self.shared;
        transport::router(PATH, self.service.clone(), shared.transports.clone(), shared.shutdown.clone())
    }

    /// The next offset of each partition that the relay looks at: everything below was relayed, or is being relayed.
    pub fn relayed(&self) -> PositionVector {
        self.shared.processed()
    }

    /// Adds whether the relay follows the log to what a process needs to be ready, and query-api to what helps it.
    #[must_use]
    pub fn readiness(&self, readiness: Readiness) -> Readiness {
        let (shared, running) = (self.shared.clone(), self.running.clone());
        let asking = shared.clone();
        let readiness = readiness.with_optional("query-api", move || {
            let asking = asking.clone();
            async move { asking.memberships.reachable().await }
        });
        readiness.with_required("realtime", move || {
            let ended = running.iter().any(AbortHandle::is_finished);
            let health = if ended { Err("a task ended".to_owned()) } else { shared.health.now() };
            async move { health }
        })
    }

    /// Waits, at most `limit`, until what the shutdown began is done: all sockets are told goodbye and the tasks
    /// have ended. Call it once the shutdown is cancelled.
    pub async fn finish(&self, limit: Duration) {
        self.shared.tasks.close();
        if tokio::time::timeout(limit, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!("stopped before every socket was closed");
        }
    }
}

/// Where the log ends. Of a topic that another process made a moment ago, not every broker knows yet what it leads.
async fn end_offsets(log: &LogConsumer) -> Result<PositionVector, LogError> {
    let deadline = Instant::now() + LOG_TIMEOUT;
    loop {
        match log.end_offsets().await {
            Err(error) if Instant::now() < deadline => tracing::info!(%error, "the log's end isn't known yet"),
            known => return known,
        }
        tokio::time::sleep(LOG_AGAIN_AFTER).await;
    }
}

/// The Socket.IO library, as it is set up here.
fn library() -> SocketIoBuilder {
    SocketIo::builder()
        .max_payload(MESSAGE_BYTES as u64)
        .ws_max_message_size(MESSAGE_BYTES)
        .ws_max_frame_size(MESSAGE_BYTES)
        .max_buffer_size(SOCKET_BUFFER)
        .ping_interval(PING_INTERVAL)
        .ping_timeout(PING_TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        // Nothing binary is ever sent to us.
        .with_parser(ParserConfig::common().max_incoming_binaries(0))
}

fn socket_io(shared: &Arc<Shared>) -> (SocketIoService<Router>, SocketIo) {
    let (service, io) = library().with_state(shared.clone()).build_with_inner_svc(Router::new());
    connect::serve(&io);
    (service, io)
}
