//! What those who run a process ask it: does it run, can it do its work, what has it counted.

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

/// How long a check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// What has to be well for the process to be ready. Built up at the start, then shared.
#[derive(Clone, Default)]
pub struct Readiness {
    needed: Vec<(&'static str, Check)>,
    helpful: Vec<(&'static str, Check)>,
    shutdown: CancellationToken,
}

impl Readiness {
    /// Not ready from this shutdown on.
    pub fn until(shutdown: CancellationToken) -> Self {
        Self { shutdown, ..Self::default() }
    }

    /// Adds a check of what the process can't do without; its error says what isn't ready.
    #[must_use]
    pub fn with_required<F, C>(mut self, name: &'static str, check: C) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
        C: Fn() -> F + Send + Sync + 'static,
    {
        self.needed.push((name, Arc::new(move || Box::pin(check()))));
        self
    }

    /// Adds a check of what the process goes on without, only slower or with less: it is named, and the process is
    /// ready all the same. Taking all nodes away from their users would help nobody.
    #[must_use]
    pub fn with_optional<F, C>(mut self, name: &'static str, check: C) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
        C: Fn() -> F + Send + Sync + 'static,
    {
        self.helpful.push((name, Arc::new(move || Box::pin(check()))));
        self
    }
}

/// What fails of some checks, all made at once.
async fn failures(checks: &[(&'static str, Check)], code: &'static str) -> Vec<FieldError> {
    let mut running = JoinSet::new();
    for (name, check) in checks {
        let (name, check) = (*name, check());
        running.spawn(async move {
            let outcome = tokio::time::timeout(CHECK_TIMEOUT, check).await;
            let outcome = outcome.unwrap_or_else(|_| Err("did not answer in 2 s".to_owned()));
            outcome.err().map(|detail| FieldError::new(name, code, detail))
        });
    }
    let mut failures: Vec<FieldError> = running.join_all().await.into_iter().flatten().collect();
    failures.sort_by(|one, other| one.field.cmp(&other.field));
    failures
}

/// The routes for those who run the process.
pub fn routes() -> OpenApiRouter<Readiness> {
    OpenApiRouter::default().routes(routes!(healthz)).routes(routes!(readyz)).routes(routes!(metrics))
}

/// That a process runs.
#[derive(Serialize, ToSchema)]
struct Healthy {
    #[schema(example = "ok")]
    status: &'static str,
}

/// That a process can do its work.
#[derive(Serialize, ToSchema)]
struct Ready {
    #[schema(example = "ready")]
    status: &'static str,
    /// What it goes on without, only slower or with less; empty when all is well.
    degraded: Vec<FieldError>,
}

/// Whether the process runs
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "healthz",
    tag = "operations",
    responses((status = 200, description = "It does.", body = Healthy)),
    security(())
)]
async fn healthz() -> Json<Healthy> {
    Json(Healthy { status: "ok" })
}

/// Whether the process can do its work
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "operations",
    responses(
        (status = 200, description = "It can; `degraded` names what it goes on without.", body = Ready),
        (
            status = 503,
            description = "It can't: `not_ready`, with what isn't, or `stopping`.",
            body = ProblemBody,
            content_type = "application/problem+json"
        ),
    ),
    security(())
)]
async fn readyz(State(readiness): State<Readiness>) -> Response {
    if readiness.shutdown.is_cancelled() {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the process was told to stop")
            .into_response();
    }
    let (failures, degraded) =
        tokio::join!(failures(&readiness.needed, "not_ready"), failures(&readiness.helpful, "degraded"));
    if failures.is_empty() {
        return Json(Ready { status: "ready", degraded }).into_response();
    }
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", "something that this needs is out of reach")
        .with_errors(failures)
        .into_response()
}

/// What the process has counted, for Prometheus
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "operations",
    responses((status = 200, description = "All metrics.", body = String, content_type = "text/plain")),
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
    use crate::http::finish;

    async fn ready(readiness: &Readiness) -> (StatusCode, Value) {
        let (router, document) = routes().with_state(readiness.clone()).split_for_parts();
        let request = ::http::Request::get("/readyz").body(axum::body::Body::empty()).unwrap();
        let response = finish(router, &document, &[]).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap())
    }

    #[tokio::test]
    async fn who_asks_is_told_what_is_not_ready() {
        let well = Readiness::default().with_required("kafka", || async { Ok(()) });
        assert_eq!(ready(&well).await, (StatusCode::OK, json!({"status": "ready", "degraded": []})));
        let (status, problem) = ready(&well.with_required("postgres", || async { Err("refused".to_owned()) })).await;
        assert_eq!((status, &problem["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"not_ready".into()));
        assert_eq!(problem["errors"], json!([{"field": "postgres", "code": "not_ready", "detail": "refused"}]));
    }

    #[tokio::test]
    async fn what_a_process_goes_on_without_is_named_and_nothing_more() {
        let degraded = Readiness::default().with_optional("redis", || async { Err("refused".to_owned()) });
        let (status, body) = ready(&degraded).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(body["degraded"], json!([{"field": "redis", "code": "degraded", "detail": "refused"}]));
    }

    #[tokio::test]
    async fn a_process_that_stops_is_not_ready() {
        let shutdown = CancellationToken::new();
        let readiness = Readiness::until(shutdown.clone());
        assert_eq!(ready(&readiness).await.0, StatusCode::OK);
        shutdown.cancel();
        let (status, problem) = ready(&readiness).await;
        assert_eq!((status, &problem["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"stopping".into()));
    }
}
