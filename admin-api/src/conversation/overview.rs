//! What the read model knows of a conversation as a whole.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use domain::{ConversationId, Position, Timestamp};
use event_log::partition_of;
use http::Uri;
use read_model::{ConversationRebuild, ConversationRebuildStatus, ConversationSummary};
use serde::Serialize;
use service::auth::AdminCaller;
use service::http::{Params, path_id};
use service::openapi::{ADMIN, AdminErrors, CommonHeaderParams};
use service::problem::Problem;
use service::response::DataResponse;
use utoipa::ToSchema;

use crate::{AdminApi, postgres_problem};

/// A conversation, as operators see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConversationOverview {
    /// The conversation's id.
    conversation_id: ConversationId,
    /// The partition of its events.
    partition: i32,
    /// The position of its first event that the read model includes. Null if it includes none.
    #[schema(required, value_type = Option<String>, example = "3:7")]
    created: Option<Position>,
    /// The position of the last one.
    #[schema(required, value_type = Option<String>, example = "3:42")]
    position: Option<Position>,
    /// How many participants it has.
    participants: i64,
    /// What an admin wants: to have its rows made again from the log. Null if nobody does, or it is done.
    #[schema(required)]
    rebuild: Option<RequestedRebuild>,
}

/// The request to make the rows of a conversation again.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestedRebuild {
    /// How far it is.
    status: ConversationRebuildStatus,
    /// Why it failed.
    #[schema(required)]
    reason: Option<String>,
    /// When an admin last requested it.
    requested_at: Timestamp,
}

impl From<ConversationRebuild> for RequestedRebuild {
    fn from(request: ConversationRebuild) -> Self {
        let ConversationRebuild { status, reason, requested_at, .. } = request;
        Self { status, reason, requested_at }
    }
}

/// Look a conversation up
///
/// Says what the read model knows of it. Answers 404 if Postgres has neither a row nor an event of it, and nobody wants
/// its rows to be made again. The log may have events of it all the same: read those.
#[utoipa::path(
    get,
    path = "/admin/api/conversations/{id}",
    operation_id = "adminConversation",
    tag = ADMIN,
    params(("id" = ConversationId, Path, description = "The conversation's id."), CommonHeaderParams),
    responses(
        (status = 200, description = "The conversation.", body = DataResponse<ConversationOverview>),
        AdminErrors
    )
)]
pub(crate) async fn show(
    State(api): State<AdminApi>,
    _: AdminCaller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<DataResponse<ConversationOverview>>, Problem> {
    Params::read(&uri, &[])?;
    let conversation_id: ConversationId = path_id("id", path)?;
    let read_model = &api.0.read_model;
    let found = tokio::try_join!(
        read_model.conversation_summary(conversation_id),
        read_model.conversation_rebuild(conversation_id)
    );
    let (summary, rebuild) = found.map_err(|error| postgres_problem(&error))?;
    if summary.is_none() && rebuild.is_none() {
        return Err(Problem::not_found("id"));
    }
    let partition = partition_of(conversation_id, api.0.partitions);
    let position = |offset: Option<i64>| offset.map(|offset| Position { partition, offset });
    let ConversationSummary { participants, first_event, last_event } = summary.unwrap_or_default();
    let (created, position) = (position(first_event), position(last_event));
    let rebuild = rebuild.map(Into::into);
    let data = ConversationOverview { conversation_id, partition, created, position, participants, rebuild };
    Ok(Json(DataResponse { data }))
}
