//! CORS: the pages of which other origins may call the API and the sockets, by the rules of the Fetch standard.
//!
//! The caller's token is in a header that the page sets itself, unless the operator names a cookie for it. This module
//! must never allow credentials to pages of any origin: a browser would add the cookie to their requests, and let them
//! read the responses.

use std::time::Duration;

use ::http::{HeaderName, HeaderValue, Method, Uri, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser may remember the answer to a preflight request.
const MAX_AGE: Duration = Duration::from_secs(3_600);

/// The request headers that a page may send.
const REQUEST_HEADERS: [HeaderName; 7] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::IF_NONE_MATCH,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("messages-position"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("x-request-id"),
];

/// The response headers that a page may read, in addition to those that browsers always reveal.
const RESPONSE_HEADERS: [HeaderName; 12] = [
    header::ALLOW,
    header::ETAG,
    header::LOCATION,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("idempotent-replayed"),
    HeaderName::from_static("messages-position"),
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
    HeaderName::from_static("x-cache"),
    HeaderName::from_static("x-request-id"),
];

/// Parses an origin of `CORS_ORIGINS`: `https://app.example`, or `*` for any.
///
/// # Errors
/// When the text is neither. The error says what is expected.
pub fn parse_origin(text: &str) -> Result<HeaderValue, String> {
    let error = || "must be * or an origin such as https://app.example, without a path".to_owned();
    if text != "*" {
        let uri: Uri = text.parse().map_err(|_| error())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(error()) };
        // Browsers send exactly this form. Any other form would never match.
        if text != format!("{scheme}://{authority}").to_lowercase() || authority.as_str().contains('@') {
            return Err(error());
        }
    }
    HeaderValue::from_str(text).map_err(|_| error())
}

/// Which pages of other origins may call the API. By default none may.
#[derive(Debug, Clone, Copy, Default)]
pub struct CorsPolicy<'a> {
    /// Their origins, or `*` for any.
    pub origins: &'a [HeaderValue],
    /// Whether the browser may add cookies to their requests. If any origin is allowed, it never may.
    pub allows_credentials: bool,
}

/// The layer that answers preflight requests and tells browsers what pages of these origins may read. `None` without
/// origins: then only pages of the API's own origin can use it.
pub(crate) fn layer(policy: CorsPolicy<'_>) -> Option<CorsLayer> {
    let CorsPolicy { origins, allows_credentials } = policy;
    let allows_any = origins.iter().any(|origin| origin == "*");
    let allowed = match origins {
        [] => return None,
        _ if allows_any => AllowOrigin::any(),
        origins => AllowOrigin::list(origins.iter().cloned()),
    };
    let methods = [Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::DELETE];
    let layer = CorsLayer::new().allow_origin(allowed).allow_methods(methods).allow_headers(REQUEST_HEADERS);
    let layer = layer.allow_credentials(allows_credentials && !allows_any);
    Some(layer.expose_headers(RESPONSE_HEADERS).max_age(MAX_AGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_a_host_and_an_optional_port() {
        for valid in ["*", "https://app.example", "http://127.0.0.1:5173", "http://[::1]:80", "capacitor://localhost"] {
            assert_eq!(parse_origin(valid).unwrap(), valid);
        }
        for invalid in [
            "",
            "app.example",
            "https://",
            "https://app.example/",
            "https://a.example/x",
            "https://u@a.example",
            "https://App.example",
            "null",
            "https://*.example ",
        ] {
            assert!(parse_origin(invalid).is_err(), "{invalid}");
        }
    }
}
