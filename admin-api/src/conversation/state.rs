//! What a conversation's events fold to, and whether Postgres has that.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use domain::state::{Changes, State as FoldedState};
use domain::{ConversationId, Position, fold};
use http::Uri;
use read_model::{DerivedRow, Difference, Differences, StoredConversation, demanded_applied, demanded_rows};
use replay::{ConversationState, ScannedRecord};
use serde::Serialize;
use serde_json::Value;
use service::auth::AdminCaller;
use service::http::{Params, path_id};
use service::openapi::{ADMIN, AdminErrors, CommonHeaderParams, TooLargeError};
use service::problem::Problem;
use service::response::DataResponse;
use utoipa::ToSchema;

use super::log_scanner::OFFSETS_MAX;
use super::log_stretch::LogStretch;
use crate::{AdminApi, postgres_problem};

/// What a conversation was at a position of the log.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FoldedConversation {
    /// The position of the last record that counts. Null before the read model includes any.
    #[schema(required, value_type = Option<String>, example = "3:42")]
    at: Option<Position>,
    /// The conversation, the read marks of its participants, and its messages.
    items: Vec<FoldedItem>,
    /// Whether Postgres has what the log demands. Null for an earlier position: Postgres has only the present.
    #[schema(required)]
    agrees: Option<bool>,
    /// How the rows in Postgres differ, in words: the first differences.
    differences: Vec<String>,
}

/// A part of a folded conversation.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct FoldedItem {
    /// What it is: `conversation`, `readMark` or `message`.
    #[schema(example = "message")]
    kind: &'static str,
    /// The fields that a sync has of it.
    #[schema(value_type = Object)]
    value: Value,
}

/// The fold of a conversation, and how Postgres differs from it.
struct ComparedFold {
    items: Vec<FoldedItem>,
    differences: Differences,
}

/// Fold a conversation
///
/// Without `at`, the server folds the conversation up to where the read model is, and compares the result with the rows in
/// Postgres. With `at`, it only folds, up to and including that position. The server reads the log from the conversation's
/// creation on, at most 200,000 records of its partition within 5 s.
#[utoipa::path(
    get,
    path = "/admin/api/conversations/{id}/state",
    operation_id = "adminConversationState",
    tag = ADMIN,
    params(
        ("id" = ConversationId, Path, description = "The conversation's id."),
        ("at" = Option<String>, Query, description = "A position on the log, `P:O`, of the conversation's partition."),
        CommonHeaderParams
    ),
    responses(
        (status = 200, description = "The conversation at this position.", body = DataResponse<FoldedConversation>),
        TooLargeError,
        AdminErrors
    )
)]
pub(crate) async fn show(
    State(api): State<AdminApi>,
    _: AdminCaller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<DataResponse<FoldedConversation>>, Problem> {
    let at = Params::read(&uri, &["at"])?.parse::<Position>("at")?;
    let conversation: ConversationId = path_id("id", path)?;
    let stretch = LogStretch::find(&api, conversation).await?;
    let data = match at {
        Some(at) => {
            let end = stretch.offset_of("at", at)?.saturating_add(1);
            if end > stretch.readable {
                let detail = "must be on the log; its record must not be in an open transaction";
                return Err(Problem::invalid_parameter("at", "invalid_id", detail));
            }
            let records = read(&api, &stretch, conversation, end).await?;
            let folded = blocking(move || fold_only(&records, conversation)).await??;
            FoldedConversation { at: Some(at), items: folded, agrees: None, differences: Vec::new() }
        }
        None => compare(&api, &stretch, conversation).await?,
    };
    Ok(Json(DataResponse { data }))
}

async fn compare(
    api: &AdminApi,
    stretch: &LogStretch,
    conversation: ConversationId,
) -> Result<FoldedConversation, Problem> {
    let partition = stretch.partition;
    let stored = api.0.read_model.stored_conversation(conversation, api.0.topic_id, partition).await;
    let stored = stored.map_err(|error| postgres_problem(&error))?.ok_or_else(Problem::too_large_for_request)?;
    let end = stored.next_offset;
    let records = read(api, stretch, conversation, end).await?;
    if records.is_empty() && stored.rows.is_empty() {
        return Err(Problem::not_found("id"));
    }
    let comparison = blocking(move || fold_and_compare(&records, conversation, &stored)).await??;
    Ok(FoldedConversation {
        at: (end > 0).then_some(Position { partition, offset: end - 1 }),
        items: comparison.items,
        agrees: Some(comparison.differences.is_empty()),
        differences: comparison.differences.first.iter().map(Difference::to_string).collect(),
    })
}

/// All records of the conversation below an offset.
async fn read(
    api: &AdminApi,
    stretch: &LogStretch,
    conversation: ConversationId,
    end: i64,
) -> Result<Vec<ScannedRecord>, Problem> {
    if end - stretch.created > OFFSETS_MAX {
        return Err(Problem::too_large_for_request());
    }
    let scan = api.0.scanner.begin().await?;
    let found = stretch.read_from_creation(&scan, conversation, end, usize::MAX).await?;
    if found.next < end {
        return Err(Problem::too_large_for_request());
    }
    Ok(found.records)
}

/// Runs work that would hold up the other requests of a thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "folding a conversation failed; the admin gets 500");
        Problem::internal()
    })
}

fn fold_only(records: &[ScannedRecord], conversation: ConversationId) -> Result<Vec<FoldedItem>, Problem> {
    let (mut state, mut changes) = (FoldedState::default(), Changes::default());
    for record in records {
        fold_record(&mut state, &mut changes, record, conversation);
    }
    items(&state, conversation)
}

fn fold_record(state: &mut FoldedState, changes: &mut Changes, record: &ScannedRecord, conversation: ConversationId) {
    if let Ok(event) = &record.event
        && event.conversation_id == conversation
    {
        fold::fold(state, changes, event, record.position);
    }
}

fn items(state: &FoldedState, conversation: ConversationId) -> Result<Vec<FoldedItem>, Problem> {
    let folded = ConversationState::of(state, conversation).map_err(|error| {
        tracing::error!(%error, "a folded conversation has no JSON form; the admin gets 500");
        Problem::internal()
    })?;
    Ok(folded.into_items().map(|(kind, value)| FoldedItem { kind, value }).collect())
}

fn fold_and_compare(
    records: &[ScannedRecord],
    conversation: ConversationId,
    stored: &StoredConversation,
) -> Result<ComparedFold, Problem> {
    let (mut state, mut changes) = (FoldedState::default(), Changes::default());
    let mut unparked = Vec::new();
    for record in records {
        match &record.event {
            Ok(_) if stored.parked.includes(record.position) => {
                fold_record(&mut state, &mut changes, record, conversation);
            }
            Err(reason) if !stored.parked.contains(record.position) => unparked.push((record.position, reason.clone())),
            _ => {}
        }
    }
    let mut demanded: Vec<DerivedRow> = demanded_rows(&state).map(|row| row.to_derived()).collect();
    demanded.extend(changes.applied.iter().map(|applied| demanded_applied(applied).to_derived()));
    let mut differences = Differences::of_conversation(demanded, &stored.rows);
    for (position, reason) in unparked {
        differences.add_not_parked(position, reason);
    }
    Ok(ComparedFold { items: items(&state, conversation)?, differences })
}
