//! What goes around every route: request ids, time limits, problems for whatever goes wrong, and bodies.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequest, MatchedPath};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use domain::FieldError;
use http_body_util::BodyExt;
use serde_json::{Map, Value};
use tower::util::option_layer;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;
use utoipa::openapi::OpenApi;
use uuid::Uuid;

use crate::problem::Problem;
use crate::{cors, openapi, trace};

pub use crate::params::{Params, idempotency_key, messages_position, path_id};

/// The largest body of a request.
const BODY_BYTES: usize = 64 << 10;
/// How much of a larger body is read and thrown away, so that the client can read why it was refused.
const DRAIN_BYTES: usize = 1 << 20;
/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request may take from its first byte to its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest request id that is taken from a client.
const REQUEST_ID_BYTES: usize = 128;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Puts around a router what every service needs. The last thing to do with it. Each path of the document is known
/// here, also where its methods are served by other processes: a wrong method is told from a wrong path everywhere.
/// Pages of `origins` may call.
pub fn finish(router: Router, document: &OpenApi, origins: &[HeaderValue]) -> Router {
    let allowed: HashMap<String, HeaderValue> = openapi::methods(document)
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
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(around))
        // Outermost: what `around` makes of a problem has to have its headers, too.
        .layer(option_layer(cors::layer(origins)))
}

/// A handler that panicked. It is logged inside the request's span, and so under its id.
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("not a text"), "a handler panicked");
    Problem::internal().into_response()
}

/// The id, the time limit, the log line, the metrics, the span and the problem of one request.
async fn around(mut request: Request<Body>, next: Next) -> Response {
    let started = Instant::now();
    let _in_flight = InFlight::enter();
    let request_id = request_id(request.headers());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let name = || format!("{} {route}", method_label(&method));
    let mut traced = trace::Span::begin(trace::SpanKind::Server, name, trace::of_request(request.headers()));
    request.extensions_mut().insert(traced.context());
    let span = tracing::info_span!("request", id = request_id, trace = %traced.context().trace_id(), %method, route);
    let answered = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).instrument(span.clone()).await;
    let mut response =
        answered.unwrap_or_else(|_| Problem::unavailable("timeout", "it took too long; try again", 1).into_response());
    if let Some(problem) = response.extensions_mut().remove::<Problem>().or_else(|| unformed(&response)) {
        let mut rendered = problem.render(&request_id);
        // A 405 says which methods there are.
        if let Some(allow) = response.headers_mut().remove(header::ALLOW) {
            rendered.headers_mut().insert(header::ALLOW, allow);
        }
        response = rendered;
        if method == Method::HEAD {
            *response.body_mut() = Body::empty();
        }
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if response.status().is_server_error() {
        traced.fail(response.status().to_string());
    }
    traced.set_attribute("http.request.method", method.to_string());
    traced.set_attribute("http.route", route.clone());
    traced.set_attribute("http.response.status_code", i64::from(response.status().as_u16()));
    traced.set_attribute("messages.request_id", request_id);
    let status = response.status().as_u16().to_string();
    let elapsed = started.elapsed();
    let labels = [("method", method_label(&method).to_owned()), ("route", route), ("status", status)];
    metrics::counter!("http_requests_total", &labels).increment(1);
    metrics::histogram!("http_request_duration_seconds", &labels).record(elapsed);
    span.in_scope(|| tracing::debug!(status = response.status().as_u16(), ?elapsed, "answered"));
    response
}

/// A request that is under way; counted also when its client hangs up.
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

/// The problem for an error that isn't one yet: axum's own refusals, such as of a path that isn't UTF-8, are text.
fn unformed(response: &Response) -> Option<Problem> {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let shaped = !kind.is_empty() && !kind.starts_with(b"text/plain");
    if shaped || !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    if status.is_server_error() {
        return Some(Problem::internal());
    }
    Some(Problem::new(status, "bad_request", "the request can't be read; see its path and headers"))
}

/// The method as a label. Clients can make methods up; each would be another series for ever.
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

/// The client's own id for the request, where it is plain; a fresh one otherwise.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let plain =
        |id: &&str| (1..=REQUEST_ID_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    given.filter(plain).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// A body that is one JSON object. The last of a handler's arguments: it is read only when all else is right.
pub struct JsonBody(pub Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        // What comes is read even when its type is wrong: a client that is still sending couldn't read why.
        let limited = tokio::time::timeout(BODY_TIMEOUT, read(body)).await;
        let bytes = limited.unwrap_or_else(|_| {
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the body did not come in 10 s"))
        })?;
        check_type(&parts.headers)?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(object)) => Ok(Self(object)),
            Ok(_) => Err(Problem::invalid_body(vec![FieldError::new("", "not_an_object", "must be a JSON object")])),
            Err(error) => {
                let detail = format!("the body is not JSON: {error}");
                Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_json", detail))
            }
        }
    }
}

async fn read(mut body: Body) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let mut came = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "invalid_body", "the body broke off"))?;
        let Some(data) = frame.data_ref() else { continue };
        came += data.len();
        if came > DRAIN_BYTES {
            break;
        }
        if came <= BODY_BYTES {
            bytes.extend_from_slice(data);
        }
    }
    if came > BODY_BYTES {
        let detail = format!("a body has at most {BODY_BYTES} bytes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail));
    }
    Ok(bytes)
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let wrong = |detail: &str| Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    let encoding = text(header::CONTENT_ENCODING).unwrap_or("identity");
    if !encoding.eq_ignore_ascii_case("identity") {
        return wrong("the body must not be compressed");
    }
    let kind = text(header::CONTENT_TYPE).unwrap_or_default();
    let mut parts = kind.split(';').map(str::trim);
    let json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    if json && utf8 { Ok(()) } else { wrong("the body must be application/json in UTF-8") }
}

#[cfg(test)]
mod tests {
    use axum::extract::Path;
    use axum::routing::{get, post};
    use tower::ServiceExt;

    use super::*;

    fn router() -> Router {
        finish(
            Router::new()
                .route("/echo", post(|JsonBody(body): JsonBody| async move { Value::Object(body).to_string() }))
                .route("/named/{name}", get(|Path(name): Path<String>| async move { name }))
                .route(
                    "/bug",
                    get(|| async {
                        if true {
                            panic!("a secret of the inside")
                        }
                    }),
                ),
            &OpenApi::default(),
            &[],
        )
    }

    async fn ask(
        method: &str,
        path: &str,
        kind: Option<&str>,
        body: impl Into<Body>,
    ) -> (StatusCode, Value, HeaderMap) {
        let mut request = Request::builder().method(method).uri(path).header("x-request-id", "mine");
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let response = router().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status, serde_json::from_slice(&bytes).unwrap_or_default(), parts.headers)
    }

    #[tokio::test]
    async fn whatever_goes_wrong_is_a_problem_with_the_requests_id() {
        let json = Some("application/json");
        let cases = [
            ("GET", "/nowhere", None, Vec::new(), 404, "no_such_route"),
            ("GET", "/echo", None, Vec::new(), 405, "method_not_allowed"),
            ("GET", "/named/%ff", None, Vec::new(), 400, "bad_request"),
            ("GET", "/bug", None, Vec::new(), 500, "internal"),
            ("POST", "/echo", Some("text/plain"), b"{}".to_vec(), 415, "unsupported_media_type"),
            ("POST", "/echo", Some("application/json; charset=latin1"), b"{}".to_vec(), 415, "unsupported_media_type"),
            ("POST", "/echo", json, b"{".to_vec(), 400, "invalid_json"),
            ("POST", "/echo", json, b"\"\\ud800\"".to_vec(), 400, "invalid_json"),
            ("POST", "/echo", json, b"[]".to_vec(), 422, "not_an_object"),
            ("POST", "/echo", json, vec![b' '; BODY_BYTES + 1], 413, "body_too_large"),
        ];
        for (method, path, kind, body, status, code) in cases {
            let (got, problem, headers) = ask(method, path, kind, body).await;
            assert_eq!((got.as_u16(), &problem["code"]), (status, &Value::from(code)), "{problem}");
            assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
            assert_eq!(headers[header::CACHE_CONTROL], "no-store");
            assert!(!problem.to_string().contains("inside"), "{problem}");
            assert_eq!(problem["requestId"], "mine");
            assert_eq!(headers["x-request-id"], "mine");
            assert_eq!(headers.contains_key(header::ALLOW), status == 405);
        }
    }

    #[tokio::test]
    async fn a_body_of_exactly_the_limit_is_taken() {
        let body = format!("{{\"a\":\"{}\"}}", "x".repeat(BODY_BYTES - 8));
        assert_eq!(ask("POST", "/echo", Some("application/json; charset=UTF-8"), body).await.0, StatusCode::OK);
    }

    #[test]
    fn methods_that_clients_make_up_share_a_label() {
        assert_eq!(method_label(&Method::from_bytes(b"ABRACADABRA").unwrap()), "other");
        assert_eq!(method_label(&Method::PATCH), "PATCH");
    }
}
