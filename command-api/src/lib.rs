//! The command API: validates what users ask for, decides it, and appends the events.
//!
//! A 2xx means that the event is on Kafka with `acks=all`. What was begun is finished even when the client
//! hangs up.

mod answer;
mod barrier;
mod doubt;
mod execute;
mod facts;
mod limits;
mod routes;
mod schema;
mod typing;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::FromRef;
use cache::{Cache, LocalLimits, Progress};
use event_log::{LogConsumer, Producer};
use read_model::ReadModel;
use service::auth::Auth;
use service::token::PositionTokens;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use limits::Limits;

/// How long a command waits for facts that the projector hasn't reached yet.
const FACTS_WAIT: Duration = Duration::from_secs(1);

/// What the command API works with. Clones share it.
#[derive(Clone)]
pub struct CommandApi(Arc<Shared>);

/// What a command API is made of.
pub struct Parts {
    /// Who may call.
    pub auth: Auth,
    /// Reads and issues position tokens.
    pub tokens: PositionTokens,
    /// Appends events.
    pub producer: Producer,
    /// Reads the log's ends, and single events again.
    pub log: Arc<LogConsumer>,
    /// How many partitions the topic has.
    pub partitions: usize,
    /// Facts, limits and reservations.
    pub cache: Cache,
    /// How far the projector is.
    pub progress: Progress,
    /// Facts that Redis doesn't have.
    pub read_model: ReadModel,
    /// How much a user may do.
    pub limits: Limits,
    /// Why nothing may be appended now, if so.
    pub refusal: watch::Receiver<Option<String>>,
}

struct Shared {
    parts: Parts,
    local_limits: LocalLimits,
    barrier: barrier::Barrier,
    doubt: doubt::Doubt,
    tasks: TaskTracker,
}

impl CommandApi {
    /// Puts a command API together. Needs a tokio runtime.
    pub fn new(parts: Parts) -> Self {
        let barrier = barrier::Barrier::new(parts.log.clone());
        let (local_limits, doubt, tasks) = (LocalLimits::default(), doubt::Doubt::default(), TaskTracker::new());
        let api = Self(Arc::new(Shared { parts, local_limits, barrier, doubt, tasks }));
        api.trust_in_time();
        api
    }

    /// The routes.
    pub fn router(&self) -> Router {
        routes().with_state(self.clone()).into()
    }

    /// Waits until every command that was begun is finished, at most `limit`.
    pub async fn finish(&self, limit: Duration) {
        self.0.tasks.close();
        if tokio::time::timeout(limit, self.0.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.0.tasks.len(), "stopped before every command was finished");
        }
    }
}

/// The routes, with what the OpenAPI document says of them.
pub fn routes() -> OpenApiRouter<CommandApi> {
    OpenApiRouter::default().routes(routes!(routes::act)).routes(routes!(routes::edit)).routes(routes!(routes::delete))
}

impl FromRef<CommandApi> for Auth {
    fn from_ref(api: &CommandApi) -> Self {
        api.0.parts.auth.clone()
    }
}
