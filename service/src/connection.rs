//! A client's connection, which is closed when it keeps the server waiting: for a request, or with what is for it.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::Request;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};

/// How long the head of a connection's first request may take to come, from the first byte to the last.
const FIRST: Duration = Duration::from_secs(10);
/// How long that of each further request may take, from the answer before it. More than the minute for which proxies keep
/// an idle connection, so that they end it first and send nothing over one that is just being closed.
const NEXT: Duration = Duration::from_secs(75);
/// How long a client may take no bytes while there are some for it: of an answer, or of an upgraded connection.
const STALLED: Duration = Duration::from_secs(10);

/// Accepts connections, and bounds how long each waits for its client.
pub(crate) struct Accepting<F> {
    listener: TcpListener,
    /// Sets up what was accepted.
    set_up: F,
}

impl<F: FnMut(&TcpStream) + Send + 'static> Accepting<F> {
    pub(crate) fn new(listener: TcpListener, set_up: F) -> Self {
        Self { listener, set_up }
    }
}

impl<F: FnMut(&TcpStream) + Send + 'static> Listener for Accepting<F> {
    type Io = Connection;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (self.set_up)(&stream);
        let look = Some(Box::pin(tokio::time::sleep(FIRST)));
        (Connection { stream, requests: Requests::new(), look, stalled: None }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// The requests of one connection. Clones share them.
#[derive(Clone)]
pub(crate) struct Requests(Arc<Mutex<State>>);

/// What a connection's requests say about it.
struct State {
    under_way: u32,
    /// Until when the next request's head has to be here, where none is under way.
    until: Instant,
    /// Whether the connection was upgraded: it never waits for a request again.
    upgraded: bool,
}

impl Requests {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(State { under_way: 0, until: Instant::now() + FIRST, upgraded: false })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: FnMut(&TcpStream) + Send + 'static> Connected<IncomingStream<'_, Accepting<F>>> for Requests {
    fn connect_info(stream: IncomingStream<'_, Accepting<F>>) -> Self {
        stream.io().requests.clone()
    }
}

/// A request that is under way; done also when its client hangs up.
struct UnderWay(Requests);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.under_way -= 1;
        state.until = Instant::now() + NEXT;
    }
}

/// Notes that a request's head has come, and when it is answered. Goes around everything.
pub(crate) async fn note(ConnectInfo(requests): ConnectInfo<Requests>, request: Request, next: Next) -> Response {
    requests.lock().under_way += 1;
    let under_way = UnderWay(requests);
    let response = next.run(request).await;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        under_way.0.lock().upgraded = true;
    }
    response
}

/// A connection that fails when the head of a request doesn't come in time, however much of it comes, and when its
/// client takes nothing for [`STALLED`].
pub(crate) struct Connection {
    stream: TcpStream,
    requests: Requests,
    /// When to look whether a request is late; none once it can't be any more. Always there before, also while one is
    /// under way: hyper needn't read again at its end.
    look: Option<Pin<Box<Sleep>>>,
    /// When the client has taken nothing for too long; there while something waits for it.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    /// Whether it has waited for a request for too long.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        while let Some(look) = &mut self.look {
            if look.as_mut().poll(cx).is_pending() {
                return false;
            }
            let (state, now) = (self.requests.lock(), Instant::now());
            if state.upgraded {
                drop(state);
                self.look = None;
            } else if state.under_way > 0 {
                look.as_mut().reset(now + NEXT);
            } else if state.until > now {
                look.as_mut().reset(state.until);
            } else {
                return true;
            }
        }
        false
    }

    /// What writing came to, unless the client stalls.
    fn written(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALLED)));
        stalled.as_mut().poll(cx).map(|()| Err(ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_late(cx) {
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::lifecycle::serve;

    const REQUEST: &[u8] = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";
    /// More than the system holds for a client.
    const LARGE: usize = 32 << 20;

    /// A client of a server that takes a minute to give one of its answers, and has a large one.
    async fn client() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let slow = || tokio::time::sleep(Duration::from_secs(60));
        let router = Router::new().route("/slow", get(slow)).route("/large", get(|| async { vec![0; LARGE] }));
        tokio::spawn(serve(listener, router, CancellationToken::new()));
        TcpStream::connect(address).await.unwrap()
    }

    /// How many seconds it takes until the server closes the connection.
    async fn closed(client: &mut TcpStream) -> u64 {
        let since = Instant::now();
        // Reset, if something of what was sent was never read.
        let _ = client.read_to_end(&mut Vec::new()).await;
        since.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_asks_for_nothing_is_let_go_after_ten_seconds_however_slowly_it_begins() {
        assert_eq!(closed(&mut client().await).await, 10);
        let mut client = client().await;
        let since = Instant::now();
        for byte in REQUEST.iter().take(8) {
            client.write_all(&[*byte]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        closed(&mut client).await;
        assert_eq!(since.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_is_waited_for_and_the_next_request_for_seventy_five_seconds() {
        let mut client = client().await;
        for _ in 0..2 {
            client.write_all(REQUEST).await.unwrap();
            // It is small enough to come in one piece.
            let mut answer = [0; 1_024];
            assert_ne!(client.read(&mut answer).await.unwrap(), 0);
            assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
            tokio::time::sleep(Duration::from_secs(70)).await;
        }
        assert_eq!(closed(&mut client).await, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_an_answer_for_ten_seconds_is_let_go_and_who_takes_it_slowly_is_not() {
        for (rest, gets_all) in [(9, true), (11, false)] {
            let mut client = client().await;
            client.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
            let (mut piece, mut got) = (vec![0; LARGE / 4], 0);
            loop {
                tokio::time::sleep(Duration::from_secs(rest)).await;
                match client.read_exact(&mut piece).await {
                    Ok(read) => got += read,
                    Err(_) => break,
                }
            }
            // As many bytes are left over as the head has.
            assert_eq!(got == LARGE, gets_all, "{got} bytes with rests of {rest} s");
        }
    }
}
