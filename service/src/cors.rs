//! Which pages of other origins may call the API and the sockets (CORS, as the Fetch standard has it).

use std::time::Duration;

use ::http::{HeaderName, HeaderValue, Method, Uri, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser may remember what it was allowed.
const MAX_AGE: Duration = Duration::from_secs(3_600);

/// What a page may send.
const SENT: [HeaderName; 7] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::IF_NONE_MATCH,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("messages-position"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("x-request-id"),
];

/// What a page may read besides what it always may.
const READ: [HeaderName; 12] = [
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

/// An origin as the configuration names it: `https://app.example`, or `*` for any.
///
/// # Errors
/// When it is neither.
pub fn origin(text: &str) -> Result<HeaderValue, String> {
    let wrong = || "must be * or an origin such as https://app.example, without a path".to_owned();
    if text != "*" {
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(wrong()) };
        // Browsers send it just so; anything else would never match.
        if text != format!("{scheme}://{authority}").to_lowercase() || authority.as_str().contains('@') {
            return Err(wrong());
        }
    }
    HeaderValue::from_str(text).map_err(|_| wrong())
}

/// What answers preflights and tells browsers what pages of these origins may read. None where there are no origins:
/// then only pages of the API's own origin can use it.
///
/// No cookie is ever asked for: who calls is in a header that the page itself has to set. So no origin gets credentials.
pub(crate) fn layer(origins: &[HeaderValue]) -> Option<CorsLayer> {
    let allowed = match origins {
        [] => return None,
        origins if origins.iter().any(|origin| origin == "*") => AllowOrigin::any(),
        origins => AllowOrigin::list(origins.iter().cloned()),
    };
    let methods = [Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::DELETE];
    let layer = CorsLayer::new().allow_origin(allowed).allow_methods(methods).allow_headers(SENT);
    Some(layer.expose_headers(READ).max_age(MAX_AGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_a_host_and_maybe_a_port() {
        for right in ["*", "https://app.example", "http://127.0.0.1:5173", "http://[::1]:80", "capacitor://localhost"] {
            assert_eq!(origin(right).unwrap(), right);
        }
        for wrong in [
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
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }
}
