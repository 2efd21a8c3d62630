//! The admin API: what operators see of the system, and what they may do to it, under `/admin/api`.
//!
//! Every route is for users whose token has the role `admin`. Whatever changes something has a row in the audit before it
//! begins, and another one with its outcome: see [`audit`].

// A request pays for each byte of its future, which is moved and boxed: what it rarely awaits is in a box of its own.
#![warn(clippy::large_futures)]

mod audit;
mod dead_letters;
mod jobs;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use domain::PositionVector;
use event_log::{LogConsumer, LogError};
use read_model::{ReadModel, ReadModelError};
use service::auth::Auth;
use service::problem::Problem;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// The limits of this crate, for `docs/limits.md`.
pub const LIMITS: &[&[domain::limit_rows::LimitRow]] = &[audit::LIMIT_ROWS, dead_letters::LIMIT_ROWS, jobs::LIMIT_ROWS];

/// An admin API. Clones share everything.
#[derive(Clone)]
pub struct AdminApi(Arc<Parts>);

/// What an admin API is made of.
pub struct Parts {
    /// Authenticates admins.
    pub auth: Auth,
    /// The dead letters, the audit, and how far the projector is.
    pub read_model: ReadModel,
    /// Reads the log's end, and records of it.
    pub log: Arc<LogConsumer>,
    /// The topic's name.
    pub topic: String,
    /// The topic's id (KIP-516).
    pub topic_id: Uuid,
    /// How many partitions the topic has.
    pub partitions: usize,
}

impl AdminApi {
    /// Puts an admin API together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The routes.
    pub fn router(&self) -> Router {
        routes().with_state(self.clone()).into()
    }

    /// The end of the log, and the offsets up to which readers get records.
    async fn log_ends(&self) -> Result<(PositionVector, PositionVector), Problem> {
        let log = &self.0.log;
        tokio::try_join!(log.end_offsets(), log.readable_end_offsets()).map_err(|error| log_problem(&error))
    }
}

impl FromRef<AdminApi> for Auth {
    fn from_ref(api: &AdminApi) -> Self {
        api.0.auth.clone()
    }
}

/// The routes, with their part of the OpenAPI document.
pub fn routes() -> OpenApiRouter<AdminApi> {
    OpenApiRouter::default()
        .routes(routes!(status::show))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::one))
        .routes(routes!(dead_letters::retry))
        .routes(routes!(dead_letters::discard))
        .routes(routes!(jobs::start, jobs::list))
        .routes(routes!(jobs::one))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::rebuild_conversation))
        .routes(routes!(audit::list))
        .routes(routes!(audit::export))
}

/// The problem for a failure of Postgres, which the server logs.
fn postgres_problem(error: &ReadModelError) -> Problem {
    tracing::warn!(%error, "Postgres failed; the admin gets 503");
    Problem::dependency_unavailable()
}

/// The problem for a failure of Kafka, which the server logs.
fn log_problem(error: &LogError) -> Problem {
    tracing::warn!(%error, "Kafka failed; the admin gets 503");
    Problem::dependency_unavailable()
}
