//! Reading a request's body, which must be one JSON object.
//!
//! Every body has a size limit and a time limit. A client must always be able to read why its body was refused.

use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::body::Body;
use axum::extract::FromRequest;
use domain::FieldError;
use http_body_util::BodyExt;
use serde_json::{Map, Value};

use crate::problem::Problem;

/// The largest accepted body.
pub(crate) const MAX_BODY_BYTES: usize = 64 << 10;
/// How much of a larger body the server reads and discards. Many clients read no response before they have sent all.
const MAX_DISCARDED_BYTES: usize = 1 << 20;
/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

domain::limit_rows! {
    Requests, "a body", Bytes MAX_BODY_BYTES, "413 `body_too_large`", "memory and the log";
    Requests, "a larger body that the server still reads, so the client can read the 413", Bytes MAX_DISCARDED_BYTES, "the server closes the connection", "the network";
    Requests, "time from a body's first byte to its last", Time BODY_TIMEOUT, "408 `request_timeout`", "tasks and connections";
}

/// A body that is one JSON object. Must be the last argument of a handler: the server reads a body only when the rest
/// of the request is valid.
pub struct JsonBody(pub Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        // Before the media type is checked: a client that is still sending couldn't read the refusal.
        let read = tokio::time::timeout(BODY_TIMEOUT, read(body)).await;
        let bytes = read.unwrap_or_else(|_| Err(timeout()))?;
        check_media_type(&parts.headers)?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(object)) => Ok(Self(object)),
            Ok(_) => Err(Problem::invalid_body(vec![FieldError::new("", "not_an_object", "must be a JSON object")])),
            Err(error) => Err(invalid_json(&error.to_string())),
        }
    }
}

async fn read(mut body: Body) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            Problem::new(StatusCode::BAD_REQUEST, "invalid_body", "the connection ended before the end of the body")
        })?;
        let Some(data) = frame.data_ref() else { continue };
        received += data.len();
        if received > MAX_DISCARDED_BYTES {
            break;
        }
        if received <= MAX_BODY_BYTES {
            bytes.extend_from_slice(data);
        }
    }
    if received > MAX_BODY_BYTES { Err(too_large()) } else { Ok(bytes) }
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    let encoding = text(header::CONTENT_ENCODING).unwrap_or("identity");
    if !encoding.eq_ignore_ascii_case("identity") {
        return Err(unsupported_media_type("the body must not be compressed"));
    }
    let media_type = text(header::CONTENT_TYPE).unwrap_or_default();
    let mut parts = media_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    let is_utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    if is_json && is_utf8 { Ok(()) } else { Err(not_json()) }
}

/// 408: the client took too long to send the body.
pub(crate) fn timeout() -> Problem {
    let detail = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
    Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail)
}

/// 413: the body is larger than [`MAX_BODY_BYTES`].
pub(crate) fn too_large() -> Problem {
    let detail = format!("the body must have at most {MAX_BODY_BYTES} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

/// 415: the body has another media type or another encoding.
pub(crate) fn not_json() -> Problem {
    unsupported_media_type("the body must be application/json in UTF-8")
}

fn unsupported_media_type(detail: &str) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
}

/// 400: the body isn't JSON.
pub(crate) fn invalid_json(error: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid_json", format!("the body is not JSON: {error}"))
}
