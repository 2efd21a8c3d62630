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
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::problem::Problem;
use crate::telemetry;

/// How long requests that are under way may take once the process is told to stop.
const DRAIN: Duration = Duration::from_secs(10);
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
    // Answers are small and wanted at once.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
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
