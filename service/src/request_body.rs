//! The part of a request's body that no handler read.
//!
//! Many clients read no response before they have sent their whole request. If the server answered earlier and closed
//! the connection, such a client would only see a broken connection. So the response waits until the server has read
//! and discarded the rest of the body, within limits.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http::{HeaderMap, Request, header};
use axum::body::{Body, Bytes};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::Instant;

/// How much of a body the server reads, what a handler read included, to answer a client that is still sending.
pub(crate) const MAX_DISCARDED_BYTES: usize = 1 << 20;
/// How long a client may take to send a body.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(10);

domain::limit_rows! {
    Requests, "a body that the server refuses, or doesn't need, and reads so the client can read the response", Bytes MAX_DISCARDED_BYTES, "the server closes the connection", "the network";
    Requests, "time from a body's first byte to its last", Time BODY_TIMEOUT, "408 `request_timeout`; the server closes the connection if it has answered otherwise", "tasks and connections";
}

/// A body, and how much of it was read.
struct Progress {
    body: Body,
    received: usize,
    /// When somebody began to read it.
    began: Option<Instant>,
}

/// The body that a handler gets. When it is dropped, what is unread goes back to [`Unread`].
struct TrackedBody {
    /// None after its end.
    progress: Option<Progress>,
    unread: Arc<Mutex<Option<Progress>>>,
}

impl http_body::Body for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(progress) = &mut self.progress else { return Poll::Ready(None) };
        progress.began.get_or_insert_with(Instant::now);
        let frame = ready!(Pin::new(&mut progress.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            progress.received += frame.data_ref().map_or(0, Bytes::len);
        } else {
            self.progress = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.progress.as_ref().is_none_or(|progress| progress.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.progress.as_ref().map_or_else(|| SizeHint::with_exact(0), |progress| progress.body.size_hint())
    }
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        if let Some(progress) = self.progress.take().filter(|progress| !progress.body.is_end_stream()) {
            *self.unread.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
        }
    }
}

/// What remains of a request's body once its handler is done.
pub(crate) struct Unread {
    body: Arc<Mutex<Option<Progress>>>,
    /// The client waits before it sends the body, until somebody begins to read it.
    expects_continue: bool,
}

/// Tracks how much of its body a request's handler reads. None if the request has no body.
pub(crate) fn track(request: Request<Body>) -> (Request<Body>, Option<Unread>) {
    // Most requests: they cost nothing.
    if request.body().is_end_stream() {
        return (request, None);
    }
    let unread = Unread { body: Arc::default(), expects_continue: expects_continue(request.headers()) };
    let progress = |body| Some(Progress { body, received: 0, began: None });
    let request = request.map(|body| Body::new(TrackedBody { progress: progress(body), unread: unread.body.clone() }));
    (request, Some(unread))
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

impl Unread {
    /// Reads and discards the rest of the body: until [`BODY_TIMEOUT`] after somebody began to read it, at most until
    /// `deadline`, and at most [`MAX_DISCARDED_BYTES`] in all.
    pub(crate) async fn discard(self, deadline: Instant) {
        let Some(mut progress) = self.body.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        // Reading would ask such a client to send the body.
        if self.expects_continue && progress.began.is_none() {
            return;
        }
        let deadline = deadline.min(progress.began.unwrap_or_else(Instant::now) + BODY_TIMEOUT);
        let discard = async {
            while progress.received <= MAX_DISCARDED_BYTES
                && let Some(Ok(frame)) = progress.body.frame().await
            {
                progress.received += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        let _ = tokio::time::timeout_at(deadline, discard).await;
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::response::IntoResponse;
    use axum::routing::{delete, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket, TcpStream};
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt;
    use utoipa::openapi::OpenApi;

    use super::*;
    use crate::auth::{Auth, Caller};
    use crate::cors::CorsPolicy;
    use crate::http::{JsonBody, with_middleware};
    use crate::lifecycle::serve;
    use crate::problem::Problem;

    /// As much as a simple client may send before it reads.
    const LARGE: usize = 900 << 10;

    fn router() -> Router {
        let limited = || async { Problem::too_many_requests("rate_limited", "later", 1).into_response() };
        let router: Router = Router::new()
            .route("/user", post(|_: Caller, _: JsonBody| async {}))
            .with_state(Auth::new("a secret for tests"))
            .route("/json", post(|_: JsonBody| async {}))
            .route("/limited", post(limited))
            .route("/gone", delete(|| async { "done" }));
        with_middleware(router, &OpenApi::default(), CorsPolicy::default())
    }

    /// A client for which the system holds little: what it sends must be read.
    async fn client() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { serve(listener, router(), CancellationToken::new()).await });
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(16 << 10).unwrap();
        socket.connect(address).await.unwrap()
    }

    fn head(request_line: &str, more: &str) -> String {
        format!("{request_line} HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\nConnection: close\r\n{more}\r\n")
    }

    #[tokio::test]
    async fn a_client_that_sends_a_large_body_before_it_reads_can_read_every_response() {
        for (request_line, media_type, status) in [
            ("POST /user", "application/json", 401),
            ("POST /nowhere", "application/json", 404),
            ("DELETE /json", "application/json", 405),
            ("POST /json", "application/json", 413),
            ("POST /json", "text/html", 415),
            ("POST /limited", "application/json", 429),
            ("DELETE /gone", "application/json", 200),
        ] {
            let mut client = client().await;
            let head = head(request_line, &format!("Content-Type: {media_type}\r\n"));
            client.write_all(head.as_bytes()).await.unwrap();
            client.write_all(&vec![b' '; LARGE]).await.expect(request_line);
            let mut response = String::new();
            client.read_to_string(&mut response).await.expect(request_line);
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{request_line}: {response}");
        }
    }

    #[tokio::test]
    async fn a_client_that_expects_100_continue_is_refused_without_sending_the_body() {
        for (request_line, status) in [("POST /user", 401), ("POST /nowhere", 404), ("POST /json", 413)] {
            let mut client = client().await;
            client.write_all(head(request_line, "Expect: 100-continue\r\n").as_bytes()).await.unwrap();
            let mut response = String::new();
            client.read_to_string(&mut response).await.unwrap();
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{request_line}: {response}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_sending_is_answered_after_the_time_for_a_body() {
        let mut client = client().await;
        client.write_all(head("POST /user", "").as_bytes()).await.unwrap();
        let started = Instant::now();
        let mut response = String::new();
        client.read_to_string(&mut response).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 401 "), "{response}");
        assert_eq!(started.elapsed().as_secs(), BODY_TIMEOUT.as_secs());
    }

    const PIECE: usize = 64 << 10;

    /// A body that never ends, and counts the bytes that somebody read.
    struct EndlessBody(Arc<AtomicUsize>);

    impl http_body::Body for EndlessBody {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.fetch_add(PIECE, Ordering::Relaxed);
            Poll::Ready(Some(Ok(Frame::data(vec![b' '; PIECE].into()))))
        }
    }

    #[tokio::test]
    async fn at_most_a_mebibyte_of_a_body_is_discarded() {
        let read = Arc::new(AtomicUsize::new(0));
        let body = Body::new(EndlessBody(read.clone()));
        let response = router().oneshot(Request::post("/json").body(body).unwrap()).await.unwrap();
        assert_eq!(response.status(), 413);
        assert_eq!(read.load(Ordering::Relaxed), MAX_DISCARDED_BYTES + PIECE, "what the handler has read counts");
    }
}
