//! The query API: what users may read, from Redis where it can be, else from Postgres.
//!
//! Every answer says which position it includes, and a request can demand one. Redis is only there for speed:
//! without it everything comes from Postgres, and without Postgres what is cached can still be read.

mod answer;
mod conversations;
mod cursor;
mod memberships;
mod messages;
mod paging;
mod reading;
mod sync;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, State};
use axum::response::Response;
use cache::{Cache, Progress};
use domain::ConversationId;
use domain::view::{ConversationView, MessageView};
use http::{HeaderMap, Uri};
use read_model::ReadModel;
use serde::Serialize;
use service::auth::{Auth, Caller};
use service::envelope::Paged;
use service::http::Params;
use service::openapi::{CommonHeaders, NotModified, QUERIES, QueryErrors, QueryHeaders};
use service::problem::Problem;
use service::token::PositionTokens;
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How many users may catch up at a time.
const SYNCS: usize = 8;

/// What the query API works with. Clones share it.
#[derive(Clone)]
pub struct QueryApi(Arc<Shared>);

/// What a query API is made of.
pub struct Parts {
    /// Who may call.
    pub auth: Auth,
    /// Reads and issues position tokens.
    pub tokens: PositionTokens,
    /// Ready answers.
    pub cache: Cache,
    /// How far the projector is.
    pub progress: Progress,
    /// What Redis doesn't have.
    pub read_model: ReadModel,
}

struct Shared {
    parts: Parts,
    /// Held while a user catches up, which costs more than other reads: when thousands come back at once, the others
    /// still get their turn.
    syncs: Semaphore,
}

impl QueryApi {
    /// Puts a query API together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Shared { parts, syncs: Semaphore::new(SYNCS) }))
    }

    /// The routes.
    pub fn router(&self) -> Router {
        routes().with_state(self.clone()).into()
    }
}

/// The routes, with what the OpenAPI document says of them.
pub fn routes() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(sync::page))
        .routes(routes!(messages::one))
        .routes(routes!(conversations::one))
        .routes(routes!(memberships::of_user))
}

impl FromRef<QueryApi> for Auth {
    fn from_ref(api: &QueryApi) -> Self {
        api.0.parts.auth.clone()
    }
}

/// One of a list: all are conversations, or all are messages.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum Listed {
    Conversation(ConversationView),
    Message(MessageView),
}

/// Your conversations, or the messages of one
///
/// Without `conversationId`, your conversations, the most recently active first; with it, that conversation's messages,
/// the newest first. Nothing is skipped or repeated while messages arrive; a conversation that becomes active meanwhile
/// may show only on a new first page.
#[utoipa::path(
    get,
    path = "/api/messages",
    operation_id = "list",
    tag = QUERIES,
    params(
        ("conversationId" = Option<ConversationId>, Query, description = "Whose messages."),
        ("limit" = Option<i64>, Query, description = "How many a page has at most; 20 where it isn't said.",
            minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of an earlier page of the same list."),
        QueryHeaders,
        CommonHeaders,
    ),
    responses(
        (status = 200, description = "A page.", body = Paged<Vec<Listed>>),
        NotModified,
        QueryErrors,
    )
)]
async fn list(
    State(api): State<QueryApi>,
    Caller(caller): Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let params = Params::read(&uri, &["conversationId", "limit", "cursor"])?;
    match params.parse("conversationId")? {
        Some(conversation) => messages::page(&api, caller, conversation, &params, &headers).await,
        None => conversations::page(&api, caller, &params, &headers).await,
    }
}
