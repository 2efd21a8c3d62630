//! The audit: what admins did. An action that isn't written down doesn't begin.

use axum::Json;
use axum::extract::State;
use domain::UserId;
use http::Uri;
use read_model::{AuditEntry, AuditedAction};
use service::auth::AdminCaller;
use service::http::{Params, RequestId};
use service::openapi::{ADMIN, AdminErrors, CommonHeaderParams};
use service::problem::Problem;
use service::response::DataResponse;

use crate::{AdminApi, postgres_problem};

const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 500;

domain::limit_rows! {
    Queries, "rows of the audit in a response", Count MAX_LIMIT, "400 `invalid_limit`", "Postgres and memory";
}

/// Who acts, and in which request.
pub(crate) struct Actor {
    pub(crate) user: UserId,
    pub(crate) request_id: RequestId,
}

impl AdminApi {
    /// Carries out an action that is in the audit before it begins, and whose outcome is in it afterwards.
    ///
    /// # Errors
    /// When Postgres doesn't take the audit's row: the action doesn't begin. Otherwise the action's problem.
    pub(crate) async fn audited<T>(
        &self,
        actor: &Actor,
        action: &'static str,
        target: &str,
        reason: Option<&str>,
        act: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let read_model = &self.0.read_model;
        let begun = AuditedAction { actor: &actor.user, action, target, reason, request_id: &actor.request_id.0 };
        let number = read_model.begin_audited(begun).await.map_err(|error| postgres_problem(&error))?;
        let result = act.await;
        let outcome = result.as_ref().map_or_else(Problem::code, |_| "done");
        if let Err(error) = read_model.note_outcome(number, outcome).await {
            tracing::error!(%error, action, target, outcome, "the outcome of an admin's action isn't in the audit");
        }
        result
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
