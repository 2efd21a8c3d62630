//! Client connections: the server closes one that keeps it waiting.
//!
//! A slow client must never occupy a connection permanently. Three limits ensure that:
//!
//! | The server waits for | Limit |
//! |---|---|
//! | the head of the first request | [`FIRST_HEAD_TIMEOUT`], from the connection's start |
//! | the head of each further request | [`NEXT_HEAD_TIMEOUT`], from the previous response |
//! | the client to take some bytes that are ready for it | [`WRITE_TIMEOUT`] |
//!
//! While a handler works on a request, only the last limit applies. After an upgrade (a WebSocket), too.
//!
//! A request whose head can't be parsed ends its connection, as [`crate::unparsed_request`] says.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::extract::connect_info::{ConnectInfo, Connected, IntoMakeServiceWithConnectInfo};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use http::StatusCode;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};

use crate::unparsed_request::Refusal;

/// How long the head of a connection's first request may take, from the connection's start to the head's last byte.
const FIRST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the head of a further request may take, from the previous response to the head's last byte. Proxies keep an
/// idle connection for a minute. The limit is longer, so they close it first and never send a request over a connection
/// that the server is closing.
const NEXT_HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a client may take no bytes while some are ready for it, of a response or of an upgraded connection.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many bytes the kernel holds for a client that doesn't read. By default Linux increases this to megabytes, and
/// thousands of slow sockets would occupy more memory than everything else.
const SEND_BUFFER_BYTES: usize = 128 << 10;
/// How much the connection reads at once. hyper would read up to twice a head's limit, and then accept the head.
const READ_BYTES: u64 = 32 << 10;

domain::limit_rows! {
    Requests, "time from a connection's start to the end of its first request's head", Time FIRST_HEAD_TIMEOUT, "the server closes the connection", "open files";
    Requests, "time from a response to the end of the next request's head", Time NEXT_HEAD_TIMEOUT, "the server closes the connection", "open files";
    Requests, "time without reading what the server sends", Time WRITE_TIMEOUT, "the server closes the connection", "memory for what nobody reads";
    Requests, "what the kernel holds for a client that doesn't read", Bytes SEND_BUFFER_BYTES, "the server waits, at most for the time above", "the kernel's memory";
}

/// Accepts connections and enforces their limits. It serves only a router [`with_request_tracking`].
pub(crate) struct ConnectionListener(pub(crate) TcpListener);

impl Listener for ConnectionListener {
    type Io = Connection;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        // Responses are small, and clients want them at once.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES);
        (Connection::new(stream), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// The router as a service that tells each connection when its requests begin and end.
pub(crate) fn with_request_tracking(router: Router) -> IntoMakeServiceWithConnectInfo<Router, RequestTracker> {
    router.layer(middleware::from_fn(track)).into_make_service_with_connect_info()
}

/// Tracks the requests of one connection. Clones share the state.
#[derive(Clone)]
pub(crate) struct RequestTracker(Arc<Mutex<RequestState>>);

struct RequestState {
    in_progress: u32,
    /// When the connection has waited too long for the next head, unless a request is in progress.
    head_deadline: Instant,
    /// An upgraded connection never waits for a request again.
    is_upgraded: bool,
}

impl RequestTracker {
    fn new() -> Self {
        let head_deadline = Instant::now() + FIRST_HEAD_TIMEOUT;
        Self(Arc::new(Mutex::new(RequestState { in_progress: 0, head_deadline, is_upgraded: false })))
    }

    fn lock(&self) -> MutexGuard<'_, RequestState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected<IncomingStream<'_, ConnectionListener>> for RequestTracker {
    fn connect_info(stream: IncomingStream<'_, ConnectionListener>) -> Self {
        stream.io().requests.clone()
    }
}

/// A request in progress. It ends on drop, and so also when the client hangs up.
struct RequestInProgress(RequestTracker);

impl RequestInProgress {
    fn begin(tracker: RequestTracker) -> Self {
        tracker.lock().in_progress += 1;
        Self(tracker)
    }
}

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.in_progress -= 1;
        state.head_deadline = Instant::now() + NEXT_HEAD_TIMEOUT;
    }
}

/// The outermost middleware: it runs from the head of a request to its response.
async fn track(ConnectInfo(tracker): ConnectInfo<RequestTracker>, request: Request, next: Next) -> Response {
    let in_progress = RequestInProgress::begin(tracker);
    let response = next.run(request).await;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        in_progress.0.lock().is_upgraded = true;
    }
    response
}

/// A connection whose reads fail when the head of a request is late, and whose writes fail when the client stalls for
/// [`WRITE_TIMEOUT`].
pub(crate) struct Connection {
    stream: TcpStream,
    requests: RequestTracker,
    /// When to check again whether a head is late. `None` after an upgrade. The timer also runs while a request is in
    /// progress, because hyper doesn't necessarily read again at its end.
    next_check: Option<Pin<Box<Sleep>>>,
    /// When the client has taken no bytes for too long. `None` while no bytes wait for it.
    write_deadline: Option<Pin<Box<Sleep>>>,
    /// The response to a head that can't be parsed. After it, the connection ends.
    refusal: Option<Refusal>,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        let next_check = Some(Box::pin(tokio::time::sleep(FIRST_HEAD_TIMEOUT)));
        Self { stream, requests: RequestTracker::new(), next_check, write_deadline: None, refusal: None }
    }

    /// Whether the connection has waited too long for the head of a request.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        while let Some(next_check) = &mut self.next_check {
            if next_check.as_mut().poll(cx).is_pending() {
                return false;
            }
            let (state, now) = (self.requests.lock(), Instant::now());
            if state.is_upgraded {
                drop(state);
                self.next_check = None;
            } else if state.in_progress > 0 {
                next_check.as_mut().reset(now + NEXT_HEAD_TIMEOUT);
            } else if state.head_deadline > now {
                next_check.as_mut().reset(state.head_deadline);
            } else {
                return true;
            }
        }
        false
    }

    /// Whether the bytes are a response of hyper's own, which the connection then replaces by a refusal.
    fn refuses(&mut self, bytes: &[u8]) -> bool {
        let Some(refusal) = Refusal::instead_of(bytes) else { return false };
        let is_upgraded = self.requests.lock().is_upgraded;
        if !is_upgraded {
            self.refusal = Some(refusal);
        }
        !is_upgraded
    }

    /// Writes what is left of a refusal.
    fn poll_write_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(refusal) = &mut self.refusal {
            let written = refusal.poll_write(&mut self.stream, cx);
            if ready!(self.check_write(cx, written))? == 0 {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Replaces the result of a write by an error if the client has stalled for too long.
    fn check_write(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.write_deadline = None;
            return result;
        }
        let deadline = self.write_deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_TIMEOUT)));
        deadline.as_mut().poll(cx).map(|()| Err(ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_late(cx) {
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut (&mut self.stream).take(READ_BYTES)).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.refuses(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.check_write(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [bytes] = bytes
            && self.refuses(bytes)
        {
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.check_write(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_refusal(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_refusal(cx))?;
        let Self { stream, refusal, .. } = &mut *self;
        match refusal {
            Some(refusal) => refusal.poll_close(stream, cx),
            None => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::AsyncWriteExt;

    use super::*;

    const REQUEST: &[u8] = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";
    /// More than the kernels of both sides hold for a client.
    const LARGE: usize = 32 << 20;

    /// A client of a server with one route that takes a minute and one with a large response.
    async fn client() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let slow = || tokio::time::sleep(Duration::from_secs(60));
        let router = Router::new().route("/slow", get(slow)).route("/large", get(|| async { vec![0; LARGE] }));
        let server = axum::serve(ConnectionListener(listener), with_request_tracking(router));
        tokio::spawn(async move { server.await });
        TcpStream::connect(address).await.unwrap()
    }

    /// How many seconds pass until the server closes the connection.
    async fn seconds_until_closed(client: &mut TcpStream) -> u64 {
        let since = Instant::now();
        // An error if the server closes the connection with unread bytes: a reset.
        let _ = client.read_to_end(&mut Vec::new()).await;
        since.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_closes_a_connection_without_a_complete_head_after_ten_seconds() {
        assert_eq!(seconds_until_closed(&mut client().await).await, 10);
        let mut client = client().await;
        let since = Instant::now();
        for byte in REQUEST.iter().take(8) {
            client.write_all(&[*byte]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        seconds_until_closed(&mut client).await;
        assert_eq!(since.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_waits_for_a_slow_handler_and_then_75_seconds_for_the_next_request() {
        let mut client = client().await;
        for _ in 0..2 {
            client.write_all(REQUEST).await.unwrap();
            // Small enough for a single read.
            let mut response = [0; 1_024];
            assert_ne!(client.read(&mut response).await.unwrap(), 0);
            assert!(response.starts_with(b"HTTP/1.1 200 OK"));
            tokio::time::sleep(Duration::from_secs(70)).await;
        }
        assert_eq!(seconds_until_closed(&mut client).await, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_closes_the_connection_of_a_stalled_reader_but_not_of_a_slow_one() {
        for (pause, gets_all) in [(9, true), (11, false)] {
            let mut client = client().await;
            client.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut piece = vec![0; LARGE / 4];
            let mut received = 0;
            loop {
                tokio::time::sleep(Duration::from_secs(pause)).await;
                match client.read_exact(&mut piece).await {
                    Ok(read) => received += read,
                    Err(_) => break,
                }
            }
            // The stream has four pieces and as many more bytes as the head of the response has.
            assert_eq!(received == LARGE, gets_all, "{received} bytes with pauses of {pause} s");
        }
    }
}
