//! The connections under the sockets, how many there may be, and how to end one.
//!
//! The Socket.IO library can't close the connection of one socket: its `disconnect` only leaves the namespace,
//! after which official clients don't come back by themselves, and does nothing at all while the socket's buffer
//! is full. Nor does it give up on a peer that takes no bytes. So the upgrade to WebSocket is made here, over a
//! stream that can be cut and that fails when it stalls; a polling client is refused its next request.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{self, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use hyper::upgrade::OnUpgrade;
use service::problem::Problem;
use socketioxide::extract::SocketRef;
use socketioxide::service::SocketIoService;
use socketioxide::socket::Sid;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::pace::{self, Pace};
use crate::stream::Stream;

/// How long the upgrade itself may take.
const UPGRADE: Duration = Duration::from_secs(10);
/// How many connections may be open at a time over which no socket was let in yet. Each is for at most
/// [`crate::CONNECT_TIMEOUT`]; a client that has its token ready needs one round trip.
const STRANGERS: usize = 16_384;
/// Engine.IO's packet that closes a session.
const CLOSE: &str = "1";
/// How long a connection may stay after its socket left and none came instead.
const LINGER: Duration = Duration::from_secs(10);

/// The connections of this node's sockets. Clones share them.
#[derive(Clone)]
pub(crate) struct Transports {
    inner: Arc<Mutex<Inner>>,
    /// Places for connections over which no socket was let in yet.
    strangers: Arc<Semaphore>,
    /// Cuts every stream.
    all: CancellationToken,
}

#[derive(Default)]
struct Inner {
    /// Of sockets that began with polling: only then is the socket known before its stream.
    upgraded: HashMap<Sid, CancellationToken>,
    /// Sockets that are being closed. Until they are gone they get no further request.
    closing: HashSet<Sid>,
    /// How fast the packets of sockets that were let in come by polling.
    paces: HashMap<Sid, Pace>,
}

/// A connection. It travels with the request that opened it, and so is there as long as the connection.
pub(crate) struct Connection {
    transports: Transports,
    /// Cuts the stream of a socket that began with WebSocket.
    cut: CancellationToken,
    /// Its place among the strangers, until a socket is let in.
    stranger: Mutex<Option<OwnedSemaphorePermit>>,
    /// Whether a socket is there that was let in.
    used: AtomicBool,
    /// Its sockets' id; known once one was let in.
    id: OnceLock<Sid>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(id) = self.id.get() {
            let mut inner = self.transports.lock();
            inner.closing.remove(id);
            inner.paces.remove(id);
        }
    }
}

/// A client sent more packets than it may.
pub(crate) fn too_many_packets() {
    metrics::counter!("realtime_turned_away_total", "reason" => "packets").increment(1);
}

impl Transports {
    pub(crate) fn new() -> Self {
        Self { inner: Arc::default(), strangers: Arc::new(Semaphore::new(STRANGERS)), all: CancellationToken::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more connection; none when there are too many strangers.
    fn open(&self) -> Option<Arc<Connection>> {
        let Ok(place) = self.strangers.clone().try_acquire_owned() else {
            metrics::counter!("realtime_turned_away_total", "reason" => "connections").increment(1);
            return None;
        };
        Some(Arc::new(Connection {
            transports: self.clone(),
            cut: self.all.child_token(),
            stranger: Mutex::new(Some(place)),
            used: AtomicBool::new(false),
            id: OnceLock::new(),
        }))
    }

    /// A socket was let in: its connection is no stranger's any more.
    pub(crate) fn let_in(&self, socket: &SocketRef) {
        let Some(connection) = connection(socket) else { return };
        connection.used.store(true, Ordering::Relaxed);
        connection.stranger.lock().unwrap_or_else(PoisonError::into_inner).take();
        connection.id.get_or_init(|| socket.id);
        self.lock().paces.entry(socket.id).or_insert_with(Pace::new);
    }

    /// A socket left, and its connection may still be there: it isn't for long, unless a socket is let in again.
    pub(crate) async fn left(&self, socket: SocketRef) {
        let Some(connection) = connection(&socket) else { return };
        connection.used.store(false, Ordering::Relaxed);
        let (id, connection) = (socket.id, Arc::downgrade(connection));
        drop(socket);
        tokio::time::sleep(LINGER).await;
        if let Some(connection) = connection.upgrade()
            && !connection.used.load(Ordering::Relaxed)
        {
            self.close_connection(id, &connection);
        }
    }

    /// Closes the connection under a socket, so that its client comes back by itself. False when that was
    /// begun already.
    pub(crate) fn close(&self, socket: &SocketRef) -> bool {
        connection(socket).is_some_and(|connection| self.close_connection(socket.id, connection))
    }

    fn close_connection(&self, id: Sid, connection: &Connection) -> bool {
        let mut inner = self.lock();
        if !inner.closing.insert(id) {
            return false;
        }
        if let Some(cut) = inner.upgraded.get(&id) {
            cut.cancel();
        }
        connection.cut.cancel();
        true
    }

    /// Cuts every connection that is a stream.
    pub(crate) fn cut_all(&self) {
        self.all.cancel();
    }

    fn is_closing(&self, socket: Sid) -> bool {
        self.lock().closing.contains(&socket)
    }

    /// Notes the stream to which a polling socket is upgraded; false when the socket is being closed, or has one.
    fn upgrade(&self, socket: Sid, cut: &CancellationToken) -> bool {
        let mut inner = self.lock();
        if inner.closing.contains(&socket) || inner.upgraded.contains_key(&socket) {
            return false;
        }
        inner.upgraded.insert(socket, cut.clone());
        true
    }

    /// What counts the packets that come in one polling request of a socket; false when they are too many.
    fn counter(&self, socket: Sid) -> impl FnMut(u32) -> bool + Send + 'static {
        let transports = self.clone();
        // Of a connection over which nobody was let in yet, each request counts by itself.
        let mut alone = Pace::new();
        move |packets| {
            let within = transports.lock().paces.get_mut(&socket).unwrap_or(&mut alone).count(packets);
            if !within {
                too_many_packets();
            }
            within
        }
    }
}

/// The connection under a socket. Each has one: no request gets past [`serve`] without.
fn connection(socket: &SocketRef) -> Option<&Arc<Connection>> {
    socket.req_parts().extensions.get()
}

/// The library's service, as far as connections are concerned.
pub(crate) trait Library: Clone + Send + Sync + 'static {
    /// Answers a request. One for an upgrade is only answered: the connection stays ours.
    fn answer(&mut self, request: Request) -> impl Future<Output = Response> + Send;
    /// Takes a WebSocket.
    fn take(&mut self, stream: Stream, opening: http::Request<()>);
}

impl Library for SocketIoService<Router> {
    async fn answer(&mut self, request: Request) -> Response {
        let answered: Result<_, Infallible> = Service::<Request>::call(self, request).await;
        let Ok(response) = answered;
        response.map(Body::new)
    }

    fn take(&mut self, stream: Stream, opening: http::Request<()>) {
        // It is a task of its own, and whatever becomes of it is noticed by the socket.
        drop(Service::<(Stream, http::Request<()>)>::call(self, (stream, opening)));
    }
}

#[derive(Clone)]
struct Serving<L> {
    path: &'static str,
    library: L,
    transports: Transports,
    shutdown: CancellationToken,
}

/// A route of Socket.IO.
pub(crate) fn router<L: Library>(
    path: &'static str,
    library: L,
    transports: Transports,
    shutdown: CancellationToken,
) -> Router {
    Router::new().route(path, any(serve::<L>)).with_state(Serving { path, library, transports, shutdown })
}

async fn serve<L: Library>(State(mut serving): State<Serving<L>>, mut request: Request) -> Response {
    if serving.shutdown.is_cancelled() {
        return Problem::unavailable("unavailable", "this node is stopping; try again", 1).into_response();
    }
    let socket = socket_id(request.uri());
    if socket.is_some_and(|id| serving.transports.is_closing(id)) {
        return StatusCode::BAD_REQUEST.into_response();
    }
    if let Some(socket) = socket {
        let counter = serving.transports.counter(socket);
        request = request.map(|body| pace::counted(body, counter));
    } else {
        let Some(connection) = serving.transports.open() else {
            return Problem::unavailable("busy", "too many clients connect at once; try again", 1).into_response();
        };
        request.extensions_mut().insert(connection);
    }
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let mut opening = http::Request::new(());
    *opening.method_mut() = request.method().clone();
    *opening.uri_mut() = request.uri().clone();
    *opening.headers_mut() = request.headers().clone();
    if let Some(connection) = request.extensions().get::<Arc<Connection>>() {
        opening.extensions_mut().insert(connection.clone());
    }
    let poll = socket.filter(|_| upgrade.is_none() && opening.method() == Method::GET);
    let mut poll = poll.map(|socket| Poll { serving: serving.clone(), socket, answered: false });
    let response = serving.library.answer(request).await;
    if let Some(poll) = &mut poll {
        poll.answered = true;
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(upgrade) = upgrade
    {
        tokio::spawn(serving.stream(upgrade, opening, socket));
    }
    response
}

impl<L: Library> Serving<L> {
    async fn stream(mut self, upgrade: OnUpgrade, opening: http::Request<()>, socket: Option<Sid>) {
        let Ok(Ok(upgraded)) = tokio::time::timeout(UPGRADE, upgrade).await else { return };
        let stream = if let Some(socket) = socket {
            let cut = self.transports.all.child_token();
            if !self.transports.upgrade(socket, &cut) {
                return;
            }
            let ending = self.clone();
            Stream::new(upgraded, cut, Some(Box::new(move || ending.upgraded_ended(socket))))
        } else {
            let Some(connection) = opening.extensions().get::<Arc<Connection>>() else { return };
            Stream::new(upgraded, connection.cut.clone(), None)
        };
        self.library.take(stream, opening);
    }

    /// The stream of a socket that began with polling has ended, or it never was one: for the upgrade the library stops
    /// to ask whether the client is there, and where it breaks off would keep the socket for ever.
    fn upgraded_ended(self, socket: Sid) {
        self.transports.lock().upgraded.remove(&socket);
        // Refused where the upgrade was complete: such a socket ends with its stream.
        self.close_session(socket);
    }

    /// Closes the session of a socket that polls.
    fn close_session(mut self, socket: Sid) {
        let closing = async move {
            let mut request = Request::new(Body::from(CLOSE));
            *request.method_mut() = Method::POST;
            let uri = format!("{}?EIO=4&transport=polling&sid={socket}", self.path);
            if let Ok(uri) = uri.parse() {
                *request.uri_mut() = uri;
                self.library.answer(request).await;
            }
        };
        // At its end a runtime drops what is left.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(closing);
        }
    }
}

/// A request in which a client waits for packets. When it hangs up instead, its session is closed: packets may have been
/// taken out for it that nobody gets, and a client that wasn't told so would think that it has everything.
struct Poll<L: Library> {
    serving: Serving<L>,
    socket: Sid,
    answered: bool,
}

impl<L: Library> Drop for Poll<L> {
    fn drop(&mut self) {
        if !self.answered {
            self.serving.clone().close_session(self.socket);
        }
    }
}

/// The socket that a request belongs to, if it names one.
fn socket_id(uri: &http::Uri) -> Option<Sid> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix("sid="))?.parse().ok()
}
