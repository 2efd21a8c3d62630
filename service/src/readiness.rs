//! The endpoints for operators: `/healthz`, `/readyz` and `/metrics`.
//!
//! A process is ready when all its required checks pass. A failed optional check must never make it unready: otherwise
//! an outage of Redis would take away every node at once, though each still works.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::http::{StatusCode, header};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::FieldError;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::problem::{Problem, ProblemBody};
use crate::telemetry;

/// How long a check may take before it fails.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

domain::limit_rows! {
    Services, "a check of `/readyz`", Time CHECK_TIMEOUT, "the check has failed", "load balancers, which wait for it";
}

type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// The checks that decide whether the process is ready. The process builds it at the start and then shares it.
#[derive(Clone, Default)]
pub struct Readiness {
    required: Vec<(&'static str, Check)>,
    optional: Vec<(&'static str, Check)>,
    shutdown: CancellationToken,
}

impl Readiness {
    /// A readiness without checks, which ends with this shutdown.
    pub fn until(shutdown: CancellationToken) -> Self {
        Self { shutdown, ..Self::default() }
    }

    /// Adds a check of a dependency that the process can't work without. The check's error is the detail that operators
    /// see.
    #[must_use]
    pub fn with_required<F, C>(mut self, name: &'static str, check: C) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
        C: Fn() -> F + Send + Sync + 'static,
    {
        self.required.push((name, Arc::new(move || Box::pin(check()))));
        self
    }

    /// Adds a check of a dependency without which the process works more slowly or with fewer features. If the check
    /// fails, the process is ready, but degraded.
    #[must_use]
    pub fn with_optional<F, C>(mut self, name: &'static str, check: C) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
        C: Fn() -> F + Send + Sync + 'static,
    {
        self.optional.push((name, Arc::new(move || Box::pin(check()))));
        self
    }
}

/// Runs all checks at the same time. Returns an error for each that fails, in the order of their names.
async fn failures(checks: &[(&'static str, Check)], code: &'static str) -> Vec<FieldError> {
    let mut running = JoinSet::new();
    for (name, check) in checks {
        let (name, check) = (*name, check());
        running.spawn(async move {
            let outcome = tokio::time::timeout(CHECK_TIMEOUT, check).await;
            let outcome = outcome.unwrap_or_else(|_| Err("did not answer within 2 s".to_owned()));
            outcome.err().map(|detail| FieldError::new(name, code, detail))
        });
    }
    let mut failures: Vec<FieldError> = running.join_all().await.into_iter().flatten().collect();
    failures.sort_by(|one, other| one.field.cmp(&other.field));
    failures
}

/// The routes, with their part of the OpenAPI document.
pub fn routes() -> OpenApiRouter<Readiness> {
    OpenApiRouter::default().routes(routes!(healthz)).routes(routes!(readyz)).routes(routes!(metrics))
}

/// The process runs.
#[derive(Serialize, ToSchema)]
struct Healthy {
    #[schema(example = "ok")]
    status: &'static str,
}

/// The process can do its work.
#[derive(Serialize, ToSchema)]
struct Ready {
    #[schema(example = "ready")]
    status: &'static str,
    /// Failed optional checks: the process works, but more slowly or with fewer features. Usually empty.
    degraded: Vec<FieldError>,
}

/// Check whether the process runs
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "healthz",
    tag = "operations",
    responses((status = 200, description = "The process runs.", body = Healthy)),
    security(())
)]
async fn healthz() -> Json<Healthy> {
    Json(Healthy { status: "ok" })
}

/// Check whether the process can do its work
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "operations",
    responses(
        (status = 200, description = "The process is ready. `degraded` lists failed optional checks.", body = Ready),
        (
            status = 503,
            description = "The process is `stopping`, or `not_ready`: `errors` lists failed required checks.",
            body = ProblemBody,
            content_type = "application/problem+json"
        ),
    ),
    security(())
)]
async fn readyz(State(readiness): State<Readiness>) -> Response {
    if readiness.shutdown.is_cancelled() {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the process is stopping").into_response();
    }
    let (failures, degraded) =
        tokio::join!(failures(&readiness.required, "not_ready"), failures(&readiness.optional, "degraded"));
    if failures.is_empty() {
        return Json(Ready { status: "ready", degraded }).into_response();
    }
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", "a dependency of this process is unavailable")
        .with_errors(failures)
        .into_response()
}

/// Get the metrics of the process, for Prometheus
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "operations",
    responses((
        status = 200,
        description = "All metrics in the text format of Prometheus.",
        body = String,
        content_type = "text/plain"
    )),
    security(())
)]
async fn metrics() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], telemetry::metrics_text())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::{Value, json};
    use tower::ServiceExt;

    use super::*;
    use crate::http::with_middleware;

    async fn get_readyz(readiness: &Readiness) -> (StatusCode, Value) {
        let (router, document) = routes().with_state(readiness.clone()).split_for_parts();
        let request = ::http::Request::get("/readyz").body(axum::body::Body::empty()).unwrap();
        let response = with_middleware(router, &document, &[]).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap())
    }

    #[tokio::test]
    async fn a_failed_required_check_makes_the_process_unready() {
        let kafka_only = Readiness::default().with_required("kafka", || async { Ok(()) });
        assert_eq!(get_readyz(&kafka_only).await, (StatusCode::OK, json!({"status": "ready", "degraded": []})));
        let (status, problem) =
            get_readyz(&kafka_only.with_required("postgres", || async { Err("refused".to_owned()) })).await;
        assert_eq!((status, &problem["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"not_ready".into()));
        assert_eq!(problem["errors"], json!([{"field": "postgres", "code": "not_ready", "detail": "refused"}]));
    }

    #[tokio::test]
    async fn a_failed_optional_check_makes_the_process_degraded() {
        let degraded = Readiness::default().with_optional("redis", || async { Err("refused".to_owned()) });
        let (status, body) = get_readyz(&degraded).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(body["degraded"], json!([{"field": "redis", "code": "degraded", "detail": "refused"}]));
    }

    #[tokio::test]
    async fn a_stopping_process_is_not_ready() {
        let shutdown = CancellationToken::new();
        let readiness = Readiness::until(shutdown.clone());
        assert_eq!(get_readyz(&readiness).await.0, StatusCode::OK);
        shutdown.cancel();
        let (status, problem) = get_readyz(&readiness).await;
        assert_eq!((status, &problem["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"stopping".into()));
    }
}
