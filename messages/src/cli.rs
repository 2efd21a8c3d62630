//! The command line.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use domain::{Timestamp, UserId};
use read_model::ReadModel;
use service::auth::Auth;
use service::config::{Config, Environment, SECRET_BYTES};
use service::{lifecycle, telemetry, trace};
use time::OffsetDateTime;

use crate::process::{self, Roles};
use crate::{dead_letters, development, doctor, rebuild, topic};

/// Messages: an event-sourced messaging backend on Kafka, Postgres, Redis and Socket.IO.
///
/// Every option can be set in the environment under the name that its help shows. The help of a command shows what it
/// uses; `messages all`, which runs everything in one process on one port, shows everything.
#[derive(Parser)]
#[command(name = "messages", version, max_term_width = 120, after_help = FIRST_STEPS)]
pub struct Cli {
    #[command(subcommand)]
    task: Task,
}

const FIRST_STEPS: &str = "\
On your own machine:
  scripts/services up                          start Kafka, Postgres and Redis
  eval \"$(scripts/services env)\"              say where they are
  MESSAGES_ENV=development messages all        run everything, with a page at http://127.0.0.1:8080

Elsewhere, with KAFKA_BROKERS, DATABASE_URL, REDIS_URL and AUTH_JWT_SECRET set:
  messages topic --make && messages migrate    make the topic and the schema
  messages projector, command-api, query-api, realtime
                                               run the services, any number of each
  messages doctor                              see whether all is well, and what to do if not";

const TOKEN_EXAMPLE: &str = "\
Example:
  curl http://127.0.0.1:8080/api/messages -H \"Authorization: Bearer $(messages token alice)\"";

const TOPIC_EXAMPLE: &str = "\
Example, in a new cluster:
  KAFKA_PARTITIONS=24 messages topic --make";

const DOCTOR_EXAMPLE: &str = "\
Example, before a deployment is let through:
  messages doctor || exit 1";

const REALTIME_EXAMPLE: &str = "\
Example, with query-api behind one address:
  QUERY_API_URL=http://query-api:8080 PORT=8083 messages realtime";

#[derive(Subcommand)]
enum Task {
    /// Run all four services in one process on one port, with the chat page at /.
    ///
    /// Makes the topic and the schema where they are missing.
    All(Config),
    /// Run the command API: POST, PATCH and DELETE under /api become events on the topic.
    CommandApi(Config),
    /// Run a projector: folds the topic into Postgres and tells the caches. Any number of them share the work.
    ///
    /// Makes the schema where it is missing.
    Projector(Config),
    /// Run the query API: GET under /api, from Redis where it can be, else from Postgres.
    QueryApi(Config),
    /// Run the realtime worker: relays the topic to Socket.IO rooms. Needs QUERY_API_URL.
    #[command(after_help = REALTIME_EXAMPLE)]
    Realtime(Config),
    /// Make the read model's schema, or bring it up to date. Safe to run at any time.
    Migrate(Config),
    /// Show the topic: how it is set up, and how far each partition goes.
    ///
    /// Fails where there is none, or where it is set up otherwise than a system of record must be.
    #[command(after_help = TOPIC_EXAMPLE)]
    Topic(topic::Topic),
    /// Check Kafka, Postgres, Redis, the topic, the schema, projectors and lag, and say what to do.
    ///
    /// Changes nothing. Prints a line for each thing it looked at: ✓ well, ! works but could be better, ✗ wrong.
    /// Fails when something is wrong.
    #[command(after_help = DOCTOR_EXAMPLE)]
    Doctor(Config),
    /// Empty the read model and fold the topic again from its beginning.
    ///
    /// Services that run go on; until it is through, they answer from what is folded already.
    Rebuild(RebuildArgs),
    /// See to the records that could not be folded into the read model.
    ///
    /// Such a record (another program wrote it, or a newer version) stays on the topic and holds nothing up.
    #[command(subcommand)]
    DeadLetters(dead_letters::Task),
    /// Print an access token for a user, signed with AUTH_JWT_SECRET (in development, with the fixed secret).
    #[command(after_help = TOKEN_EXAMPLE)]
    Token(TokenArgs),
}

#[derive(Args)]
struct RebuildArgs {
    /// Yes, throw the read model away first. Without it, nothing is done.
    #[arg(long, required = true)]
    reset: bool,
    #[command(flatten)]
    config: Config,
}

#[derive(Args)]
struct TokenArgs {
    /// Whom the token is for: 1 to 128 visible characters without spaces.
    user: UserId,
    /// For how many hours it is good.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=87_600))]
    hours: u32,
    #[command(flatten)]
    config: Config,
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// With a message that says what to do next.
    pub async fn run(self) -> anyhow::Result<()> {
        match self.task {
            Task::All(config) => serve(config, Roles::ALL).await,
            Task::CommandApi(config) => serve(config, Roles::COMMAND_API).await,
            Task::Projector(config) => serve(config, Roles::PROJECTOR).await,
            Task::QueryApi(config) => serve(config, Roles::QUERY_API).await,
            Task::Realtime(config) => serve(config, Roles::REALTIME).await,
            Task::Migrate(config) => migrate(&config).await,
            Task::Rebuild(arguments) => {
                debug_assert!(arguments.reset, "clap demands it");
                telemetry::start(&arguments.config.log, arguments.config.log_format);
                rebuild::run(&arguments.config).await
            }
            Task::Topic(topic) => topic.run().await,
            Task::Doctor(config) => doctor::run(&config).await,
            Task::DeadLetters(task) => task.run().await,
            Task::Token(arguments) => token(&arguments),
        }
    }
}

async fn serve(config: Config, roles: Roles) -> anyhow::Result<()> {
    telemetry::start(&config.log, config.log_format);
    if let Some(collector) = &config.otlp_endpoint {
        trace::start_export(collector, &format!("messages-{}", roles.service_name()))?;
    }
    // Before anything is touched: without a secret nothing starts.
    let auth = Auth::new(config.secret()?);
    let address = config.listen_on();
    let socket = lifecycle::bind(address.into())
        .with_context(|| format!("can't listen on {}:{}; set HOST and PORT to what is free", address.0, address.1))?;
    if config.has_weak_secret() {
        tracing::warn!("AUTH_JWT_SECRET can be guessed: set it to at least {SECRET_BYTES} random characters");
    }
    let shutdown = lifecycle::shutdown_on_signal();
    let process = tokio::select! {
        started = process::start(&config, roles, socket, shutdown.clone()) => started?,
        () = shutdown.cancelled() => return Ok(()),
    };
    tracing::info!(address = %process.address(), roles = %roles, "ready");
    if config.environment == Environment::Development && roles == Roles::ALL {
        development::welcome(&auth, process.address())?;
    }
    let finished = process.finished().await;
    tokio::task::spawn_blocking(trace::stop_export).await?;
    finished
}

async fn migrate(config: &Config) -> anyhow::Result<()> {
    telemetry::start(&config.log, config.log_format);
    let read_model = ReadModel::connect(&config.database_url, &config.database_schema, config.database_connections)?;
    read_model.migrate().await.context(process::POSTGRES_HINT)?;
    tracing::info!(schema = config.database_schema, "the schema is up to date");
    Ok(())
}

fn token(arguments: &TokenArgs) -> anyhow::Result<()> {
    let auth = Auth::new(arguments.config.secret()?);
    let lasts = Duration::from_secs(u64::from(arguments.hours) * 3_600);
    println!("{}", auth.mint(&arguments.user, from_now(lasts)?)?);
    Ok(())
}

/// The moment that is so far from now.
///
/// # Errors
/// When that is after the year 9999.
pub(crate) fn from_now(ahead: Duration) -> anyhow::Result<Timestamp> {
    Ok(Timestamp::from_date_time(OffsetDateTime::from(SystemTime::now() + ahead))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebuild_says_that_it_empties_the_read_model() {
        assert!(Cli::try_parse_from(["messages", "rebuild"]).is_err());
        assert!(Cli::try_parse_from(["messages", "rebuild", "--reset"]).is_ok());
    }
}
