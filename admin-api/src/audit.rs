//! The audit: what admins did. An action that isn't written down doesn't begin.

use std::io;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::UserId;
use futures_util::stream;
use http::{Uri, header};
use read_model::{AuditEntry, AuditedAction};
use service::auth::AdminCaller;
use service::http::{Params, RequestId};
use service::openapi::{ADMIN, AdminErrors, CommonHeaderParams};
use service::problem::Problem;
use service::response::DataResponse;

use crate::{AdminApi, postgres_problem};

const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 500;
/// How many actions an admin may begin a minute. Each is a row for ever.
const ACTIONS_MAX: i64 = 60;
/// When an admin who has begun too many may try again, in seconds.
const RETRY_AFTER_SECONDS: u64 = 60;
/// How many rows of the audit an export reads at a time.
const EXPORT_PAGE: i64 = 500;

domain::limit_rows! {
    Queries, "rows of the audit in a response", Count MAX_LIMIT, "400 `invalid_limit`", "Postgres and memory";
    Contents, "actions of an admin in a minute", Count ACTIONS_MAX, "429 `rate_limited`", "the audit, which keeps them for ever";
}

/// Who acts, and in which request.
pub(crate) struct Actor {
    pub(crate) user: UserId,
    pub(crate) request_id: RequestId,
}

impl AdminApi {
    /// Carries out an action that is in the audit before it begins, and whose outcome is in it afterwards, also if the
    /// client stops waiting.
    ///
    /// # Errors
    /// When Postgres doesn't take the audit's row, or the admin has begun too many actions: the action doesn't begin.
    /// Otherwise the action's problem.
    pub(crate) async fn audited<T: Send + 'static>(
        &self,
        actor: Actor,
        action: &'static str,
        target: &str,
        reason: Option<&str>,
        act: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<T, Problem> {
        let (read_model, target) = (self.0.read_model.clone(), target.to_owned());
        let begun =
            AuditedAction { actor: &actor.user, action, target: &target, reason, request_id: &actor.request_id.0 };
        let number = read_model.begin_audited(begun, ACTIONS_MAX).await.map_err(|error| postgres_problem(&error))?;
        let Some(number) = number else {
            let detail = format!("you have begun {ACTIONS_MAX} actions within a minute; wait a minute");
            return Err(Problem::too_many_requests("rate_limited", detail, RETRY_AFTER_SECONDS));
        };
        let acting = tokio::spawn(async move {
            let result = act.await;
            let outcome = result.as_ref().map_or_else(Problem::code, |_| "done");
            if let Err(error) = read_model.note_outcome(number, outcome).await {
                tracing::error!(%error, action, target, outcome, "the outcome of an admin's action isn't in the audit");
            }
            result
        });
        acting.await.unwrap_or_else(|error| {
            tracing::error!(%error, action, "the task of an admin's action failed; the admin gets 500");
            Err(Problem::internal())
        })
    }
}

/// List what admins did
///
/// The newest actions first. An action without an outcome is under way, or its process ended in the middle of it.
#[utoipa::path(
    get,
    path = "/admin/api/audit",
    operation_id = "audit",
    tag = ADMIN,
    params(
        ("before" = Option<i64>, Query, description = "Only actions with a smaller number: the last one of the page before."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 500, description = "How many actions, at most. 50 by default."),
        CommonHeaderParams
    ),
    responses((status = 200, description = "The actions.", body = DataResponse<Vec<AuditEntry>>), AdminErrors)
)]
pub(crate) async fn list(
    State(api): State<AdminApi>,
    _: AdminCaller,
    uri: Uri,
) -> Result<Json<DataResponse<Vec<AuditEntry>>>, Problem> {
    let params = Params::read(&uri, &["before", "limit"])?;
    let (before, limit) = (params.parse("before")?.unwrap_or(i64::MAX), params.limit(DEFAULT_LIMIT, MAX_LIMIT)?);
    let data = api.0.read_model.audit(before, limit).await.map_err(|error| postgres_problem(&error))?;
    Ok(Json(DataResponse { data }))
}

/// Export what admins did
///
/// Every action, the oldest first: one JSON object a line, as in the list.
#[utoipa::path(
    get,
    path = "/admin/api/audit.jsonl",
    operation_id = "exportAudit",
    tag = ADMIN,
    params(
        ("after" = Option<i64>, Query, description = "Only actions with a larger number: the last one of an earlier export."),
        CommonHeaderParams
    ),
    responses(
        (status = 200, description = "The actions.", body = String, content_type = "application/x-ndjson"),
        AdminErrors
    )
)]
pub(crate) async fn export(State(api): State<AdminApi>, _: AdminCaller, uri: Uri) -> Result<Response, Problem> {
    let after = Params::read(&uri, &["after"])?.parse("after")?.unwrap_or(0);
    let read_model = api.0.read_model.clone();
    // A failure of Postgres before the first line is a problem like any other.
    let first = read_model.audit_after(after, EXPORT_PAGE).await.map_err(|error| postgres_problem(&error))?;
    let pages = stream::unfold(Some(Ok(first)), move |page| {
        let read_model = read_model.clone();
        async move {
            let entries = match page? {
                Ok(entries) => entries,
                Err(error) => return Some((Err(error), None)),
            };
            let last = entries.last()?.number;
            let lines = json_lines(&entries);
            Some((lines, Some(read_model.audit_after(last, EXPORT_PAGE).await.map_err(io::Error::other))))
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"audit.jsonl\""),
    ];
    Ok((headers, Body::from_stream(pages)).into_response())
}

fn json_lines(entries: &[AuditEntry]) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut lines, entry)?;
        lines.push(b'\n');
    }
    Ok(lines)
}
