//! Reading a request's body, which must be one JSON object.
//!
//! Every body has a size limit and a time limit. [`crate::request_body`] reads what this module refuses to read.

use ::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::body::{Body, HttpBody};
use axum::extract::FromRequest;
use domain::FieldError;
use http_body_util::BodyExt;
use serde_json::{Map, Value};

use crate::problem::Problem;
use crate::request_body::BODY_TIMEOUT;

/// The largest accepted body.
pub(crate) const MAX_BODY_BYTES: usize = 64 << 10;

/// The byte order mark that some editors and libraries write before UTF-8. JSON has none (RFC 8259, section 8.1).
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

domain::limit_rows! {
    Requests, "a body", Bytes MAX_BODY_BYTES, "413 `body_too_large`", "memory and the log";
}

/// A body that is one JSON object. Must be the last argument of a handler: the server reads a body only when the rest
/// of the request is valid.
pub struct JsonBody(pub Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        check_media_type(&parts.headers)?;
        let read = tokio::time::timeout(BODY_TIMEOUT, read(body)).await;
        let bytes = read.unwrap_or_else(|_| Err(timeout()))?;
        match serde_json::from_slice(bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes)) {
            Ok(Value::Object(object)) => Ok(Self(object)),
            Ok(_) => Err(Problem::invalid_body(vec![FieldError::new("", "not_an_object", "must be a JSON object")])),
            Err(error) => Err(invalid_json(&error.to_string())),
        }
    }
}

async fn read(mut body: Body) -> Result<Vec<u8>, Problem> {
    // Without reading anything: a client that expects 100 Continue then needn't send the body.
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            Problem::new(StatusCode::BAD_REQUEST, "invalid_body", "the connection ended before the end of the body")
        })?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > MAX_BODY_BYTES {
            return Err(too_large());
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}

/// Refuses a body that says it is something other than JSON in UTF-8. Browsers send `text/plain` with a text for which
/// the page names no type, and simple clients name none.
fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let is_identity = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(header::CONTENT_ENCODING).iter().all(is_identity) {
        return Err(unsupported_media_type("the body must not be compressed"));
    }
    let is_json = |value: &HeaderValue| value.to_str().is_ok_and(may_be_json_in_utf8);
    if headers.get_all(header::CONTENT_TYPE).iter().all(is_json) { Ok(()) } else { Err(not_json()) }
}

/// Whether a body of this media type may be JSON in UTF-8, which many call `utf8`. Other parameters than the charset
/// don't matter.
fn may_be_json_in_utf8(media_type: &str) -> bool {
    let mut is_quoted = false;
    let mut parts = media_type.split(|character| {
        is_quoted ^= character == '"';
        character == ';' && !is_quoted
    });
    let essence = parts.next().unwrap_or_default().trim();
    let is_json = ["application/json", "text/plain"].iter().any(|known| essence.eq_ignore_ascii_case(known));
    is_json
        && parts.all(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            !name.trim().eq_ignore_ascii_case("charset") || is_utf8(value.trim())
        })
}

fn is_utf8(charset: &str) -> bool {
    let unquoted = charset.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(charset);
    ["utf-8", "utf8"].iter().any(|name| unquoted.eq_ignore_ascii_case(name))
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
    unsupported_media_type("the body must be JSON in UTF-8: application/json, text/plain, or without a content type")
}

fn unsupported_media_type(detail: &str) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
}

/// 400: the body isn't JSON.
pub(crate) fn invalid_json(error: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid_json", format!("the body is not JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_in_utf8_has_several_media_types_and_names() {
        for media_type in [
            "application/json",
            "Application/JSON",
            "text/plain",
            "TEXT/Plain;charset=UTF-8",
            "text/plain; charset=utf8",
            "application/json; charset=\"Utf-8\"",
            "application/json ; charset = UTF8",
            "application/json;charset=\"utf8\";profile=x",
            "application/json; title=\"a;charset=latin1\"; charset=utf-8",
            "text/plain; format=flowed",
            "application/json;",
        ] {
            assert!(may_be_json_in_utf8(media_type), "{media_type}");
        }
        for media_type in [
            "",
            "; charset=utf-8",
            "application",
            "application/jsonx",
            "application/json, text/plain",
            "application/problem+json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "text/html",
            "text/plain; charset=us-ascii",
            "text/plain;charset=iso-8859-1",
            "application/json; charset=utf-16",
            "application/json; charset=utf-8; charset=utf-16",
            "application/json; charset=\"utf-8",
            "application/json; charset='utf-8'",
            "application/json; charset",
            "application/json; CHARSET=",
        ] {
            assert!(!may_be_json_in_utf8(media_type), "{media_type}");
        }
    }

    #[test]
    fn every_header_of_a_body_counts() {
        let check = |pairs: &[(header::HeaderName, &'static str)]| {
            let pairs = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            check_media_type(&pairs.collect()).is_ok()
        };
        let (media_type, encoding) = (header::CONTENT_TYPE, header::CONTENT_ENCODING);
        assert!(check(&[]));
        assert!(check(&[(encoding.clone(), "Identity"), (media_type.clone(), "text/plain")]));
        assert!(!check(&[(encoding.clone(), "gzip")]));
        assert!(!check(&[(encoding.clone(), "identity"), (encoding, "gzip")]));
        assert!(!check(&[(media_type.clone(), "application/json"), (media_type, "text/html")]));
    }
}
