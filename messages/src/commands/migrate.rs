//! `messages migrate`: creates the read model's schema, or brings it up to date.

use service::config::Config;
use service::telemetry;

use crate::process;

/// Migrates the schema.
///
/// # Errors
/// When Postgres doesn't answer.
pub(crate) async fn run(config: &Config) -> anyhow::Result<()> {
    telemetry::start(&config.log, config.log_format);
    process::connect_and_migrate(config, config.database_connections).await?;
    tracing::info!(schema = config.database_schema, "the schema is up to date");
    Ok(())
}
