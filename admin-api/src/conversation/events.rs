//! The events of a conversation, as the log has them.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use domain::{ConversationId, EventId, Position, Timestamp, UserId};
use http::Uri;
use replay::ScannedRecord;
use serde::Serialize;
use serde_json::Value;
use service::auth::AdminCaller;
use service::http::{Params, path_id};
use service::openapi::{ADMIN, AdminErrors, CommonHeaderParams};
use service::problem::Problem;
use utoipa::ToSchema;

use super::log_stretch::LogStretch;
use crate::AdminApi;

const DEFAULT_LIMIT: i64 = 100;
const MAX_LIMIT: i64 = 500;

domain::limit_rows! {
    Queries, "events of a conversation in a response of the admin API", Count MAX_LIMIT, "400 `invalid_limit`", "memory";
}

/// An event on the log.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LoggedEvent {
    /// Its place on the log.
    #[schema(value_type = String, example = "3:42")]
    position: Position,
    /// When the log took it.
    #[schema(required)]
    logged_at: Option<Timestamp>,
    /// The name of its type.
    #[serde(rename = "type")]
    #[schema(example = "MESSAGE_SENT")]
    kind: &'static str,
    /// The same for each copy of it.
    event_id: EventId,
    /// The user who acted.
    actor: UserId,
    /// The record's value: the envelope, with whatever else somebody wrote into it.
    #[schema(value_type = Object)]
    event: Value,
}

impl LoggedEvent {
    /// None if the record is no event of the conversation.
    fn of(record: ScannedRecord, conversation: ConversationId) -> Option<Self> {
        let event = record.event.ok().filter(|event| event.conversation_id == conversation)?;
        Some(Self {
            position: record.position,
            logged_at: record.logged_at,
            kind: event.data.type_name(),
            event_id: event.event_id,
            actor: event.actor_id,
            event: serde_json::from_slice(&record.value).ok()?,
        })
    }
}

/// A part of a conversation's events.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct EventsPage {
    /// The events, in the order of the log. Can be empty although others follow.
    data: Vec<LoggedEvent>,
    /// Where this part ends.
    page: NextEvents,
}

/// Where the next part begins.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct NextEvents {
    /// Send this as `after` to get the next part. Null if there is nothing more on the log at present.
    #[schema(required, value_type = Option<String>, example = "3:42")]
    next: Option<Position>,
}

/// Read the events of a conversation
///
/// A request reads up to 200,000 records of the conversation's partition, for at most 5 s. It then answers with what it
/// found, maybe nothing: ask again with `page.next`, until that is null. Records that are no events are left out: the dead
/// letters have those.
#[utoipa::path(
    get,
    path = "/admin/api/conversations/{id}/events",
    operation_id = "adminConversationEvents",
    tag = ADMIN,
    params(
        ("id" = ConversationId, Path, description = "The conversation's id."),
        ("after" = Option<String>, Query, description = "Only events after this position, `P:O`: `page.next` of the part before."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 500, description = "How many events, at most. 100 by default."),
        CommonHeaderParams
    ),
    responses((status = 200, description = "The events.", body = EventsPage), AdminErrors)
)]
pub(crate) async fn list(
    State(api): State<AdminApi>,
    _: AdminCaller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<EventsPage>, Problem> {
    let params = Params::read(&uri, &["after", "limit"])?;
    let (after, limit) = (params.parse::<Position>("after")?, params.limit(DEFAULT_LIMIT, MAX_LIMIT)?);
    let conversation: ConversationId = path_id("id", path)?;
    let stretch = LogStretch::find(&api, conversation).await?;
    let after = after.map(|after| stretch.offset_of("after", after)).transpose()?;
    let (scan, limit) = (api.0.scanner.begin().await?, usize::try_from(limit).unwrap_or(0));
    let found = match after {
        Some(after) => scan.read(conversation, stretch.later(after), stretch.readable, limit).await?,
        None => stretch.read_from_creation(&scan, conversation, stretch.readable, limit).await?,
    };
    let goes_on = found.next < stretch.readable;
    let next = goes_on.then_some(Position { partition: stretch.partition, offset: found.next - 1 });
    let data = found.records.into_iter().filter_map(|record| LoggedEvent::of(record, conversation)).collect();
    Ok(Json(EventsPage { data, page: NextEvents { next } }))
}
