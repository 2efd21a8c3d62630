//! HTTP/1.1 with just what the generator needs: requests as bytes, and where a response ends.

use anyhow::Context;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How many headers a response may have.
const MAX_HEADERS: usize = 32;
/// How many bytes a connection reads at a time.
const READ_BYTES: usize = 16 << 10;

/// The start of a complete response in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    /// The bytes until the body.
    pub(crate) head_bytes: usize,
    pub(crate) body_bytes: usize,
}

/// A `POST` of JSON.
pub(crate) fn post(path: &str, token: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A `GET`, with further lines of its head that each end with a line break.
pub(crate) fn get(path: &str, token: &str, further_lines: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n{further_lines}\r\n").into_bytes()
}

/// Parses a response; none while it isn't complete.
///
/// # Errors
/// When it is no response, or has a body of unknown length.
pub(crate) fn parse(buffer: &[u8]) -> anyhow::Result<Option<ResponseHead>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = response.parse(buffer).context("a response that isn't HTTP")? else {
        return Ok(None);
    };
    let status = response.code.context("a response without a status")?;
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let body_bytes = match length {
        Some(length) => std::str::from_utf8(length.value)?.parse()?,
        None if matches!(status, 204 | 304) => 0,
        None => anyhow::bail!("a response of unknown length"),
    };
    let is_complete = buffer.len() >= head_bytes + body_bytes;
    Ok(is_complete.then_some(ResponseHead { status, head_bytes, body_bytes }))
}

/// The value of a header in the head of a response.
pub(crate) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let lines = std::str::from_utf8(head).ok()?.lines();
    let mut headers = lines.filter_map(|line| line.split_once(':'));
    headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// One connection that sends a request, and the next one after the response.
pub(crate) struct HttpConnection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl HttpConnection {
    pub(crate) async fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("opening a connection")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(READ_BYTES) })
    }

    /// Sends a request and waits for its response, which is in [`Self::head`] and [`Self::body`] until the next one.
    ///
    /// # Errors
    /// When the connection ends before that.
    pub(crate) async fn send(&mut self, request: &[u8]) -> anyhow::Result<ResponseHead> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        loop {
            self.buffer.reserve(READ_BYTES);
            let read = self.stream.read_buf(&mut self.buffer).await?;
            anyhow::ensure!(read > 0, "the server closed a connection before its response");
            if let Some(response) = parse(&self.buffer)? {
                return Ok(response);
            }
        }
    }

    pub(crate) fn head(&self, response: ResponseHead) -> &[u8] {
        &self.buffer[..response.head_bytes]
    }

    pub(crate) fn body(&self, response: ResponseHead) -> &[u8] {
        &self.buffer[response.head_bytes..response.head_bytes + response.body_bytes]
    }

    /// Sends a request whose response must have this status, and returns its JSON.
    ///
    /// # Errors
    /// When it has another status.
    pub(crate) async fn json(&mut self, request: &[u8], status: u16) -> anyhow::Result<Value> {
        let response = self.send(request).await?;
        let body: Value = serde_json::from_slice(self.body(response)).unwrap_or_default();
        anyhow::ensure!(response.status == status, "{}", unexpected(response.status, self.body(response)));
        Ok(body)
    }
}

/// Describes a response with another status than the expected one.
pub(crate) fn unexpected(status: u16, body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    format!("a response with status {status} {}", problem["code"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_complete_once_its_body_is() {
        let response = b"HTTP/1.1 201 Created\r\nEtag: \"a\"\r\ncontent-length: 5\r\n\r\nabcde";
        for end in 0..response.len() {
            assert_eq!(parse(&response[..end]).unwrap(), None, "{end}");
        }
        let head = ResponseHead { status: 201, head_bytes: response.len() - 5, body_bytes: 5 };
        assert_eq!(parse(response).unwrap(), Some(head));
        assert_eq!(header(&response[..head.head_bytes], "ETag"), Some("\"a\""));
        assert_eq!(header(&response[..head.head_bytes], "Age"), None);
    }

    #[test]
    fn only_responses_that_never_have_a_body_may_lack_a_length() {
        let unchanged = parse(b"HTTP/1.1 304 Not Modified\r\nEtag: a\r\n\r\n").unwrap().unwrap();
        assert_eq!((unchanged.status, unchanged.body_bytes), (304, 0));
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse(b"no HTTP\r\n\r\n").is_err());
    }

    #[test]
    fn an_unexpected_response_shows_its_problems_code() {
        assert_eq!(unexpected(503, br#"{"code":"busy"}"#), "a response with status 503 busy");
        assert_eq!(unexpected(502, b"?"), "a response with status 502 ");
    }
}
