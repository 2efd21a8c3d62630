//! Jobs: rebuilds and verifications. A projector works on them; any node shows them and has them cancelled.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use domain::ConversationId;
use event_log::partition_of;
use http::{StatusCode, Uri};
use read_model::{Job, JobKind, ReadModel};
use serde::Serialize;
use serde_json::{Map, Value};
use service::auth::AdminCaller;
use service::http::{JsonBody, Params, RequestId, path_id};
use service::openapi::{ADMIN, AdminActionErrors, AdminErrors, CommonHeaderParams};
use service::problem::{JOB_AT_WORK, Problem};
use service::response::DataResponse;
use tokio::time::{Instant, sleep};
use utoipa::ToSchema;

use crate::audit::Actor;
use crate::fields::{ensure_known, invalid};
use crate::{AdminApi, postgres_problem};

const DEFAULT_LIMIT: i64 = 20;
const MAX_LIMIT: i64 = 100;
/// How long a request waits for the end of a rebuild, and how often it looks.
const REBUILDING_MAX: Duration = Duration::from_secs(1);
const REBUILDING_PAUSE: Duration = Duration::from_millis(100);

domain::limit_rows! {
    Queries, "rebuilds and verifications in a response", Count MAX_LIMIT, "400 `invalid_limit`", "Postgres and memory";
    Services, "wait of an admin's request for the end of another rebuild", Time REBUILDING_MAX, "409 `job_at_work`", "the admin";
}

/// Start a rebuild or a verification
///
/// A projector begins it within a second, and it goes on if that projector ends: another one begins it anew. One at a time.
/// A rebuild whose rows differ from those in use replaces them only with `acceptDifferences`; otherwise it says what differs.
#[utoipa::path(
    post,
    path = "/admin/api/jobs",
    operation_id = "startJob",
    tag = ADMIN,
    params(CommonHeaderParams),
    request_body = JobRequest,
    responses(
        (status = 202, description = "A projector will work on it.", body = DataResponse<Job>),
        AdminErrors,
        AdminActionErrors
    )
)]
pub(crate) async fn start(
    State(api): State<AdminApi>,
    AdminCaller(user): AdminCaller,
    Extension(request_id): Extension<RequestId>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<DataResponse<Job>>), Problem> {
    let (kind, accept_differences) = read_request(&body)?;
    let target = match (kind, accept_differences) {
        (JobKind::Rebuild, true) => "rebuild, accepting differences",
        (JobKind::Rebuild, false) => "rebuild",
        (JobKind::DryRun, _) => "dry run",
        (JobKind::GoBack, _) => "go back",
        (JobKind::Verify, _) => "verify",
    };
    let (read_model, actor) = (api.0.read_model.clone(), user.clone());
    let starting = async move {
        let at_work = || Problem::conflict("job_at_work", JOB_AT_WORK);
        if kind != JobKind::Verify && is_rebuilding(&read_model).await? {
            return Err(at_work());
        }
        let requested = read_model.request_job(kind, accept_differences, &actor).await;
        requested.map_err(|error| postgres_problem(&error))?.ok_or_else(at_work)
    };
    let job = api.audited(Actor { user, request_id }, "start-job", target, None, starting).await?;
    Ok((StatusCode::ACCEPTED, Json(DataResponse { data: job })))
}

/// Whether a rebuild is at work, also one at the command line. One that has just ended may need a moment to be gone.
async fn is_rebuilding(read_model: &ReadModel) -> Result<bool, Problem> {
    let began = Instant::now();
    while read_model.is_rebuilding().await.map_err(|error| postgres_problem(&error))? {
        if began.elapsed() > REBUILDING_MAX {
            return Ok(true);
        }
        sleep(REBUILDING_PAUSE).await;
    }
    Ok(false)
}

/// List rebuilds and verifications
///
/// The newest first. The last 1,000 are kept.
#[utoipa::path(
    get,
    path = "/admin/api/jobs",
    operation_id = "jobs",
    tag = ADMIN,
    params(
        ("before" = Option<i64>, Query, description = "Only jobs with a smaller number: the last one of the page before."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "How many jobs, at most. 20 by default."),
        CommonHeaderParams
    ),
    responses((status = 200, description = "The jobs.", body = DataResponse<Vec<Job>>), AdminErrors)
)]
pub(crate) async fn list(
    State(api): State<AdminApi>,
    _: AdminCaller,
    uri: Uri,
) -> Result<Json<DataResponse<Vec<Job>>>, Problem> {
    let params = Params::read(&uri, &["before", "limit"])?;
    let (before, limit) = (params.parse("before")?.unwrap_or(i64::MAX), params.limit(DEFAULT_LIMIT, MAX_LIMIT)?);
    let data = api.0.read_model.jobs(before, limit).await.map_err(|error| postgres_problem(&error))?;
    Ok(Json(DataResponse { data }))
}

/// Read one rebuild or verification
///
/// While it runs, its step is at most two seconds old.
#[utoipa::path(
    get,
    path = "/admin/api/jobs/{number}",
    operation_id = "job",
    tag = ADMIN,
    params(("number" = i64, Path, description = "The job's number."), CommonHeaderParams),
    responses((status = 200, description = "The job.", body = DataResponse<Job>), AdminErrors)
)]
pub(crate) async fn one(
    State(api): State<AdminApi>,
    _: AdminCaller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<DataResponse<Job>>, Problem> {
    let job = api.0.read_model.job(path_id("number", path)?).await.map_err(|error| postgres_problem(&error))?;
    Ok(Json(DataResponse { data: job.ok_or_else(|| Problem::not_found("number"))? }))
}

/// Cancel a rebuild or a verification
///
/// It ends within seconds and changes nothing, unless it has just come to its end.
#[utoipa::path(
    post,
    path = "/admin/api/jobs/{number}/cancel",
    operation_id = "cancelJob",
    tag = ADMIN,
    params(("number" = i64, Path, description = "The job's number."), CommonHeaderParams),
    responses(
        (status = 202, description = "It will end.", body = DataResponse<Job>),
        AdminErrors,
        AdminActionErrors
    )
)]
pub(crate) async fn cancel(
    State(api): State<AdminApi>,
    AdminCaller(user): AdminCaller,
    Extension(request_id): Extension<RequestId>,
    path: Result<Path<String>, PathRejection>,
) -> Result<(StatusCode, Json<DataResponse<Job>>), Problem> {
    let number: i64 = path_id("number", path)?;
    let read_model = api.0.read_model.clone();
    let cancelling = async move {
        if let Some(job) = read_model.cancel_job(number).await.map_err(|error| postgres_problem(&error))? {
            return Ok(job);
        }
        let job = read_model.job(number).await.map_err(|error| postgres_problem(&error))?;
        Err(match job {
            Some(_) => Problem::conflict("wrong_status", "the job has ended already; nothing was changed"),
            None => Problem::not_found("number"),
        })
    };
    let job = api.audited(Actor { user, request_id }, "cancel-job", &number.to_string(), None, cancelling).await?;
    Ok((StatusCode::ACCEPTED, Json(DataResponse { data: job })))
}

/// A conversation whose rows are to be made anew.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestedConversation {
    /// Whose rows they are.
    conversation_id: ConversationId,
    /// What happens to it next.
    #[schema(example = "requested")]
    status: &'static str,
}

/// Make the rows of one conversation anew
///
/// The projector of its partition folds the conversation from the log again, within seconds.
#[utoipa::path(
    post,
    path = "/admin/api/conversations/{id}/rebuild",
    operation_id = "rebuildConversation",
    tag = ADMIN,
    params(("id" = ConversationId, Path, description = "The conversation's id."), CommonHeaderParams),
    responses(
        (status = 202, description = "A projector will do it.", body = DataResponse<RequestedConversation>),
        AdminErrors,
        AdminActionErrors
    )
)]
pub(crate) async fn rebuild_conversation(
    State(api): State<AdminApi>,
    AdminCaller(user): AdminCaller,
    Extension(request_id): Extension<RequestId>,
    path: Result<Path<String>, PathRejection>,
) -> Result<(StatusCode, Json<DataResponse<RequestedConversation>>), Problem> {
    let id: ConversationId = path_id("id", path)?;
    let (read_model, partition) = (api.0.read_model.clone(), partition_of(id, api.0.partitions));
    let requesting = async move {
        let requested = read_model.request_conversation_rebuild(id, partition).await;
        requested.map_err(|error| postgres_problem(&error))?;
        Ok(RequestedConversation { conversation_id: id, status: "requested" })
    };
    let actor = Actor { user, request_id };
    let data = api.audited(actor, "rebuild-conversation", &id.to_string(), None, requesting).await?;
    Ok((StatusCode::ACCEPTED, Json(DataResponse { data })))
}

/// What to do.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct JobRequest {
    /// What the job does.
    kind: JobKind,
    /// Whether a rebuild may replace rows by other ones. False by default.
    #[schema(default = false)]
    accept_differences: Option<bool>,
}

fn read_request(body: &Map<String, Value>) -> Result<(JobKind, bool), Problem> {
    const KIND: &str = "kind";
    const ACCEPT: &str = "acceptDifferences";
    ensure_known(body, &[KIND, ACCEPT])?;
    let kind = body.get(KIND).ok_or_else(|| invalid(KIND, "required", "is required"))?;
    let kind: JobKind = serde_json::from_value(kind.clone())
        .map_err(|_| invalid(KIND, "invalid", "must be \"rebuild\", \"dryRun\", \"goBack\" or \"verify\""))?;
    let accepts = match body.get(ACCEPT) {
        None => false,
        Some(Value::Bool(accepts)) => *accepts,
        Some(_) => return Err(invalid(ACCEPT, "wrong_type", "must be true or false")),
    };
    if accepts && kind != JobKind::Rebuild {
        return Err(invalid(ACCEPT, "not_allowed", "only a rebuild can accept differences"));
    }
    Ok((kind, accepts))
}
