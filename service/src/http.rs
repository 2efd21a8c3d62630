//! The middleware around every route: request ids, the time limit, spans, metrics, and problems as error responses.
//!
//! Every response has the request's id, and every error is a problem. A response must never reveal an internal error:
//! that is only in the log, under the request's id.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use axum::Router;
use axum::body::Body;
use axum::extract::MatchedPath;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use tokio::time::Instant;
use tower::util::option_layer;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;
use utoipa::openapi::OpenApi;
use uuid::Uuid;

use crate::cors::CorsPolicy;
use crate::problem::Problem;
use crate::trace::{Span, SpanKind, TraceContext};
use crate::{cors, openapi, request_body};

pub use crate::json_body::JsonBody;
pub use crate::params::{Params, idempotency_key, messages_position, path_id};

/// How long a request may take from its first byte to its response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest request id that the server takes from a client.
const MAX_REQUEST_ID_BYTES: usize = 128;

domain::limit_rows! {
    Requests, "time from a request's first byte to its response", Time REQUEST_TIMEOUT, "503 `timeout`", "tasks and connections";
    Requests, "bytes of an `X-Request-Id`", Count MAX_REQUEST_ID_BYTES, "the server makes an id of its own", "log lines";
}

/// The id of a request, as an extension of it. Only requests of admins have it: the audit names it.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// What the routes of admins begin with.
const ADMIN_ROUTES: &str = "/admin/";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Wraps a complete router in the middleware that every process needs.
///
/// The router answers 405 with `Allow`, and not 404, for every path of the document, even if another process serves the
/// path's methods. Pages that the policy names may call it.
pub fn with_middleware(router: Router, document: &OpenApi, policy: CorsPolicy<'_>) -> Router {
    let allowed: HashMap<String, HeaderValue> = openapi::allowed_methods(document)
        .filter_map(|(path, methods)| Some((path.to_owned(), HeaderValue::from_str(&methods).ok()?)))
        .collect();
    let router = allowed.keys().fold(router, |router, path| router.route(path, MethodRouter::new()));
    let allowed = Arc::new(allowed);
    router
        .fallback(|| async {
            Problem::new(StatusCode::NOT_FOUND, "no_such_route", "there is no such route; see the documentation")
        })
        .method_not_allowed_fallback(move |path: Option<MatchedPath>| {
            let methods = path.and_then(|path| allowed.get(path.as_str()).cloned());
            let allow = methods.map(|methods| [(header::ALLOW, methods)]);
            let problem =
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "the route has no such method");
            async move { (allow, problem) }
        })
        // The first is the outermost: the problems that `observe` renders need the CORS headers, too. As one layer,
        // because axum copies every route's service for each layer and request.
        .layer((
            option_layer(cors::layer(policy)),
            middleware::from_fn(observe),
            CatchPanicLayer::custom(panic_response),
        ))
}

/// The response for a handler that panicked. Runs inside the request's span, so the log line has the request's id.
fn panic_response(panic: Box<dyn Any + Send>) -> Response {
    let message = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = message.unwrap_or("no message"), "a handler panicked; the client gets 500");
    Problem::internal().into_response()
}

/// Runs one request within the time limit and its span, reads what is left of its body, renders its problem, and counts
/// it.
async fn observe(request: Request<Body>, next: Next) -> Response {
    let started = Instant::now();
    let deadline = started + REQUEST_TIMEOUT;
    let (mut request, unread) = request_body::track(request);
    let _in_flight = InFlight::enter();
    let request_id = request_id(request.headers());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let name = || format!("{} {route}", method_label(&method));
    let mut server_span = Span::begin(SpanKind::Server, name, TraceContext::from_headers(request.headers()));
    request.extensions_mut().insert(server_span.context());
    if route.starts_with(ADMIN_ROUTES) {
        request.extensions_mut().insert(RequestId(request_id.clone()));
    }
    let trace = server_span.context().trace_id();
    let log_span = tracing::info_span!("request", id = request_id, %trace, %method, route);
    let response = tokio::time::timeout_at(deadline, next.run(request)).instrument(log_span.clone()).await;
    let response = response
        .unwrap_or_else(|_| Problem::unavailable("timeout", "the request took too long; try again", 1).into_response());
    if let Some(unread) = unread {
        unread.discard(deadline).await;
    }
    let mut response = render_problem(response, &method, &request_id);
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if response.status().is_server_error() {
        server_span.fail(response.status().to_string());
    }
    server_span.set_attribute("http.request.method", method.to_string());
    server_span.set_attribute("http.route", route.clone());
    server_span.set_attribute("http.response.status_code", i64::from(response.status().as_u16()));
    server_span.set_attribute("messages.request_id", request_id);
    let status = response.status().as_u16().to_string();
    let elapsed = started.elapsed();
    let labels = [("method", method_label(&method).to_owned()), ("route", route), ("status", status)];
    metrics::counter!("http_requests_total", &labels).increment(1);
    metrics::histogram!("http_request_duration_seconds", &labels).record(elapsed);
    log_span.in_scope(|| tracing::debug!(status = response.status().as_u16(), ?elapsed, "request answered"));
    response
}

/// A request in progress. The gauge goes down on drop, and so also when the client hangs up.
struct InFlight;

impl InFlight {
    fn enter() -> Self {
        metrics::gauge!("http_requests_in_flight").increment(1);
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        metrics::gauge!("http_requests_in_flight").decrement(1);
    }
}

/// Writes the problem of an error response as its body. Returns any other response as it is.
fn render_problem(mut response: Response, method: &Method, request_id: &str) -> Response {
    let problem = response.extensions_mut().remove::<Problem>();
    let Some(problem) = problem.or_else(|| missing_problem(&response)) else { return response };
    let mut rendered = problem.render(request_id);
    // The header of a 405.
    if let Some(allow) = response.headers_mut().remove(header::ALLOW) {
        rendered.headers_mut().insert(header::ALLOW, allow);
    }
    if method == Method::HEAD {
        *rendered.body_mut() = Body::empty();
    }
    rendered
}

/// The problem for an error response without one: axum itself answers in text, for example to a path that isn't UTF-8.
fn missing_problem(response: &Response) -> Option<Problem> {
    let status = response.status();
    let media_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_text = media_type.is_empty() || media_type.starts_with(b"text/plain");
    if !is_text || !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    if status.is_server_error() {
        return Some(Problem::internal());
    }
    Some(Problem::new(status, "bad_request", "the server can't read the request; check its path and headers"))
}

/// The method as a label. A client can send any method; each unknown one would create a series that never goes away.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        _ => "other",
    }
}

/// The client's id for the request if it is 1 to 128 visible ASCII characters; otherwise a fresh id.
fn request_id(headers: &HeaderMap) -> String {
    let sent = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_valid =
        |id: &&str| (1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    sent.filter(is_valid).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use axum::extract::Path;
    use axum::routing::{get, post};
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;
    use crate::json_body::MAX_BODY_BYTES;

    fn router() -> Router {
        with_middleware(
            Router::new()
                .route("/echo", post(|JsonBody(body): JsonBody| async move { Value::Object(body).to_string() }))
                .route("/named/{name}", get(|Path(name): Path<String>| async move { name }))
                .route(
                    "/bug",
                    get(|| async {
                        if true {
                            panic!("an internal secret")
                        }
                    }),
                ),
            &OpenApi::default(),
            CorsPolicy::default(),
        )
    }

    async fn send(
        method: &str,
        path: &str,
        media_type: Option<&str>,
        body: impl Into<Body>,
    ) -> (StatusCode, Value, HeaderMap) {
        let mut request = Request::builder().method(method).uri(path).header("x-request-id", "mine");
        if let Some(media_type) = media_type {
            request = request.header(header::CONTENT_TYPE, media_type);
        }
        let response = router().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status, serde_json::from_slice(&bytes).unwrap_or_default(), parts.headers)
    }

    #[tokio::test]
    async fn every_error_is_a_problem_with_the_requests_id() {
        let json = Some("application/json");
        let cases = [
            ("GET", "/nowhere", None, Vec::new(), 404, "no_such_route"),
            ("GET", "/echo", None, Vec::new(), 405, "method_not_allowed"),
            ("GET", "/named/%ff", None, Vec::new(), 400, "bad_request"),
            ("GET", "/bug", None, Vec::new(), 500, "internal"),
            ("POST", "/echo", Some("text/html"), b"{}".to_vec(), 415, "unsupported_media_type"),
            ("POST", "/echo", Some("application/json; charset=latin1"), b"{}".to_vec(), 415, "unsupported_media_type"),
            ("POST", "/echo", json, b"{".to_vec(), 400, "invalid_json"),
            ("POST", "/echo", json, b"\"\\ud800\"".to_vec(), 400, "invalid_json"),
            ("POST", "/echo", json, b"[]".to_vec(), 422, "not_an_object"),
            ("POST", "/echo", json, vec![b' '; MAX_BODY_BYTES + 1], 413, "body_too_large"),
        ];
        for (method, path, media_type, body, status, code) in cases {
            let (actual, problem, headers) = send(method, path, media_type, body).await;
            assert_eq!((actual.as_u16(), &problem["code"]), (status, &Value::from(code)), "{problem}");
            assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
            assert_eq!(headers[header::CACHE_CONTROL], "no-store");
            assert!(!problem.to_string().contains("internal secret"), "{problem}");
            assert_eq!(problem["requestId"], "mine");
            assert_eq!(headers["x-request-id"], "mine");
            assert_eq!(headers.contains_key(header::ALLOW), status == 405);
        }
    }

    #[tokio::test]
    async fn a_body_of_exactly_the_limit_is_accepted() {
        let body = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_BODY_BYTES - 8));
        assert_eq!(send("POST", "/echo", Some("application/json; charset=UTF-8"), body).await.0, StatusCode::OK);
    }

    #[test]
    fn unknown_methods_share_a_label() {
        assert_eq!(method_label(&Method::from_bytes(b"ABRACADABRA").unwrap()), "other");
        assert_eq!(method_label(&Method::PATCH), "PATCH");
    }
}
