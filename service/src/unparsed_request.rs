//! Requests whose head hyper refuses by itself: it can't parse the head, or finds it too long. No middleware sees them.
//!
//! hyper answers them with a status and nothing else, and closes the connection. The connection replaces that response by
//! a problem with a request id, as every other error is. Then it reads and discards what the client still sends: if it
//! closed at once, a client that sends everything before it reads would see a broken connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use uuid::Uuid;

use crate::problem::Problem;
use crate::request_body::MAX_DISCARDED_BYTES;

/// hyper's limit of a URI.
const MAX_URI_BYTES: usize = 65_534;
/// hyper's limit of headers.
const MAX_HEADERS: usize = 100;
/// hyper's limit of a head, which it compares with what it has read after each read.
const MAX_HEAD_BYTES: usize = 408 << 10;
/// How long the server still reads from a client whose request it refused.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);
/// More than the bytes of a response of hyper's own.
const OWN_RESPONSE_BYTES: usize = 256;

domain::limit_rows! {
    Requests, "a request's URI", Bytes MAX_URI_BYTES, "414 `uri_too_long`; the server closes the connection", "memory";
    Requests, "headers of a request", Count MAX_HEADERS, "431 `headers_too_large`; the server closes the connection", "memory";
    Requests, "a request's head", Bytes MAX_HEAD_BYTES, "431 `headers_too_large`; the server closes the connection", "memory";
    Requests, "what the server still reads after a head that it can't parse, so the client can read the response", Bytes MAX_DISCARDED_BYTES, "the server closes the connection", "the network";
    Requests, "time for that", Time DISCARD_TIMEOUT, "the server closes the connection", "open files";
}

/// The problem for a request whose head hyper refused with this status.
fn problem(status: StatusCode) -> Problem {
    match status {
        StatusCode::URI_TOO_LONG => {
            Problem::new(status, "uri_too_long", format!("the URI must have at most {MAX_URI_BYTES} bytes"))
        }
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            let detail = format!(
                "a request must have at most {MAX_HEADERS} headers, and less than {} KiB before its body",
                MAX_HEAD_BYTES >> 10
            );
            Problem::new(status, "headers_too_large", detail)
        }
        _ => Problem::new(status, "bad_request", "the request line or a header isn't valid HTTP"),
    }
}

/// The response to a request that can't be parsed, and the end of its connection.
pub(crate) struct Refusal {
    /// The bytes of the response that the client has yet to take.
    response: Vec<u8>,
    discarded: usize,
    /// When the server stops reading. None before the response is written.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Refusal {
    /// What to write instead of `bytes`, if they are a response of hyper's own: an error without a body. Our own
    /// responses all have a request id.
    pub(crate) fn instead_of(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > OWN_RESPONSE_BYTES || !bytes.starts_with(b"HTTP/1.") {
            return None;
        }
        let mut lines = str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?.split("\r\n");
        let status: StatusCode = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let mut is_empty = false;
        for line in lines {
            is_empty |= line == "content-length: 0";
            if line.is_empty() || line.starts_with("x-request-id:") {
                return None;
            }
        }
        (status.is_client_error() && is_empty).then(|| Self::new(&problem(status)))
    }

    fn new(problem: &Problem) -> Self {
        let id = Uuid::now_v7().to_string();
        tracing::debug!(id, code = problem.code(), "refused a request whose head can't be parsed");
        let body = serde_json::to_string(&problem.body(&id)).unwrap_or_default();
        let status = problem.status();
        let reason = status.canonical_reason().unwrap_or_default();
        let response = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
             cache-control: no-store\r\nx-content-type-options: nosniff\r\nx-request-id: {id}\r\n\
             connection: close\r\n\r\n{body}",
            status.as_u16(),
            body.len(),
        );
        Self { response: response.into(), discarded: 0, deadline: None }
    }

    /// Writes some of the response. Returns 0 once the client has taken all of it.
    pub(crate) fn poll_write(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.response.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let written = ready!(Pin::new(stream).poll_write(cx, &self.response))?;
        self.response.drain(..written);
        Poll::Ready(Ok(written))
    }

    /// Ends the connection: tells the client that nothing more follows, then discards what it still sends, until it has
    /// closed its side or is over a limit.
    pub(crate) fn poll_close(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deadline.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(DISCARD_TIMEOUT)));
        let mut piece = [0; 4 << 10];
        while self.discarded <= MAX_DISCARDED_BYTES {
            let mut buffer = ReadBuf::new(&mut piece);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => self.discarded += buffer.filled().len(),
                Poll::Ready(_) => break,
                Poll::Pending => return deadline.as_mut().poll(cx).map(Ok),
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use serde_json::Value;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;
    use utoipa::openapi::OpenApi;

    use super::*;
    use crate::cors::CorsPolicy;
    use crate::http::with_middleware;
    use crate::lifecycle::serve;

    /// A client for which the system holds little: what it sends must be read.
    async fn client() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async {}));
        let router = with_middleware(router, &OpenApi::default(), CorsPolicy::default());
        tokio::spawn(async move { serve(listener, router, CancellationToken::new()).await });
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(16 << 10).unwrap();
        socket.connect(address).await.unwrap()
    }

    /// A response's head, and its body.
    async fn read(client: &mut TcpStream) -> (String, Value) {
        let mut response = String::new();
        client.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), serde_json::from_str(body).unwrap_or_default())
    }

    #[tokio::test]
    async fn a_request_that_cannot_be_parsed_gets_a_problem_that_a_client_can_read_after_sending_everything() {
        let many_headers: String = (0..150).map(|number| format!("h{number}: x\r\n")).collect();
        for (request, status, code) in [
            (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000)), 414, "uri_too_long"),
            (format!("GET /?{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(300_000)), 414, "uri_too_long"),
            (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(500_000)), 431, "headers_too_large"),
            (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(1_000_000)), 431, "headers_too_large"),
            (format!("GET / HTTP/1.1\r\nHost: a\r\n{many_headers}\r\n"), 431, "headers_too_large"),
            ("\u{16}\u{3}\u{1}\u{2}\0\r\n\r\n".to_owned(), 400, "bad_request"),
            ("GET / HTTP/1.1\r\nHost a\r\n\r\n".to_owned(), 400, "bad_request"),
            ("GET / HTTP/7.1\r\nHost: a\r\n\r\n".to_owned(), 400, "bad_request"),
            ("GET / HTTP/1.1\r\nA: b\r\nContent-Length: x\r\n\r\n".to_owned(), 400, "bad_request"),
        ] {
            let mut client = client().await;
            client.write_all(request.as_bytes()).await.unwrap();
            let (head, problem) = read(&mut client).await;
            let case = &request[..request.len().min(60)];
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{case}: {head}");
            assert_eq!((&problem["status"], &problem["code"]), (&Value::from(status), &Value::from(code)), "{case}");
            for field in ["type", "title", "detail"] {
                assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{case}: {problem}");
            }
            let id = format!("x-request-id: {}", problem["requestId"].as_str().unwrap());
            for line in
                [id.as_str(), "content-type: application/problem+json", "cache-control: no-store", "connection: close"]
            {
                assert!(head.lines().any(|it| it == line), "{case}: {head}");
            }
        }
    }

    #[tokio::test]
    async fn an_answered_request_before_one_that_cannot_be_parsed_keeps_its_response() {
        let mut client = client().await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nnonsense\r\n\r\n").await.unwrap();
        let mut responses = String::new();
        client.read_to_string(&mut responses).await.unwrap();
        assert!(responses.starts_with("HTTP/1.1 200 OK\r\n"), "{responses}");
        assert!(responses.contains("\"code\":\"bad_request\""), "{responses}");
    }

    #[tokio::test]
    async fn a_client_that_never_stops_sending_is_cut_off() {
        let mut client = client().await;
        let request = format!("GET /{} HTTP/1.1\r\n", "x".repeat(8 << 20));
        assert!(client.write_all(request.as_bytes()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_keeps_its_side_open_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut refusal = Refusal::new(&problem(StatusCode::BAD_REQUEST));
        let since = Instant::now();
        std::future::poll_fn(|cx| refusal.poll_close(&mut stream, cx)).await.unwrap();
        assert_eq!(since.elapsed().as_secs(), DISCARD_TIMEOUT.as_secs());
    }

    #[test]
    fn only_responses_of_hypers_own_are_replaced() {
        let own =
            "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        assert!(Refusal::instead_of(own.as_bytes()).is_some());
        for other in [
            own.replace("date: x", "x-request-id: 7").as_str(),
            own.replace("content-length: 0", "content-length: 7").as_str(),
            own.replace("431 Request Header Fields Too Large", "200 OK").as_str(),
            own.replace("431 Request Header Fields Too Large", "503 Service Unavailable").as_str(),
            format!("{own}{{}}").as_str(),
            format!("{own}{own}").as_str(),
            format!("\"{own}\"").as_str(),
            own.trim_end(),
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.",
            "",
        ] {
            assert!(Refusal::instead_of(other.as_bytes()).is_none(), "{other}");
        }
    }
}
