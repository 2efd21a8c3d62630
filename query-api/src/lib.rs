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
use axum::routing::get;
use cache::{Cache, Progress};
use http::{HeaderMap, Uri};
use read_model::ReadModel;
use service::auth::{Auth, Caller};
use service::http::Params;
use service::problem::Problem;
use service::token::PositionTokens;
use tokio::sync::Semaphore;

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
        Router::new()
            .route("/api/messages", get(list))
            .route("/api/messages/sync", get(sync::page))
            .route("/api/messages/{message_id}", get(messages::one))
            .route("/api/conversations/{id}", get(conversations::one))
            .route("/internal/memberships", get(memberships::of_user))
            .with_state(self.clone())
    }
}

impl FromRef<QueryApi> for Auth {
    fn from_ref(api: &QueryApi) -> Self {
        api.0.parts.auth.clone()
    }
}

/// `GET /api/messages`: the messages of the conversation that is named, else the caller's conversations.
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
