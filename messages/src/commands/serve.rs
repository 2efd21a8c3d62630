//! `messages all` and the commands for single services: run until a signal stops the process.

use anyhow::Context;
use service::auth::Auth;
use service::config::{Config, Environment, SECRET_BYTES};
use service::{lifecycle, telemetry, trace};

use super::welcome;
use crate::process::{self, Roles};

/// Runs services until the process is told to stop.
///
/// # Errors
/// When the configuration is wrong, the port is taken, or a service can't start.
pub(crate) async fn run(config: Config, roles: Roles) -> anyhow::Result<()> {
    telemetry::start(&config.log, config.log_format);
    if let Some(collector) = &config.otlp_endpoint {
        trace::start_export(collector, &format!("messages-{}", roles.service_name()))?;
    }
    // Before everything else: without a secret nothing may start.
    let auth = Auth::new(config.secret()?);
    let address = config.listen_on();
    let socket = lifecycle::bind(address.into())
        .with_context(|| format!("can't listen on {}:{}; set HOST and PORT to a free address", address.0, address.1))?;
    if config.has_weak_secret() {
        tracing::warn!(
            "AUTH_JWT_SECRET is short enough to be guessed; set it to at least {SECRET_BYTES} random characters"
        );
    }
    let shutdown = lifecycle::shutdown_on_signal();
    let process = tokio::select! {
        started = process::start(&config, roles, socket, shutdown.clone()) => started?,
        () = shutdown.cancelled() => return Ok(()),
    };
    tracing::info!(address = %process.address(), roles = %roles, "ready");
    if config.environment == Environment::Development && roles == Roles::ALL {
        welcome::print(&auth, process.address())?;
    }
    let finished = process.finished().await;
    tokio::task::spawn_blocking(trace::stop_export).await?;
    finished
}
