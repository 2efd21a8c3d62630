//! The open connections of this node, by the ids of their sockets.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use socketioxide::extract::SocketRef;
use socketioxide::socket::Sid;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::rate_limit::RateLimit;

/// How many connections without an authenticated socket may be open at a time. Each stays for at most
/// [`super::socket_io::CONNECT_TIMEOUT`]; a client that has its token ready needs one round trip.
const UNAUTHENTICATED_MAX: usize = 16_384;
/// How long a connection may stay open after its socket left, if no other socket comes.
const UNUSED_TIMEOUT: Duration = Duration::from_secs(10);

/// The connections of this node's sockets. Clones share them.
#[derive(Clone)]
pub(crate) struct Connections {
    sockets: Arc<Mutex<SocketStates>>,
    /// A permit for each connection without an authenticated socket.
    unauthenticated: Arc<Semaphore>,
    /// Cuts every stream.
    cut_all: CancellationToken,
}

/// What the node knows of a socket by its id alone, as requests name it.
#[derive(Default)]
struct SocketStates {
    /// The tokens that cut the streams of sockets that began with polling. Only their ids are known before the upgrade;
    /// other sockets have their token in the [`Connection`].
    upgraded: HashMap<Sid, CancellationToken>,
    /// Sockets that the node is closing. Until they are gone, the node answers none of their requests.
    closing: HashSet<Sid>,
    /// The rate limits of authenticated sockets that use polling.
    rate_limits: HashMap<Sid, RateLimit>,
}

/// One connection. It travels with the request that opened it, so it exists as long as the connection does.
pub(super) struct Connection {
    connections: Connections,
    /// Cuts the stream of a socket that began with WebSocket.
    cut: CancellationToken,
    /// Held until a socket authenticates.
    unauthenticated: Mutex<Option<OwnedSemaphorePermit>>,
    /// Whether the connection has an authenticated socket now.
    in_use: AtomicBool,
    /// The id of its sockets; known once a socket has authenticated.
    id: OnceLock<Sid>,
}

impl Connection {
    /// The connection under a socket. Each socket has one: the route lets no request without it pass.
    fn of(socket: &SocketRef) -> Option<&Arc<Self>> {
        socket.req_parts().extensions.get()
    }

    /// The token that cuts the stream of a socket that began with WebSocket.
    pub(super) fn cut_token(&self) -> CancellationToken {
        self.cut.clone()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(id) = self.id.get() {
            let mut sockets = self.connections.lock();
            sockets.closing.remove(id);
            sockets.rate_limits.remove(id);
        }
    }
}

impl Connections {
    /// No connections yet.
    pub(crate) fn new() -> Self {
        Self {
            sockets: Arc::default(),
            unauthenticated: Arc::new(Semaphore::new(UNAUTHENTICATED_MAX)),
            cut_all: CancellationToken::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, SocketStates> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a connection; none if [`UNAUTHENTICATED_MAX`] connections have no authenticated socket.
    pub(super) fn open(&self) -> Option<Arc<Connection>> {
        let Ok(permit) = self.unauthenticated.clone().try_acquire_owned() else {
            metrics::counter!("realtime_turned_away_total", "reason" => "connections").increment(1);
            return None;
        };
        Some(Arc::new(Connection {
            connections: self.clone(),
            cut: self.cut_all.child_token(),
            unauthenticated: Mutex::new(Some(permit)),
            in_use: AtomicBool::new(false),
            id: OnceLock::new(),
        }))
    }

    /// Marks the connection under a socket that has just authenticated as used.
    pub(crate) fn mark_authenticated(&self, socket: &SocketRef) {
        let Some(connection) = Connection::of(socket) else { return };
        connection.in_use.store(true, Ordering::Relaxed);
        connection.unauthenticated.lock().unwrap_or_else(PoisonError::into_inner).take();
        connection.id.get_or_init(|| socket.id);
        self.lock().rate_limits.entry(socket.id).or_insert_with(RateLimit::new);
    }

    /// Waits [`UNUSED_TIMEOUT`] after a socket left its connection, then closes the connection unless another socket
    /// has authenticated on it.
    pub(crate) async fn close_if_unused(&self, socket: SocketRef) {
        let Some(connection) = Connection::of(&socket) else { return };
        connection.in_use.store(false, Ordering::Relaxed);
        let id = socket.id;
        let connection = Arc::downgrade(connection);
        drop(socket);
        tokio::time::sleep(UNUSED_TIMEOUT).await;
        if let Some(connection) = connection.upgrade()
            && !connection.in_use.load(Ordering::Relaxed)
        {
            self.close_connection(id, &connection);
        }
    }

    /// Closes the connection under a socket in a way that makes its client reconnect by itself. Returns false if the
    /// node is closing it already.
    pub(crate) fn close(&self, socket: &SocketRef) -> bool {
        Connection::of(socket).is_some_and(|connection| self.close_connection(socket.id, connection))
    }

    fn close_connection(&self, id: Sid, connection: &Connection) -> bool {
        let mut sockets = self.lock();
        if !sockets.closing.insert(id) {
            return false;
        }
        if let Some(cut) = sockets.upgraded.get(&id) {
            cut.cancel();
        }
        connection.cut.cancel();
        true
    }

    /// Cuts every stream. Polling connections stay.
    pub(crate) fn cut_all(&self) {
        self.cut_all.cancel();
    }

    /// Whether the node is closing this socket.
    pub(super) fn is_closing(&self, socket: Sid) -> bool {
        self.lock().closing.contains(&socket)
    }

    /// Records that a polling socket upgrades to a WebSocket. Returns the token that cuts its stream; none if the node
    /// is closing the socket, or the socket has a stream already.
    pub(super) fn upgrade(&self, socket: Sid) -> Option<CancellationToken> {
        let mut sockets = self.lock();
        if sockets.closing.contains(&socket) || sockets.upgraded.contains_key(&socket) {
            return None;
        }
        let cut = self.cut_all.child_token();
        sockets.upgraded.insert(socket, cut.clone());
        Some(cut)
    }

    /// Forgets the stream of a socket that upgraded from polling.
    pub(super) fn forget_upgrade(&self, socket: Sid) {
        self.lock().upgraded.remove(&socket);
    }

    /// A function that counts the packets of one polling request, and returns false if they are too many.
    pub(super) fn packet_limit(&self, socket: Sid) -> impl FnMut(u32) -> bool + Send + 'static {
        let connections = self.clone();
        // A connection without an authenticated socket has no limit yet: each of its requests has its own.
        let mut request_limit = RateLimit::new();
        move |packets| connections.lock().rate_limits.get_mut(&socket).unwrap_or(&mut request_limit).admit(packets)
    }
}
