//! The admin API: what operators see of the system, and what they may do to it, under `/admin/api`.
//!
//! Every route is for users whose token has the role `admin`. Whatever changes something has a row in the audit before it
//! begins, and another one with its outcome: see [`audit`].

// A request pays for each byte of its future, which is moved and boxed: what it rarely awaits is in a box of its own.
#![warn(clippy::large_futures)]

mod audit;
mod conversation;
mod dead_letters;
mod fields;
mod history;
mod jobs;
mod limits;
mod observation;
mod recent_offsets;
mod status;
mod turns;

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use cache::Cache;
use conversation::LogScanner;
use domain::Timestamp;
use event_log::{LogConsumer, LogError};
use history::History;
use observation::Observer;
use read_model::{ReadModel, ReadModelError};
use service::auth::Auth;
use service::clock;
use service::health::Health;
use service::problem::Problem;
use tokio_util::sync::CancellationToken;
use turns::Turns;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub use limits::LimitInForce;

/// The limits of this crate, for `docs/limits.md`.
pub const LIMITS: &[&[domain::limit_rows::LimitRow]] = &[
    audit::LIMIT_ROWS,
    conversation::EVENT_LIMITS,
    conversation::SCAN_LIMITS,
    conversation::VIEW_LIMITS,
    dead_letters::LIMIT_ROWS,
    history::LIMIT_ROWS,
    jobs::LIMIT_ROWS,
    observation::LIMIT_ROWS,
    recent_offsets::LIMIT_ROWS,
    turns::LIMIT_ROWS,
];

/// An admin API. Clones share everything.
#[derive(Clone)]
pub struct AdminApi(Arc<Shared>);

/// What the handlers share: the parts, and what the process remembers.
struct Shared {
    parts: Parts,
    /// When the process began to serve.
    started_at: Timestamp,
    observer: Observer,
    history: History,
    scanner: LogScanner,
    view_turns: Turns,
}

impl Deref for Shared {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// What an admin API is made of.
pub struct Parts {
    /// Authenticates admins.
    pub auth: Auth,
    /// The dead letters, the audit, and how far the projector is.
    pub read_model: ReadModel,
    /// The realtime nodes, and the cached views.
    pub cache: Cache,
    /// Reads the log's end, and records of it.
    pub log: Arc<LogConsumer>,
    /// What the process knows of its health.
    pub health: Health,
    /// The services that the process runs.
    pub roles: Vec<&'static str>,
    /// The limits in force.
    pub limits: Vec<LimitInForce>,
    /// The addresses of the Kafka brokers.
    pub brokers: String,
    /// The topic's name.
    pub topic: String,
    /// The topic's id (KIP-516).
    pub topic_id: Uuid,
    /// How many partitions the topic has.
    pub partitions: usize,
}

impl AdminApi {
    /// Starts to sample the history, until the shutdown. Needs a tokio runtime.
    pub fn start(parts: Parts, shutdown: CancellationToken) -> Self {
        let observer = Observer::new(parts.read_model.clone(), parts.cache.clone(), parts.log.clone(), parts.topic_id);
        let shared = Arc::new(Shared {
            started_at: clock::now(),
            observer,
            history: History::default(),
            scanner: LogScanner::new(parts.brokers.clone(), parts.topic.clone(), parts.partitions),
            view_turns: Turns::default(),
            parts,
        });
        let sampled = shared.clone();
        tokio::spawn(async move { sampled.history.sample(&sampled.observer, shutdown).await });
        Self(shared)
    }

    /// The routes.
    pub fn router(&self) -> Router {
        routes().with_state(self.clone()).into()
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
        .routes(routes!(history::show))
        .routes(routes!(limits::list))
        .routes(routes!(conversation::overview::show))
        .routes(routes!(conversation::events::list))
        .routes(routes!(conversation::state::show))
        .routes(routes!(conversation::views::list))
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
    tracing::warn!(%error, "what the admin API asked of Postgres failed");
    Problem::dependency_unavailable()
}

/// The problem for a failure of Kafka, which the server logs.
fn log_problem(error: &LogError) -> Problem {
    tracing::warn!(%error, "what the admin API asked of Kafka failed");
    Problem::dependency_unavailable()
}
