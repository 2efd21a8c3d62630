//! Starts a process: connects, starts its services, then serves until the shutdown.

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use domain::PositionVector;
use read_model::ReadModelError;
use realtime::Realtime;
use service::config::{Config, Environment};
use service::lifecycle;
use service::readiness as operations;
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::listener::listen;
use super::readiness;
use super::resources::SharedResources;
use super::roles::Roles;
use super::schema::POSTGRES_HINT;
use super::shutdown::{RunningProjector, RunningServices};
use super::wait_for_services::wait_for;
use crate::site::{asyncapi, development_tokens, openapi, web_page};

/// A process that serves.
pub struct Process {
    address: SocketAddr,
    realtime: Option<Realtime>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Process {
    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next offset of each partition that its relay reads; none without the realtime service.
    pub fn relayed(&self) -> Option<PositionVector> {
        self.realtime.as_ref().map(Realtime::relayed)
    }

    /// Waits until it has stopped: its shutdown was cancelled, and its services have finished their work.
    ///
    /// # Errors
    /// When it failed instead.
    pub async fn finished(self) -> anyhow::Result<()> {
        self.task.await?
    }
}

/// Starts the services. When this returns, they serve at the address to which the socket is bound; before, nothing
/// listens on it. Cancelling the shutdown stops the services in order.
///
/// # Errors
/// When Kafka, or Postgres for a projector, doesn't answer for a minute; when a setting of the topic is wrong; and when
/// the configuration is wrong.
pub async fn start(
    config: &Config,
    roles: Roles,
    socket: TcpSocket,
    shutdown: CancellationToken,
) -> anyhow::Result<Process> {
    lifecycle::raise_open_file_limit();
    metrics::gauge!("messages_build_info", "version" => env!("CARGO_PKG_VERSION"), "roles" => roles.to_string()).set(1);
    let resources = SharedResources::connect(config, roles, socket.local_addr()?).await?;
    let mut router = Router::new();
    let mut checks = readiness::checks(&resources, roles);
    let mut services = RunningServices::default();
    if roles.projector {
        services.projector = Some(start_projector(&resources).await?);
    }
    if roles.command_api {
        let producer = resources.producer().await?;
        let api = resources.command_api(producer.clone());
        checks = api.health_checks(checks);
        router = router.merge(api.router());
        services.command_api = Some(api);
        services.producer = Some(producer);
    }
    if roles.query_api {
        router = router.merge(resources.query_api().router());
    }
    if roles.realtime {
        let realtime = resources.realtime(roles, shutdown.clone()).await?;
        checks = realtime.health_checks(checks);
        router = router.merge(realtime.router());
        services.realtime = Some(realtime);
    }
    if roles == Roles::ALL {
        router = router.merge(web_page::router(config.environment));
        if config.environment == Environment::Development {
            router = router.merge(development_tokens::router(resources.auth.clone()));
        }
    }
    let document = openapi::document();
    // Before the first checks, of which one may be a request to this process.
    let listener = listen(socket)?;
    let health = checks.watch(&shutdown);
    if roles.query_api {
        router = router.merge(resources.admin_api(roles, health.clone(), shutdown.clone()).router());
    }
    let operations: Router = operations::routes().with_state(health).into();
    let router = router.merge(operations).merge(openapi::router(document.clone())).merge(asyncapi::router());
    let router = service::http::with_middleware(router, &document, config.cors_policy());
    let (address, realtime) = (resources.address, services.realtime.clone());
    let task = tokio::spawn(async move {
        let served = lifecycle::serve(listener, router, shutdown.clone()).await;
        // Also when serving failed: without requests the services have no purpose.
        shutdown.cancel();
        services.stop().await;
        Ok(served?)
    });
    Ok(Process { address, realtime, task })
}

/// Waits for Postgres, migrates the schema, and starts the projector.
async fn start_projector(resources: &SharedResources) -> anyhow::Result<RunningProjector> {
    let migrated = wait_for("Postgres", || resources.read_model.migrate(), ReadModelError::is_worth_retrying).await;
    migrated.context(POSTGRES_HINT)?;
    // A token of its own: the projector must outlive the shutdown of the other services.
    let stop = CancellationToken::new();
    let (projector, stopping) = (resources.projector()?, stop.clone());
    let jobs = projector::run_jobs(resources.job_runner(&projector), stop.clone());
    let task = tokio::spawn(async move {
        // On a task of its own: folding a rebuild must not hold batches up.
        let jobs = tokio::spawn(jobs);
        projector::run(projector, stopping).await;
        if let Err(error) = jobs.await {
            tracing::error!(%error, "the task that works on jobs failed");
        }
    });
    Ok(RunningProjector { stop, task })
}
