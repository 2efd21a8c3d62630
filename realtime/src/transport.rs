//! The connections under the sockets, and how to end one.
//!
//! The Socket.IO library can't close the connection of one socket: its `disconnect` only leaves the namespace,
//! after which official clients don't come back by themselves, and does nothing at all while the socket's buffer
//! is full. Nor does it give up on a peer that takes no bytes. So the upgrade to WebSocket is made here, over a
//! stream that can be cut and that fails when it stalls; a polling client is refused its next request.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{self, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use socketioxide::extract::SocketRef;
use socketioxide::service::SocketIoService;
use socketioxide::socket::Sid;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tower::Service;

/// How long a peer may take no bytes while there are some for it.
const STALLED: Duration = Duration::from_secs(10);
/// How long the upgrade itself may take.
const UPGRADE: Duration = Duration::from_secs(10);

/// The connections of this node's sockets. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Transports {
    inner: Arc<Mutex<Inner>>,
    /// Cuts every stream.
    all: CancellationToken,
}

#[derive(Default)]
struct Inner {
    /// Of sockets that began with polling: only then is the socket known before its stream.
    upgraded: HashMap<Sid, CancellationToken>,
    /// Sockets that are being closed. Until they are gone they get no further request.
    closing: HashSet<Sid>,
}

/// Cuts the stream of a socket that began with WebSocket. Travels with the request that opened it.
#[derive(Clone)]
struct Cut(CancellationToken);

impl Transports {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connection under a socket, so that its client comes back by itself. False when that was
    /// begun already.
    pub(crate) fn close(&self, socket: &SocketRef) -> bool {
        let mut inner = self.lock();
        if !inner.closing.insert(socket.id) {
            return false;
        }
        if let Some(cut) = inner.upgraded.get(&socket.id) {
            cut.cancel();
        }
        if let Some(Cut(cut)) = socket.req_parts().extensions.get() {
            cut.cancel();
        }
        true
    }

    /// Cuts every connection that is a stream.
    pub(crate) fn cut_all(&self) {
        self.all.cancel();
    }

    /// A socket has gone.
    pub(crate) fn forget(&self, socket: Sid) {
        self.lock().closing.remove(&socket);
    }

    fn is_closing(&self, socket: Sid) -> bool {
        self.lock().closing.contains(&socket)
    }

    /// Notes the stream to which a polling socket is upgraded; false when the socket is being closed.
    fn upgrade(&self, socket: Sid, cut: &CancellationToken) -> bool {
        let mut inner = self.lock();
        if inner.closing.contains(&socket) {
            return false;
        }
        inner.upgraded.insert(socket, cut.clone());
        true
    }
}

#[derive(Clone)]
struct Serving {
    service: SocketIoService<Router>,
    transports: Transports,
    shutdown: CancellationToken,
}

/// The route of Socket.IO.
pub(crate) fn router(service: SocketIoService<Router>, transports: Transports, shutdown: CancellationToken) -> Router {
    Router::new().route("/socket.io/", any(serve)).with_state(Serving { service, transports, shutdown })
}

async fn serve(State(mut serving): State<Serving>, mut request: Request) -> Response {
    if serving.shutdown.is_cancelled() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let socket = socket_id(request.uri());
    if socket.is_some_and(|id| serving.transports.is_closing(id)) {
        return StatusCode::BAD_REQUEST.into_response();
    }
    // Without it the library only answers; the connection stays ours.
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let mut opening = http::Request::new(());
    *opening.method_mut() = request.method().clone();
    *opening.uri_mut() = request.uri().clone();
    *opening.headers_mut() = request.headers().clone();
    let answered: Result<_, Infallible> = Service::<Request>::call(&mut serving.service, request).await;
    let Ok(response) = answered;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(upgrade) = upgrade
    {
        tokio::spawn(serving.stream(upgrade, opening, socket));
    }
    response.map(Body::new)
}

impl Serving {
    async fn stream(mut self, upgrade: OnUpgrade, mut opening: http::Request<()>, socket: Option<Sid>) {
        let Ok(Ok(upgraded)) = tokio::time::timeout(UPGRADE, upgrade).await else { return };
        let cut = self.transports.all.child_token();
        let noted = match socket {
            Some(socket) if !self.transports.upgrade(socket, &cut) => return,
            Some(socket) => Some(Noted { transports: self.transports.clone(), socket }),
            None => {
                opening.extensions_mut().insert(Cut(cut.clone()));
                None
            }
        };
        let stream = Stream::new(upgraded, cut, noted);
        if let Err(error) = self.service.call((stream, opening)).await {
            tracing::debug!(%error, "a stream that is no socket");
        }
    }
}

/// The socket that a request belongs to, if it names one.
fn socket_id(uri: &http::Uri) -> Option<Sid> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix("sid="))?.parse().ok()
}

/// Takes the note of an upgraded socket's stream away with the stream.
struct Noted {
    transports: Transports,
    socket: Sid,
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.transports.lock().upgraded.remove(&self.socket);
    }
}

/// A stream that can be cut from outside, and that fails when its peer takes nothing for [`STALLED`].
struct Stream {
    io: TokioIo<Upgraded>,
    // One each: reader and writer are different tasks, and each has to be woken.
    cut_reading: Pin<Box<WaitForCancellationFutureOwned>>,
    cut_writing: Pin<Box<WaitForCancellationFutureOwned>>,
    stalled: Option<Pin<Box<Sleep>>>,
    _noted: Option<Noted>,
}

impl Stream {
    fn new(upgraded: Upgraded, cut: CancellationToken, noted: Option<Noted>) -> Self {
        Self {
            io: TokioIo::new(upgraded),
            cut_reading: Box::pin(cut.clone().cancelled_owned()),
            cut_writing: Box::pin(cut.cancelled_owned()),
            stalled: None,
            _noted: noted,
        }
    }

    /// Something that writes, unless the stream is cut or stalls.
    fn write<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TokioIo<Upgraded>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.cut_writing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        let written = write(Pin::new(&mut self.io), cx);
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALLED)));
        stalled.as_mut().poll(cx).map(|()| Err(ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut_reading.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, |io, cx| io.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(cx, AsyncWrite::poll_shutdown)
    }
}
