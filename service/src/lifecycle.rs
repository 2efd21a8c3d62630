//! Starting, being ready, and stopping in good order.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::http::{StatusCode, header};
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use domain::FieldError;
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::problem::Problem;
use crate::telemetry;

/// How long requests that are under way may take once the process is told to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How much the system holds for a client that doesn't read. By itself Linux lets it grow to megabytes: thousands of
/// slow sockets would take more memory than everything else.
const SEND_BUFFER_BYTES: usize = 128 << 10;
/// How long a check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// A token that is cancelled when the process is told to stop: by SIGINT or SIGTERM.
pub fn shutdown_on_signal() -> CancellationToken {
    let shutdown = CancellationToken::new();
    let told = shutdown.clone();
    tokio::spawn(async move {
        let interrupt = tokio::signal::ctrl_c();
        let terminate = async {
            match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
                Ok(mut signal) => signal.recv().await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt => {}
            _ = terminate => {}
        }
        tracing::info!("stopping");
        told.cancel();
    });
    shutdown
}

/// Serves until the shutdown, then lets requests that are under way finish, at most 10 s.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> std::io::Result<()> {
    let listener = listener.tap_io(|stream| {
        // Answers are small and wanted at once.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&*stream).set_send_buffer_size(SEND_BUFFER_BYTES);
    });
    let drained = shutdown.clone();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move { drained.cancelled().await });
    let limit = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = server => served,
        () = limit => {
            tracing::warn!("stopped with requests under way");
            Ok(())
        }
    }
}

type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// What has to be well for the process to be ready. Built up at the start, then shared.
#[derive(Clone, Default)]
pub struct Readiness {
    checks: Vec<(&'static str, Check)>,
}

impl Readiness {
    /// Adds a check; its error says what isn't ready.
    #[must_use]
    pub fn with<F, C>(mut self, name: &'static str, check: C) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
        C: Fn() -> F + Send + Sync + 'static,
    {
        self.checks.push((name, Arc::new(move || Box::pin(check()))));
        self
    }

    async fn failures(&self) -> Vec<FieldError> {
        let mut running = tokio::task::JoinSet::new();
        for (name, check) in &self.checks {
            let (name, check) = (*name, check());
            running.spawn(async move {
                let outcome = tokio::time::timeout(CHECK_TIMEOUT, check).await;
                match outcome.unwrap_or_else(|_| Err("did not answer in 2 s".to_owned())) {
                    Ok(()) => None,
                    Err(detail) => Some(FieldError::new(name, "not_ready", detail)),
                }
            });
        }
        let mut failures: Vec<FieldError> = running.join_all().await.into_iter().flatten().collect();
        failures.sort_by(|one, other| one.field.cmp(&other.field));
        failures
    }
}

/// The routes for those who run the process: `/healthz`, `/readyz`, `/metrics`.
pub fn operations(readiness: Readiness) -> Router {
    Router::new()
        .route("/healthz", get(|| async { axum::Json(serde_json::json!({"status": "ok"})) }))
        .route("/readyz", get(readyz))
        .route(
            "/metrics",
            get(|| async { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], telemetry::metrics_text()) }),
        )
        .with_state(readiness)
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    let failures = readiness.failures().await;
    if failures.is_empty() {
        return axum::Json(serde_json::json!({"status": "ready"})).into_response();
    }
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", "something that this needs is out of reach")
        .with_errors(failures)
        .into_response()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tower::ServiceExt;

    use super::*;
    use crate::http::{JsonBody, finish};

    async fn ready(readiness: Readiness) -> (StatusCode, serde_json::Value) {
        let request = ::http::Request::get("/readyz").body(axum::body::Body::empty()).unwrap();
        let response = finish(operations(readiness)).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap())
    }

    #[tokio::test]
    async fn who_asks_is_told_what_is_not_ready() {
        let well = Readiness::default().with("kafka", || async { Ok(()) });
        assert_eq!(ready(well.clone()).await.0, StatusCode::OK);
        let (status, problem) = ready(well.with("postgres", || async { Err("refused".to_owned()) })).await;
        assert_eq!((status, &problem["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"not_ready".into()));
        assert_eq!(
            problem["errors"],
            serde_json::json!([{"field": "postgres", "code": "not_ready", "detail": "refused"}])
        );
    }

    /// Serves on a free port: the task that ends with it, and a client.
    async fn start(
        router: Router,
        shutdown: &CancellationToken,
    ) -> (tokio::task::JoinHandle<()>, tokio::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = shutdown.clone();
        let served = tokio::spawn(async move { serve(listener, finish(router), shutdown).await.unwrap() });
        (served, tokio::net::TcpStream::connect(address).await.unwrap())
    }

    #[tokio::test]
    async fn a_request_under_way_is_answered_before_the_process_stops() {
        let shutdown = CancellationToken::new();
        let (told, stopped) = (shutdown.clone(), shutdown.clone());
        let slow = move || async move {
            told.cancel();
            tokio::time::sleep(Duration::from_millis(50)).await;
            "done"
        };
        let (served, mut client) = start(Router::new().route("/slow", get(slow)), &stopped).await;
        client.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("done"), "{answer}");
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_sends_too_much_can_read_why_it_is_refused() {
        let route = axum::routing::post(|_: JsonBody| async {});
        let (_served, mut client) = start(Router::new().route("/echo", route), &CancellationToken::new()).await;
        let body = vec![b' '; 1 << 20];
        let head = "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n";
        client.write_all(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes()).await.unwrap();
        client.write_all(&body).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_large"), "{answer}");
    }
}
