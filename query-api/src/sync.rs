//! What changed for the caller since a token.

use axum::extract::State;
use axum::response::Response;
use domain::catch_up::CatchUp;
use http::{HeaderMap, Uri};
use read_model::{Changed, Snapshot};
use serde::Serialize;
use service::auth::Caller;
use service::http::Params;
use service::openapi::{CommonHeaders, NotModified, QUERIES, QueryErrors, QueryHeaders};
use service::problem::Problem;
use service::token::TokenError;
use utoipa::ToSchema;

use crate::QueryApi;
use crate::answer::Found;
use crate::reading::{self, Reading};

const DEFAULT_LIMIT: i64 = 100;
/// The most that a page has.
const MOST: i64 = 500;

/// A page of what changed.
#[derive(Serialize, ToSchema)]
#[schema(as = Changes)]
pub(crate) struct Body {
    /// Each thing once, as it is now, in the order of the log.
    data: Vec<Changed>,
    /// The token with which to go on.
    next: String,
    /// Whether there is more than this page.
    more: bool,
}

/// What changed for you since a token
///
/// Without `since`, nothing and the token of now.
#[utoipa::path(
    get,
    path = "/api/messages/sync",
    operation_id = "sync",
    tag = QUERIES,
    params(
        ("since" = Option<String>, Query, description = "Where you are: `next` of an earlier page, or the token of any \
            query's answer or of `connection:ready`."),
        ("limit" = Option<i64>, Query, description = "How many things a page has at most; 100 where it isn't said.",
            minimum = 1, maximum = 500),
        QueryHeaders,
        CommonHeaders,
    ),
    responses(
        (status = 200, description = "A page of what changed.", body = Body),
        NotModified,
        QueryErrors,
    )
)]
pub(crate) async fn page(
    State(api): State<QueryApi>,
    Caller(caller): Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let params = Params::read(&uri, &["since", "limit"])?;
    let limit = usize::try_from(params.limit(DEFAULT_LIMIT, MOST)?).unwrap_or(0);
    let since = params.get("since").map(|token| since(&api, &caller, token)).transpose()?;
    let mut reading = Reading::begin(&api, caller.clone(), &headers).await?;
    let found = match since {
        None => now(&api, &reading).await?,
        Some(since) => {
            reading.demand(&since.includes).await?;
            changes(&api, &reading, &since, limit).await?
        }
    };
    Ok(reading.answer("sync", found, &headers))
}

fn since(api: &QueryApi, caller: &domain::UserId, token: &str) -> Result<CatchUp, Problem> {
    let read = api.0.parts.tokens.read_catch_up(token, caller);
    read.map_err(|error| {
        let detail = match error {
            // A position won't do: it says nothing of the other partitions.
            TokenError::Broken => "must be a token as an earlier answer gave it".to_owned(),
            TokenError::Foreign | TokenError::OtherTopic => error.to_string(),
        };
        Problem::invalid_parameter("since", error.code(), detail)
    })
}

async fn now(api: &QueryApi, reading: &Reading<'_>) -> Result<Found, Problem> {
    let includes = reading.offsets().await?;
    let next = api.0.parts.tokens.issue(reading.user(), &includes);
    reading::found(&Body { data: Vec::new(), next, more: false }, includes)
}

async fn changes(api: &QueryApi, reading: &Reading<'_>, since: &CatchUp, limit: usize) -> Result<Found, Problem> {
    let _permit = reading.admitted(&api.0.syncs).await?;
    let Snapshot { value: page, offsets } = api
        .0
        .parts
        .read_model
        .changes(reading.user(), since, limit)
        .await
        .map_err(|error| reading::unavailable(&error))?;
    reading.includes_demand(&offsets)?;
    let next = api.0.parts.tokens.issue_catch_up(reading.user(), &page.next);
    reading::found(&Body { data: page.items, next, more: page.more }, page.next.includes)
}
