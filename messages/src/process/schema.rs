//! The read model's schema in Postgres: connects to it and brings it up to date.

use anyhow::Context;
use read_model::ReadModel;
use service::config::Config;

/// The context of an error when Postgres doesn't answer.
pub(super) const POSTGRES_HINT: &str =
    "Postgres; is it running, and is DATABASE_URL right? (scripts/services up starts one)";

/// Connects with at most this many connections, and runs the pending migrations.
///
/// # Errors
/// When `DATABASE_URL` is wrong, or Postgres doesn't answer.
pub(crate) async fn connect_and_migrate(config: &Config, connections: u32) -> anyhow::Result<ReadModel> {
    let read_model = ReadModel::connect(&config.database_url, &config.database_schema, connections)?;
    read_model.migrate().await.context(POSTGRES_HINT)?;
    Ok(read_model)
}
