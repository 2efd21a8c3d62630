//! The query API: what users may read, from Redis where possible, else from Postgres.
//!
//! Every response says which position it includes, and a request can demand one. Without Redis everything comes from
//! Postgres; without Postgres clients can still read what is cached. This crate must never write to Postgres or the log.

// A request pays for each byte of its future, which is moved and boxed: what it rarely awaits is in a box of its own.
#![warn(clippy::large_futures)]

mod absence;
mod acquaintances;
mod conversations;
mod cursor;
mod memberships;
mod messages;
mod page_request;
mod postgres_outage;
mod query_count;
mod read_request;
mod response;
mod sync;
mod sync_permits;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRef, State};
use axum::response::Response;
use axum::routing::get;
use cache::{Cache, Limit, LocalLimits};
use domain::ConversationId;
use domain::view::{ConversationView, MessageView};
use event_log::LogConsumer;
use http::{HeaderMap, Uri};
use read_model::ReadModel;
use read_path::{LogEnd, PositionWait};
use serde::Serialize;
use service::auth::{Auth, Caller};
use service::http::Params;
use service::openapi::{CommonHeaderParams, NotModified, QUERIES, QueryErrors, QueryHeaderParams, QueryLimitErrors};
use service::problem::Problem;
use service::response::PageResponse;
use service::token::PositionTokens;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::postgres_outage::PostgresOutage;
use crate::read_request::ReadRequest;
use crate::sync_permits::SyncPermits;

/// How many sync queries may run at a time.
const SYNC_PERMITS: usize = 8;

domain::limit_rows! {
    Queries, "syncs that run at a time, on a process", Count SYNC_PERMITS, "the others wait for their turn", "all other queries";
}

/// A query API. Clones share everything.
#[derive(Clone)]
pub struct QueryApi(Arc<Shared>);

/// What a query API is made of.
pub struct Parts {
    /// Authenticates callers.
    pub auth: Auth,
    /// Reads and issues position tokens.
    pub tokens: PositionTokens,
    /// Cached views.
    pub cache: Cache,
    /// Waits for the projector.
    pub wait: PositionWait,
    /// What Redis doesn't have.
    pub read_model: ReadModel,
    /// How many partitions the topic has.
    pub partitions: usize,
    /// Reads the log's end.
    pub log: Arc<LogConsumer>,
    /// The largest number of queries that a user may send in a window.
    pub queries_per_window: u32,
    /// The length of that window, which starts with the first query.
    pub window: Duration,
}

struct Shared {
    parts: Parts,
    log_end: LogEnd,
    sync_permits: SyncPermits,
    limit: Limit,
    /// Count while Redis is down.
    local_limits: LocalLimits,
    postgres_outage: PostgresOutage,
}

impl QueryApi {
    /// Puts a query API together. Needs a tokio runtime.
    pub fn new(parts: Parts) -> Self {
        let limit = Limit { name: "queries", max: parts.queries_per_window, window: parts.window };
        Self(Arc::new(Shared {
            log_end: LogEnd::new(parts.log.clone()),
            parts,
            sync_permits: SyncPermits::new(SYNC_PERMITS),
            limit,
            local_limits: LocalLimits::default(),
            postgres_outage: PostgresOutage::default(),
        }))
    }

    /// The routes.
    pub fn router(&self) -> Router {
        routes().with_state(self.clone()).into()
    }
}

/// The routes, with their part of the OpenAPI document.
pub fn routes() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(sync::page))
        .routes(routes!(messages::one))
        .routes(routes!(conversations::one))
        .routes(routes!(memberships::of_user))
        .route("/internal/acquaintances", get(acquaintances::among))
}

impl FromRef<QueryApi> for Auth {
    fn from_ref(api: &QueryApi) -> Self {
        api.0.parts.auth.clone()
    }
}

/// An item of a list: all are conversations, or all are messages.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum ListItem {
    Conversation(ConversationView),
    Message(MessageView),
}

/// List your conversations, or the messages of one conversation
///
/// Without `conversationId`, the response lists your conversations, the most recently active first. With it, the
/// response lists that conversation's messages, the newest first. Pages skip and repeat nothing while messages arrive. A
/// conversation that becomes active meanwhile may appear only on a new first page.
#[utoipa::path(
    get,
    path = "/api/messages",
    operation_id = "list",
    tag = QUERIES,
    params(
        ("conversationId" = Option<ConversationId>, Query, description = "The conversation whose messages to list."),
        ("limit" = Option<i64>, Query, description = "The largest number of items in a page. Default: 20.",
            minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of an earlier page of the same list."),
        QueryHeaderParams,
        CommonHeaderParams,
    ),
    responses(
        (status = 200, description = "A page.", body = PageResponse<Vec<ListItem>>),
        NotModified,
        QueryErrors,
        QueryLimitErrors,
    )
)]
async fn list(State(api): State<QueryApi>, Caller(caller): Caller, uri: Uri, headers: HeaderMap) -> Response {
    let mut read = ReadRequest::begin(&api, caller);
    let result = list_page(&mut read, &uri, &headers).await;
    read.finish(result).await
}

async fn list_page(read: &mut ReadRequest<'_>, uri: &Uri, headers: &HeaderMap) -> Result<Response, Problem> {
    let params = Params::read(uri, &["conversationId", "limit", "cursor"])?;
    match params.parse("conversationId")? {
        Some(conversation) => messages::page(read, conversation, &params, headers).await,
        None => conversations::page(read, &params, headers).await,
    }
}

/// The limits of this crate, for `docs/limits.md`.
pub const LIMITS: &[&[domain::limit_rows::LimitRow]] = &[
    LIMIT_ROWS,
    absence::LIMIT_ROWS,
    conversations::LIMIT_ROWS,
    cursor::LIMIT_ROWS,
    page_request::LIMIT_ROWS,
    sync::LIMIT_ROWS,
    sync_permits::LIMIT_ROWS,
];
