//! The route of Socket.IO: it admits connections, and makes the upgrade to WebSocket itself.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{self, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use hyper::upgrade::OnUpgrade;
use service::auth::{Auth, AuthError};
use service::problem::Problem;
use socketioxide::service::SocketIoService;
use socketioxide::socket::Sid;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::connections::{Connection, Connections};
use super::rate_limit::limit_packets;
use super::stream::Stream;

/// How long the upgrade to WebSocket may take.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
/// The Engine.IO packet that closes a session.
const CLOSE_PACKET: &str = "1";

/// The library's service, as far as this route uses it.
pub(crate) trait SocketService: Clone + Send + Sync + 'static {
    /// Answers a request. The service only accepts an upgrade: the route keeps the connection.
    fn respond(&mut self, request: Request) -> impl Future<Output = Response> + Send;
    /// Serves a WebSocket over `stream`; `handshake` is the request that asked for the upgrade.
    fn serve_websocket(&mut self, stream: Stream, handshake: http::Request<()>);
}

impl SocketService for SocketIoService<Router> {
    async fn respond(&mut self, request: Request) -> Response {
        let response: Result<_, Infallible> = Service::<Request>::call(self, request).await;
        let Ok(response) = response;
        response.map(Body::new)
    }

    fn serve_websocket(&mut self, stream: Stream, handshake: http::Request<()>) {
        // The library serves it in a task of its own, and the socket's handlers learn how it ends.
        drop(Service::<(Stream, http::Request<()>)>::call(self, (stream, handshake)));
    }
}

#[derive(Clone)]
struct RouteState<S> {
    path: &'static str,
    service: S,
    connections: Connections,
    auth: Auth,
    shutdown: CancellationToken,
}

/// The route at `path`, with every method.
pub(crate) fn router<S: SocketService>(
    path: &'static str,
    service: S,
    connections: Connections,
    auth: Auth,
    shutdown: CancellationToken,
) -> Router {
    let state = RouteState { path, service, connections, auth, shutdown };
    let closing = state.clone();
    state.connections.on_close(Box::new(move |socket| closing.clone().close_session(socket)));
    Router::new().route(path, any(serve::<S>)).with_state(state)
}

async fn serve<S: SocketService>(State(mut state): State<RouteState<S>>, mut request: Request) -> Response {
    if state.shutdown.is_cancelled() {
        return Problem::unavailable("unavailable", "this node is stopping; try again", 1).into_response();
    }
    let socket = socket_id(request.uri());
    if socket.is_some_and(|id| state.connections.is_closing(id)) {
        return StatusCode::BAD_REQUEST.into_response();
    }
    if let Some(socket) = socket {
        let admit = state.connections.packet_limit(socket);
        request = request.map(|body| limit_packets(body, admit));
    } else {
        // Before the library sees the request: a browser may open a socket for any page, with the cookie of its user.
        if let Err(error @ AuthError::CrossSite) = state.auth.authenticate_handshake(request.headers()) {
            return Problem::from(error).into_response();
        }
        let Some(connection) = state.connections.open() else {
            return Problem::unavailable("busy", "too many clients are connecting; try again", 1).into_response();
        };
        request.extensions_mut().insert(connection);
    }
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let handshake = handshake(&request);
    let poll = socket.filter(|_| upgrade.is_none() && handshake.method() == Method::GET);
    let mut poll = poll.map(|socket| PollGuard { state: state.clone(), socket, responded: false });
    let response = state.service.respond(request).await;
    if let Some(poll) = &mut poll {
        poll.responded = true;
        if response.status() == StatusCode::OK {
            return count_polled(&state.connections, poll.socket, response).await;
        }
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(upgrade) = upgrade
    {
        tokio::spawn(state.upgrade(upgrade, handshake, socket));
    }
    response
}

/// Counts what a client gets for a polling request.
async fn count_polled(connections: &Connections, socket: Sid, response: Response) -> Response {
    let (head, body) = response.into_parts();
    // The library has the whole body in memory.
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    Response::from_parts(head, Body::from(connections.polled(socket, body)))
}

/// A request's head, with its connection.
fn handshake(request: &Request) -> http::Request<()> {
    let mut handshake = http::Request::new(());
    *handshake.method_mut() = request.method().clone();
    *handshake.uri_mut() = request.uri().clone();
    *handshake.headers_mut() = request.headers().clone();
    if let Some(connection) = request.extensions().get::<Arc<Connection>>() {
        handshake.extensions_mut().insert(connection.clone());
    }
    handshake
}

impl<S: SocketService> RouteState<S> {
    /// Waits for the upgrade, then passes the WebSocket to the library. `socket` is set if the socket began with
    /// polling.
    async fn upgrade(mut self, upgrade: OnUpgrade, handshake: http::Request<()>, socket: Option<Sid>) {
        let Ok(Ok(upgraded)) = tokio::time::timeout(UPGRADE_TIMEOUT, upgrade).await else { return };
        let stream = if let Some(socket) = socket {
            let Some(queue) = self.connections.upgrade(socket) else { return };
            let state = self.clone();
            Stream::new(upgraded, queue, Some(Box::new(move || state.end_upgrade(socket))))
        } else {
            let Some(connection) = handshake.extensions().get::<Arc<Connection>>() else { return };
            Stream::new(upgraded, connection.queue(), None)
        };
        self.service.serve_websocket(stream, handshake);
    }

    /// Cleans up after the stream of a socket that began with polling, whether or not its upgrade was completed. The
    /// library stops its pings for the upgrade, and would keep a socket permanently whose upgrade breaks off.
    fn end_upgrade(self, socket: Sid) {
        self.connections.forget_upgrade(socket);
        // After a complete upgrade the library refuses this: such a socket ends with its stream.
        self.close_session(socket);
    }

    /// Closes the session of a polling socket, by sending the library the packet with which a client closes it.
    fn close_session(mut self, socket: Sid) {
        let close = async move {
            let mut request = Request::new(Body::from(CLOSE_PACKET));
            *request.method_mut() = Method::POST;
            let uri = format!("{}?EIO=4&transport=polling&sid={socket}", self.path);
            if let Ok(uri) = uri.parse() {
                *request.uri_mut() = uri;
                self.service.respond(request).await;
            }
        };
        // While a runtime shuts down it drops its tasks, which may call this. Nothing is left to close then.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(close);
        }
    }
}

/// Guards a request in which a client waits for packets. If the client hangs up before the response, the guard closes
/// the session: the library may have taken packets from its buffer that nobody receives, and without the end of its
/// session the client would believe that it has everything.
struct PollGuard<S: SocketService> {
    state: RouteState<S>,
    socket: Sid,
    responded: bool,
}

impl<S: SocketService> Drop for PollGuard<S> {
    fn drop(&mut self) {
        if !self.responded {
            self.state.clone().close_session(self.socket);
        }
    }
}

/// The id of the socket that a request belongs to, from its query; none if it opens a connection.
fn socket_id(uri: &http::Uri) -> Option<Sid> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix("sid="))?.parse().ok()
}
