//! Dead letters: the records that the projector couldn't fold. Admins look at them, have them retried, or discard them.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use domain::{ConversationId, Position, Timestamp};
use http::{StatusCode, Uri};
use read_model::{DeadLetter, DeadLetterStatus};
use serde::Serialize;
use service::auth::AdminCaller;
use service::http::{JsonBody, Params, RequestId, path_id};
use service::openapi::{ADMIN, AdminActionErrors, AdminErrors, CommonHeaderParams};
use service::problem::{Problem, WRONG_STATUS};
use service::response::DataResponse;
use utoipa::ToSchema;

use crate::audit::Actor;
use crate::fields::{ensure_known, invalid};
use crate::{AdminApi, log_problem, postgres_problem};

/// The longest reason of an admin, in characters.
const MAX_REASON: usize = 500;
const DEFAULT_LIMIT: i64 = 100;
const MAX_LIMIT: i64 = 500;
/// How many bytes of a record's value the API shows.
const MAX_SHOWN_BYTES: usize = 64 << 10;

domain::limit_rows! {
    Contents, "the reason why an admin discards a dead letter", Count MAX_REASON, "422 `too_long`", "Postgres";
    Queries, "dead letters in a response", Count MAX_LIMIT, "400 `invalid_limit`", "Postgres and memory";
    Contents, "bytes of a dead letter's value that the admin API shows", Bytes MAX_SHOWN_BYTES, "it shows the first ones", "memory, and pages that show them";
}

/// What happens to a dead letter next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Status {
    /// Nothing, until an admin decides.
    Parked,
    /// The projector folds its conversation again.
    Retrying,
    /// Nothing: the read model includes it.
    Folded,
    /// Nothing: an admin decided that.
    Discarded,
}

impl From<DeadLetterStatus> for Status {
    fn from(status: DeadLetterStatus) -> Self {
        match status {
            DeadLetterStatus::Parked => Self::Parked,
            DeadLetterStatus::RetryRequested | DeadLetterStatus::FoldedPendingInvalidation => Self::Retrying,
            DeadLetterStatus::Folded => Self::Folded,
            DeadLetterStatus::Discarded => Self::Discarded,
        }
    }
}

/// A record that the projector couldn't fold.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeadLetterView {
    /// Its position on the log, `P:O`.
    #[schema(value_type = String, example = "3:42")]
    position: Position,
    /// What happens to it next.
    status: Status,
    /// Why the projector couldn't fold it at the last attempt.
    reason: String,
    /// When a projector first met it.
    parked_at: Timestamp,
    /// When the status last changed.
    changed_at: Timestamp,
    /// The conversation of the event, once it is folded.
    #[schema(required)]
    conversation_id: Option<ConversationId>,
    /// Why an admin discarded it.
    #[schema(required)]
    note: Option<String>,
}

impl From<DeadLetter> for DeadLetterView {
    fn from(letter: DeadLetter) -> Self {
        let DeadLetter { position, reason, parked_at, status, changed_at, conversation_id, note } = letter;
        Self { position, status: status.into(), reason, parked_at, changed_at, conversation_id, note }
    }
}

/// A dead letter with its record, as far as it is a text.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeadLetterRecord {
    #[serde(flatten)]
    letter: DeadLetterView,
    /// The record; null if the log no longer has it.
    #[schema(required)]
    record: Option<RecordView>,
}

/// A record of the log. Bytes that aren't UTF-8 are replaced by U+FFFD.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecordView {
    /// Its key: the id of its conversation, if one of our processes wrote it.
    key: String,
    /// The header `ce_type`.
    #[schema(required)]
    event_type: Option<String>,
    /// The first 64 KiB of its value.
    value: String,
    /// How many bytes the value has.
    bytes: usize,
}

/// List the dead letters
///
/// In the order of the log.
#[utoipa::path(
    get,
    path = "/admin/api/dead-letters",
    operation_id = "deadLetters",
    tag = ADMIN,
    params(
        ("all" = Option<bool>, Query, description = "Also those that are folded or discarded. False by default."),
        ("after" = Option<String>, Query, description = "Only those behind this position, `P:O`: the last one of the page before."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 500, description = "How many, at most. 100 by default."),
        CommonHeaderParams
    ),
    responses((status = 200, description = "The dead letters.", body = DataResponse<Vec<DeadLetterView>>), AdminErrors)
)]
pub(crate) async fn list(
    State(api): State<AdminApi>,
    _: AdminCaller,
    uri: Uri,
) -> Result<Json<DataResponse<Vec<DeadLetterView>>>, Problem> {
    let params = Params::read(&uri, &["all", "after", "limit"])?;
    let (all, after) = (params.parse("all")?.unwrap_or(false), params.parse("after")?);
    let limit = params.limit(DEFAULT_LIMIT, MAX_LIMIT)?;
    let letters = api.0.read_model.dead_letters(api.0.topic_id, all, after, limit).await;
    let letters = letters.map_err(|error| postgres_problem(&error))?;
    Ok(Json(DataResponse { data: letters.into_iter().map(Into::into).collect() }))
}

/// Read one dead letter, with its record
#[utoipa::path(
    get,
    path = "/admin/api/dead-letters/{position}",
    operation_id = "deadLetter",
    tag = ADMIN,
    params(("position" = String, Path, description = "The record's position, `P:O`."), CommonHeaderParams),
    responses((status = 200, description = "The dead letter.", body = DataResponse<DeadLetterRecord>), AdminErrors)
)]
pub(crate) async fn one(
    State(api): State<AdminApi>,
    _: AdminCaller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<DataResponse<DeadLetterRecord>>, Problem> {
    let position = path_id("position", path)?;
    let letter = api.find(position).await?.into();
    let record = api.0.log.read_at(position).await.map_err(|error| log_problem(&error))?;
    let record = record.map(|record| {
        let shown = record.value.get(..MAX_SHOWN_BYTES).unwrap_or(&record.value);
        RecordView {
            key: String::from_utf8_lossy(&record.key).into_owned(),
            event_type: record.event_type,
            value: String::from_utf8_lossy(shown).into_owned(),
            bytes: record.value.len(),
        }
    });
    Ok(Json(DataResponse { data: DeadLetterRecord { letter, record } }))
}

/// Have a dead letter retried
///
/// A projector folds its conversation again from the log, within seconds. Ask for the dead letter to see what came of it:
/// it is `folded`, or `parked` again with the new reason.
#[utoipa::path(
    post,
    path = "/admin/api/dead-letters/{position}/retry",
    operation_id = "retryDeadLetter",
    tag = ADMIN,
    params(("position" = String, Path, description = "The record's position, `P:O`."), CommonHeaderParams),
    responses(
        (status = 202, description = "A projector will retry it.", body = DataResponse<DeadLetterView>),
        AdminErrors,
        AdminActionErrors
    )
)]
pub(crate) async fn retry(
    State(api): State<AdminApi>,
    AdminCaller(user): AdminCaller,
    Extension(request_id): Extension<RequestId>,
    path: Result<Path<String>, PathRejection>,
) -> Result<(StatusCode, Json<DataResponse<DeadLetterView>>), Problem> {
    let position: Position = path_id("position", path)?;
    let actor = Actor { user, request_id };
    let letter = api.decide(actor, "retry-dead-letter", position, DeadLetterStatus::RetryRequested, None).await?;
    Ok((StatusCode::ACCEPTED, Json(DataResponse { data: letter })))
}

/// Discard a dead letter
///
/// The record stays on the log, and can still be retried.
#[utoipa::path(
    post,
    path = "/admin/api/dead-letters/{position}/discard",
    operation_id = "discardDeadLetter",
    tag = ADMIN,
    params(("position" = String, Path, description = "The record's position, `P:O`."), CommonHeaderParams),
    request_body = DiscardRequest,
    responses(
        (status = 200, description = "It is discarded.", body = DataResponse<DeadLetterView>),
        AdminErrors,
        AdminActionErrors
    )
)]
pub(crate) async fn discard(
    State(api): State<AdminApi>,
    AdminCaller(user): AdminCaller,
    Extension(request_id): Extension<RequestId>,
    path: Result<Path<String>, PathRejection>,
    JsonBody(body): JsonBody,
) -> Result<Json<DataResponse<DeadLetterView>>, Problem> {
    let position: Position = path_id("position", path)?;
    let reason = reason(&body)?;
    let actor = Actor { user, request_id };
    let letter = api.decide(actor, "discard-dead-letter", position, DeadLetterStatus::Discarded, Some(reason)).await?;
    Ok(Json(DataResponse { data: letter }))
}

/// Why a dead letter is discarded.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct DiscardRequest {
    /// The reason, for whoever reads it later.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

/// The only field of a request to discard.
fn reason(body: &serde_json::Map<String, serde_json::Value>) -> Result<&str, Problem> {
    const FIELD: &str = "reason";
    ensure_known(body, &[FIELD])?;
    let text = body.get(FIELD).and_then(|value| value.as_str()).map(str::trim);
    let text = text.filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| invalid(FIELD, "required", "must be a text that isn't empty"))?;
    if text.chars().count() > MAX_REASON {
        return Err(invalid(FIELD, "too_long", &format!("must have at most {MAX_REASON} characters")));
    }
    Ok(text)
}

impl AdminApi {
    async fn find(&self, position: Position) -> Result<DeadLetter, Problem> {
        let found = self.0.read_model.dead_letter(self.0.topic_id, position).await;
        found.map_err(|error| postgres_problem(&error))?.ok_or_else(|| Problem::not_found("position"))
    }

    /// Changes the status of a dead letter, if its present one allows that. The audit says so under the action's name.
    async fn decide(
        &self,
        actor: Actor,
        action: &'static str,
        position: Position,
        status: DeadLetterStatus,
        note: Option<&str>,
    ) -> Result<DeadLetterView, Problem> {
        let (api, reason) = (self.clone(), note.map(str::to_owned));
        let deciding = async move {
            let read_model = &api.0.read_model;
            let changed = read_model.set_dead_letter_status(api.0.topic_id, position, status, reason.as_deref()).await;
            let letter = api.find(position).await?;
            if changed.map_err(|error| postgres_problem(&error))? {
                return Ok(letter.into());
            }
            Err(Problem::conflict("wrong_status", WRONG_STATUS))
        };
        self.audited(actor, action, &position.to_string(), note, deciding).await
    }
}
