//! The open connections of this node, by the ids of their sockets.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use socketioxide::extract::SocketRef;
use socketioxide::socket::Sid;
use socketioxide::{SendError, SocketError, TransportType};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::acknowledgement::AckRequest;
use super::counted_bytes::{CountedBytes, QueueTotals};
use super::queue_registry::QueueRegistry;
use super::rate_limit::{PACKET_SEPARATOR, RateLimit};
use super::send_queue::{SendQueue, Sent, Urgency};
use super::wire_frame::WireFrame;

/// How many connections without an authenticated socket may be open at a time. Each stays for at most
/// [`super::socket_io::CONNECT_TIMEOUT`]; a client that has its token ready needs one round trip.
const UNAUTHENTICATED_MAX: usize = 16_384;
/// How long a connection may stay open after its socket left, if no other socket comes.
const UNUSED_TIMEOUT: Duration = Duration::from_secs(10);
/// How many bytes may wait for all sockets of the node. Beyond that it closes those that take nothing.
const QUEUED_BYTES_MAX: usize = 64 << 20;
/// It closes so many of them that this remains.
const QUEUED_BYTES_KEPT: usize = 48 << 20;
/// About how many bytes the packet has that connects a socket.
const CONNECT_BYTES: usize = 32;

domain::limit_rows! {
    Sockets, "connections without an authenticated socket, on a node", Count UNAUTHENTICATED_MAX, "503 `busy`", "open files";
    Sockets, "time from the end of a socket to the next one on the same connection", Time UNUSED_TIMEOUT, "the server closes the connection", "open files";
    Sockets, "what waits for all sockets of a node", Bytes QUEUED_BYTES_MAX, "the connections close that have taken nothing for the longest time", "memory";
}

/// The connections of this node's sockets. Clones share them.
#[derive(Clone)]
pub(crate) struct Connections {
    sockets: Arc<Mutex<SocketStates>>,
    /// A permit for each connection without an authenticated socket.
    unauthenticated: Arc<Semaphore>,
    totals: Arc<QueueTotals>,
    queues: Arc<QueueRegistry>,
    /// Cuts every stream.
    cut_all: CancellationToken,
    /// Closes the session of a polling socket; none once the node has stopped.
    close_session: Arc<Mutex<Option<CloseSession>>>,
}

type CloseSession = Box<dyn Fn(Sid) + Send + Sync>;

/// What the node knows of a socket by its id alone, as requests name it.
#[derive(Default)]
struct SocketStates {
    /// The queues of sockets that began with polling and have a stream now, or are about to.
    upgraded: HashMap<Sid, Arc<SendQueue>>,
    /// Sockets that the node is closing. Until they are gone, the node answers none of their requests.
    closing: HashSet<Sid>,
    authenticated: HashMap<Sid, AuthenticatedSocket>,
}

struct AuthenticatedSocket {
    /// The rate limit of a socket that uses polling.
    rate_limit: RateLimit,
    queue: Arc<SendQueue>,
}

/// One connection. It travels with the request that opened it, so it exists as long as the connection does.
pub(super) struct Connection {
    connections: Connections,
    /// What waits for the client. None before a polling socket has authenticated.
    queue: OnceLock<Arc<SendQueue>>,
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

    /// The queue of a connection that began with WebSocket.
    pub(super) fn queue(&self) -> Arc<SendQueue> {
        self.queue.get_or_init(|| self.connections.new_queue()).clone()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(id) = self.id.get() {
            let mut sockets = self.connections.lock();
            sockets.closing.remove(id);
            sockets.authenticated.remove(id);
        }
    }
}

impl Connections {
    /// No connections yet.
    pub(crate) fn new() -> Self {
        Self {
            sockets: Arc::default(),
            unauthenticated: Arc::new(Semaphore::new(UNAUTHENTICATED_MAX)),
            totals: Arc::default(),
            queues: Arc::default(),
            cut_all: CancellationToken::new(),
            close_session: Arc::default(),
        }
    }

    pub(super) fn new_queue(&self) -> Arc<SendQueue> {
        let queue = SendQueue::new(&self.totals, self.cut_all.child_token());
        self.queues.add(&queue);
        queue
    }

    /// Sets what closes the session of a polling socket.
    pub(super) fn on_close(&self, close_session: CloseSession) {
        *self.lock_close_session() = Some(close_session);
    }

    fn lock_close_session(&self) -> MutexGuard<'_, Option<CloseSession>> {
        self.close_session.lock().unwrap_or_else(PoisonError::into_inner)
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
            queue: OnceLock::new(),
            unauthenticated: Mutex::new(Some(permit)),
            in_use: AtomicBool::new(false),
            id: OnceLock::new(),
        }))
    }

    /// Marks the connection under a socket that has just authenticated as used. The library sends the packet that
    /// connects the socket next.
    pub(crate) fn mark_authenticated(&self, socket: &SocketRef) {
        let Some(connection) = Connection::of(socket) else { return };
        connection.in_use.store(true, Ordering::Relaxed);
        connection.unauthenticated.lock().unwrap_or_else(PoisonError::into_inner).take();
        let id = *connection.id.get_or_init(|| socket.id);
        let mut sockets = self.lock();
        let upgraded = sockets.upgraded.get(&id).cloned();
        let queue = connection.queue.get_or_init(|| upgraded.unwrap_or_else(|| self.new_queue())).clone();
        queue.socket.get_or_init(|| id);
        queue.enter_library(CONNECT_BYTES);
        let rate_limit = RateLimit::new();
        sockets.authenticated.entry(id).or_insert_with(|| AuthenticatedSocket { rate_limit, queue });
    }

    /// Drops what waits for a socket that has left its connection.
    pub(crate) fn discard_frames(&self, socket: &SocketRef) {
        if let Some(queue) = Connection::of(socket).and_then(|connection| connection.queue.get()) {
            queue.discard_frames();
        }
    }

    /// Encodes a frame; `arguments` is a tuple.
    ///
    /// # Errors
    /// When the arguments can't be serialized.
    pub(crate) fn encode(
        &self,
        name: &'static str,
        arguments: &impl Serialize,
    ) -> Result<Arc<WireFrame>, serde_json::Error> {
        WireFrame::event(name, arguments, &self.totals)
    }

    /// Sends a frame to a socket.
    pub(crate) fn send(&self, socket: &SocketRef, frame: &Arc<WireFrame>, urgency: Urgency) -> Sent {
        let Some(queue) = Connection::of(socket).and_then(|connection| connection.queue.get()) else {
            return Sent::Ended;
        };
        if !socket.connected() {
            return Sent::Ended;
        }
        if !is_polling(socket) {
            return queue.push(frame, urgency);
        }
        through_library(queue, frame.len(), || emit(socket, frame))
    }

    /// Acknowledges a client's event, if the client wants that.
    pub(crate) fn acknowledge(&self, socket: &SocketRef, request: AckRequest, value: &RawValue) -> Sent {
        let Some((id, sender)) = request.0 else { return Sent::Ended };
        let Some(queue) = Connection::of(socket).and_then(|connection| connection.queue.get()) else {
            return Sent::Ended;
        };
        if !is_polling(socket) {
            return queue.push(&WireFrame::acknowledgement(id, value, &self.totals), Urgency::Live);
        }
        through_library(queue, value.get().len(), || {
            sender
                .send(value)
                .map_err(|error| if let SendError::Socket(error) = error { error } else { SocketError::Closed })
        })
    }

    /// Closes the connections whose clients have taken nothing for the longest time, if too much waits on this node.
    pub(crate) fn make_room(&self) {
        if self.totals.bytes() <= QUEUED_BYTES_MAX {
            return;
        }
        for queue in self.queues.longest_waiting() {
            if self.totals.bytes() <= QUEUED_BYTES_KEPT {
                return;
            }
            if let Some(id) = queue.socket.get()
                && self.close_queue(*id, &queue)
            {
                metrics::counter!("realtime_slow_sockets_total", "reason" => "node").increment(1);
                tracing::info!(socket = %id, "too much waits for the sockets of this node; closing one that takes nothing");
            }
        }
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
        connection.queue.get().is_some_and(|queue| self.close_queue(id, queue))
    }

    /// Closes a connection, and drops at once what waits for its client.
    fn close_queue(&self, id: Sid, queue: &SendQueue) -> bool {
        if !self.lock().closing.insert(id) {
            return false;
        }
        queue.close();
        // Does nothing to a socket with a stream.
        if let Some(close_session) = &*self.lock_close_session() {
            close_session(id);
        }
        true
    }

    /// Cuts every stream. Polling connections stay.
    pub(crate) fn cut_all(&self) {
        self.cut_all.cancel();
        // It refers to the service, which refers to these connections.
        self.lock_close_session().take();
    }

    /// Whether the node is closing this socket.
    pub(super) fn is_closing(&self, socket: Sid) -> bool {
        self.lock().closing.contains(&socket)
    }

    /// Records that a polling socket upgrades to a WebSocket. Returns the queue of its stream; none if the node is closing
    /// the socket, or the socket has a stream already.
    pub(super) fn upgrade(&self, socket: Sid) -> Option<Arc<SendQueue>> {
        let mut sockets = self.lock();
        if sockets.closing.contains(&socket) || sockets.upgraded.contains_key(&socket) {
            return None;
        }
        let queue = sockets.authenticated.get(&socket).map(|socket| socket.queue.clone());
        let queue = queue.unwrap_or_else(|| self.new_queue());
        sockets.upgraded.insert(socket, queue.clone());
        Some(queue)
    }

    /// Forgets the stream of a socket that upgraded from polling.
    pub(super) fn forget_upgrade(&self, socket: Sid) {
        self.lock().upgraded.remove(&socket);
    }

    /// Counts the packets in the response to a polling request. Returns the response, which counts against the node's
    /// total until the client has it.
    pub(super) fn polled(&self, socket: Sid, body: Bytes) -> Bytes {
        let queue = self.lock().authenticated.get(&socket).map(|socket| socket.queue.clone());
        if let Some(queue) = queue {
            queue.polled(body.split(|byte| *byte == PACKET_SEPARATOR));
        }
        Bytes::from_owner(CountedBody { counted: CountedBytes::new(body.len(), &self.totals), body })
    }

    /// A function that counts the packets of one polling request, and returns false if they are too many.
    pub(super) fn packet_limit(&self, socket: Sid) -> impl FnMut(u32) -> bool + Send + 'static {
        let connections = self.clone();
        // A connection without an authenticated socket has no limit yet: each of its requests has its own.
        let mut request_limit = RateLimit::new();
        move |packets| {
            let mut sockets = connections.lock();
            let limit = sockets.authenticated.get_mut(&socket).map(|socket| &mut socket.rate_limit);
            limit.unwrap_or(&mut request_limit).admit(packets)
        }
    }
}

/// The body of a response that counts until it is dropped.
struct CountedBody {
    body: Bytes,
    #[expect(dead_code, reason = "counts until it is dropped")]
    counted: CountedBytes,
}

impl AsRef<[u8]> for CountedBody {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

fn is_polling(socket: &SocketRef) -> bool {
    socket.transport_type() == TransportType::Polling
}

/// Gives the library a packet of so many bytes for a polling client.
fn through_library(queue: &SendQueue, bytes: usize, send: impl FnOnce() -> Result<(), SocketError>) -> Sent {
    let entered = queue.enter_library(bytes);
    if entered != Sent::Queued {
        return entered;
    }
    let refused = match send() {
        Ok(()) => return Sent::Queued,
        Err(SocketError::InternalChannelFull) => Sent::NoRoom,
        Err(_) => Sent::Ended,
    };
    queue.library_refused();
    refused
}

fn emit(socket: &SocketRef, frame: &WireFrame) -> Result<(), SocketError> {
    let emitted = match frame.to_event() {
        Some((name, arguments)) => match arguments[..] {
            [first] => socket.emit(name, &(first,)),
            [first, second] => socket.emit(name, &(first, second)),
            _ => return Err(SocketError::Closed),
        },
        None => return Err(SocketError::Closed),
    };
    emitted.map_err(|error| if let SendError::Socket(error) = error { error } else { SocketError::Closed })
}
