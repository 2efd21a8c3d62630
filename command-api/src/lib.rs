//! The command API: validates what users ask for, decides it from facts, and appends the events to the log.
//!
//! A 2xx response means that the event is on Kafka with `acks=all`. This crate must never write to Postgres, except to
//! announce an outage of Redis.

// A request pays for each byte of its future, which is moved and boxed: what it rarely awaits is in a box of its own.
#![warn(clippy::large_futures)]

mod acknowledged;
mod append;
mod execute;
mod facts;
mod idempotency;
mod limits;
mod request;
mod response;
mod routes;
mod schema;
mod typing;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::FromRef;
use cache::{Cache, LocalLimits};
use event_log::{LogConsumer, Producer};
use read_model::ReadModel;
use read_path::{LogEnd, PositionWait};
use service::auth::Auth;
use service::health::{Fault, HealthChecks};
use service::token::PositionTokens;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use append::Appender;
use execute::Executor;
use facts::FactLookup;
use idempotency::Idempotency;
pub use limits::Limits;
use limits::{Attempts, FailedLookups};
use typing::TypingCommands;

/// The limits of this crate, for `docs/limits.md`.
pub const LIMITS: &[&[domain::limit_rows::LimitRow]] = &[limits::LIMIT_ROWS];

/// A command API. Clones share everything.
#[derive(Clone)]
pub struct CommandApi {
    auth: Auth,
    tokens: PositionTokens,
    attempts: Arc<Attempts>,
    executor: Arc<Executor>,
}

/// What a command API is made of.
pub struct Parts {
    /// Authenticates callers.
    pub auth: Auth,
    /// Reads position tokens.
    pub tokens: PositionTokens,
    /// Appends events.
    pub producer: Producer,
    /// Reads the log's ends, and single events again.
    pub log: Arc<LogConsumer>,
    /// How many partitions the topic has.
    pub partitions: usize,
    /// Facts, limits and reservations.
    pub cache: Cache,
    /// Waits for the projector.
    pub wait: PositionWait,
    /// Facts that Redis doesn't have.
    pub read_model: ReadModel,
    /// How many commands of each kind a user may send.
    pub limits: Limits,
    /// Why no event may be appended now, if there is a reason.
    pub append_block: watch::Receiver<Option<String>>,
}

impl CommandApi {
    /// Puts a command API together. Needs a tokio runtime.
    pub fn new(parts: Parts) -> Self {
        let Parts { auth, tokens, producer, log, partitions, cache, wait, read_model, limits, append_block } = parts;
        let log_end = Arc::new(LogEnd::new(log.clone()));
        let facts = FactLookup {
            cache: cache.clone(),
            read_model: read_model.clone(),
            wait: wait.clone(),
            log_end: log_end.clone(),
            failed_lookups: FailedLookups::new(cache.clone(), &limits),
            partitions,
        };
        let attempts = Arc::new(Attempts::new(&limits));
        let executor = Arc::new(Executor {
            facts,
            idempotency: Idempotency::new(cache.clone(), read_model, log, log_end, wait, partitions),
            appender: Appender::new(producer, append_block),
            cache,
            limits,
            local_limits: LocalLimits::default(),
            tasks: TaskTracker::new(),
        });
        Self { auth, tokens, attempts, executor }
    }

    /// The routes.
    pub fn router(&self) -> Router {
        routes().with_state(self.clone()).into()
    }

    /// Waits at most `timeout` until every decided command is finished.
    pub async fn finish(&self, timeout: Duration) {
        let tasks = &self.executor.tasks;
        tasks.close();
        if tokio::time::timeout(timeout, tasks.wait()).await.is_err() {
            tracing::warn!(unfinished = tasks.len(), "the process stops before every command is finished");
        }
    }

    /// Adds the checks of the command API: that appends succeed, and that what was acknowledged can be read.
    #[must_use]
    pub fn health_checks(&self, checks: HealthChecks) -> HealthChecks {
        let executor = self.executor.clone();
        let checks = checks.with_optional("appends", move || {
            let outcome = executor.appender.check_last();
            async move { outcome.map_err(Fault::HalfWorks) }
        });
        let (acknowledged, wait) = (self.executor.appender.acknowledged().clone(), self.executor.facts.wait.clone());
        checks.with_optional("acknowledged", move || {
            let (acknowledged, wait) = (acknowledged.clone(), wait.clone());
            async move { acknowledged.check(&wait).await.map_err(Fault::HalfWorks) }
        })
    }

    fn typing(&self) -> TypingCommands<'_> {
        let Executor { facts, cache, appender, limits, local_limits, .. } = &*self.executor;
        TypingCommands { facts, cache, appender, limits, local_limits }
    }
}

/// The routes, with their part of the OpenAPI document.
pub fn routes() -> OpenApiRouter<CommandApi> {
    OpenApiRouter::default()
        .routes(routes!(routes::post_action))
        .routes(routes!(routes::edit_message))
        .routes(routes!(routes::delete_message))
}

impl FromRef<CommandApi> for Auth {
    fn from_ref(api: &CommandApi) -> Self {
        api.auth.clone()
    }
}
