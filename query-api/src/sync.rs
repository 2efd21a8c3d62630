//! The query for everything that changed for the caller since a token.

use axum::extract::State;
use axum::response::Response;
use domain::UserId;
use domain::sync_cursor::SyncCursor;
use http::{HeaderMap, Uri};
use read_model::{PositionedChange, Snapshot, SyncOutcome};
use read_path::postgres_unavailable;
use serde::Serialize;
use service::auth::Caller;
use service::http::Params;
use service::openapi::{CommonHeaderParams, NotModified, QUERIES, QueryErrors, QueryHeaderParams, QueryLimitErrors};
use service::problem::Problem;
use service::token::TokenError;
use utoipa::ToSchema;

use crate::QueryApi;
use crate::read_request::ReadRequest;
use crate::response::RenderedView;

const DEFAULT_LIMIT: i64 = 100;
/// The largest number of changes in a page.
const MAX_LIMIT: i64 = 500;

domain::limit_rows! {
    Queries, "changes in a page of a sync", Count MAX_LIMIT, "400 `invalid_limit`", "Postgres, and the process's memory";
}

/// A page of what changed for the caller.
#[derive(Serialize, ToSchema)]
#[schema(as = Changes)]
pub(crate) struct ChangesPage {
    /// Each changed conversation, message and read mark, as it is now. Each page is in the order of the log.
    data: Vec<PositionedChange>,
    /// The token to continue with.
    next: String,
    /// Whether there are more changes after this page.
    more: bool,
}

/// List what changed for you since a token
///
/// Without `since`, the response has no changes and the current token. A page that isn't the last may be empty. A token
/// that the server refuses with 400 is useless: drop what you have, and read again.
#[utoipa::path(
    get,
    path = "/api/messages/sync",
    operation_id = "sync",
    tag = QUERIES,
    params(
        ("since" = Option<String>, Query, description = "What you have: `next` of an earlier page, or the token of any \
            query's response or of `connection:ready`."),
        ("limit" = Option<i64>, Query, description = "The largest number of changes in a page. Default: 100.",
            minimum = 1, maximum = 500),
        QueryHeaderParams,
        CommonHeaderParams,
    ),
    responses(
        (status = 200, description = "A page of changes.", body = ChangesPage),
        NotModified,
        QueryErrors,
        QueryLimitErrors,
    )
)]
pub(crate) async fn page(
    State(api): State<QueryApi>,
    Caller(caller): Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let mut read = ReadRequest::begin(&api, caller);
    let result = sync(&api, &mut read, &uri, &headers).await;
    read.finish(result).await
}

async fn sync(api: &QueryApi, read: &mut ReadRequest<'_>, uri: &Uri, headers: &HeaderMap) -> Result<Response, Problem> {
    let params = Params::read(uri, &["since", "limit"])?;
    let limit = usize::try_from(params.limit(DEFAULT_LIMIT, MAX_LIMIT)?).unwrap_or(0);
    let since = params.get("since").map(|token| since(api, read.user(), token)).transpose()?;
    read.read_demand(headers)?;
    // A sync is never cached, so the count has no look-up to go with.
    read.count().await?;
    read.demand_all().await?;
    let view = match since {
        None => current_token(read).await?,
        Some(since) => {
            read.demand(since.demands()).await?;
            changes(api, read, &since, limit).await?
        }
    };
    Ok(read.respond("sync", view, headers))
}

fn since(api: &QueryApi, caller: &UserId, token: &str) -> Result<SyncCursor, Problem> {
    let cursor = api.0.parts.tokens.read_sync_cursor(token, caller);
    cursor.map_err(|error| {
        let detail = match error {
            // A position isn't enough: it says nothing of the other partitions.
            TokenError::Broken => "must be a token from an earlier response".to_owned(),
            TokenError::Foreign | TokenError::OtherTopic => error.to_string(),
        };
        Problem::invalid_parameter("since", error.code(), detail)
    })
}

async fn current_token(read: &mut ReadRequest<'_>) -> Result<RenderedView, Problem> {
    let includes = read.offsets().await?;
    let next = read.token(&includes);
    RenderedView::render(&ChangesPage { data: Vec::new(), next, more: false }, includes)
}

/// The refusal of a token that is older than a repair. The client starts anew with a new token, which must include the
/// repair: so it waits for the cache, which may not know of it yet.
fn repaired(read: &ReadRequest<'_>, number: i64) -> Problem {
    if read.includes_repair(number) {
        let detail = "the server has repaired data since this token; start again without it";
        Problem::invalid_parameter("since", "outdated_token", detail.to_owned())
    } else {
        Problem::projection_behind()
    }
}

async fn changes(
    api: &QueryApi,
    read: &ReadRequest<'_>,
    since: &SyncCursor,
    limit: usize,
) -> Result<RenderedView, Problem> {
    let _permit = api.0.sync_permits.acquire(read.user()).await?;
    let changes = api.0.parts.read_model.changes(read.user(), since, limit).await;
    let Snapshot { value, offsets } = changes.map_err(|error| postgres_unavailable(&error))?;
    read.check_includes_demand(&offsets)?;
    let page = match value {
        SyncOutcome::Page(page) => page,
        SyncOutcome::Repaired(number) => return Err(repaired(read, number)),
    };
    let next = api.0.parts.tokens.issue_sync_cursor(read.user(), &page.next);
    // A walk that began before this request may end below the position that the client demands.
    let more = page.more || read.check_includes_demand(&page.next.includes).is_err();
    RenderedView::render(&ChangesPage { data: page.items, next, more }, page.next.includes)
}
