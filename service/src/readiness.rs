//! The endpoints for operators: `/healthz`, `/readyz` and `/metrics`.

use ::http::{StatusCode, header};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::FieldError;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::health::{Faults, Health};
use crate::problem::{Problem, ProblemBody};
use crate::telemetry;

/// The routes, with their part of the OpenAPI document.
pub fn routes() -> OpenApiRouter<Health> {
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
    /// The dependencies that are `gone` or that `half_works`, but without which the process works, only more slowly or
    /// with fewer features. Usually empty.
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
        (status = 200, description = "The process is ready. `degraded` lists what it works without.", body = Ready),
        (
            status = 503,
            description = "The process is `stopping`, or `not_ready`: `errors` lists what it can't work without, \
                           each `gone` or one that `half_works`.",
            body = ProblemBody,
            content_type = "application/problem+json"
        ),
    ),
    security(())
)]
async fn readyz(State(health): State<Health>) -> Response {
    if health.is_stopping() {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the process is stopping").into_response();
    }
    let Faults { required, optional } = health.faults().await;
    if required.is_empty() {
        return Json(Ready { status: "ready", degraded: optional }).into_response();
    }
    let detail = "the process can't do its work without a dependency";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", detail).with_errors(required).into_response()
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
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt;

    use super::*;
    use crate::cors::CorsPolicy;
    use crate::health::{Fault, HealthChecks};
    use crate::http::with_middleware;

    async fn get_readyz(health: Health) -> (StatusCode, Value) {
        let (router, document) = routes().with_state(health).split_for_parts();
        let request = ::http::Request::get("/readyz").body(axum::body::Body::empty()).unwrap();
        let response = with_middleware(router, &document, CorsPolicy::default()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap())
    }

    async fn refused() -> Result<(), Fault> {
        Err(Fault::Gone("refused".to_owned()))
    }

    #[tokio::test]
    async fn a_process_without_what_it_needs_is_not_ready() {
        let shutdown = CancellationToken::new();
        let kafka_only = || HealthChecks::default().with_required("kafka", || async { Ok(()) });
        let ready = get_readyz(kafka_only().watch(&shutdown)).await;
        assert_eq!(ready, (StatusCode::OK, json!({"status": "ready", "degraded": []})));
        let (status, problem) = get_readyz(kafka_only().with_required("postgres", refused).watch(&shutdown)).await;
        assert_eq!((status, &problem["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"not_ready".into()));
        let error = &problem["errors"][0];
        assert_eq!((&error["field"], &error["code"]), (&"postgres".into(), &"gone".into()));
        assert!(error["detail"].as_str().unwrap().starts_with("refused (since "), "{error}");
    }

    #[tokio::test]
    async fn a_process_without_an_optional_dependency_is_degraded() {
        let degraded = HealthChecks::default().with_optional("redis", refused).watch(&CancellationToken::new());
        let (status, body) = get_readyz(degraded).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!((&body["degraded"][0]["field"], &body["degraded"][0]["code"]), (&"redis".into(), &"gone".into()));
    }

    #[tokio::test]
    async fn a_stopping_process_is_not_ready() {
        let shutdown = CancellationToken::new();
        let health = HealthChecks::default().watch(&shutdown);
        assert_eq!(get_readyz(health.clone()).await.0, StatusCode::OK);
        shutdown.cancel();
        let (status, problem) = get_readyz(health).await;
        assert_eq!((status, &problem["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"stopping".into()));
    }
}
