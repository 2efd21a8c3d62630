//! The command line: parses it and runs the chosen command. The texts here are the `--help`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use service::config::Config;

use crate::commands::{dead_letters, demo, doctor, migrate, rebuild, replay, serve, token, topic, verify};
use crate::process::Roles;

/// Messages: an event-sourced messaging backend on Kafka, Postgres, Redis and Socket.IO.
///
/// Every option can be set in the environment under the name that its help shows. The help of a command shows only the
/// options that the command uses; `messages all`, which runs everything in one process on one port, shows all of them.
#[derive(Parser)]
#[command(name = "messages", version, max_term_width = 120, after_help = FIRST_STEPS)]
pub struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

const FIRST_STEPS: &str = "\
On your own machine:
  scripts/services up                          start Kafka, Postgres and Redis
  eval \"$(scripts/services env)\"              set their addresses in this shell
  MESSAGES_ENV=development messages all        run everything, with the chat page at http://127.0.0.1:8080

Elsewhere, with KAFKA_BROKERS, DATABASE_URL, REDIS_URL and AUTH_JWT_SECRET set:
  messages topic --make && messages migrate    create the topic and the schema
  messages projector, command-api, query-api, realtime
                                               run the services, any number of each
  messages doctor                              check the system, with advice for each problem";

const TOKEN_EXAMPLE: &str = "\
Example:
  curl http://127.0.0.1:8080/api/messages -H \"Authorization: Bearer $(messages token alice)\"";

const TOPIC_EXAMPLE: &str = "\
Example, in a new cluster:
  KAFKA_PARTITIONS=24 messages topic --make";

const DOCTOR_EXAMPLE: &str = "\
Example, as the last step of a deployment:
  messages doctor || exit 1";

const DEMO_EXAMPLE: &str = "\
Examples, on your own machine:
  export MESSAGES_ENV=development
  messages demo                                a hundred people and 10,000 messages, in a second
  messages demo --users 1000 --conversations 5000 --messages 1000000
                                               a million messages, for measurements
  messages demo --until \"$(date -u +%FT%TZ)\"   a year that ends now

Afterwards, sign in as alice, or as anybody who writes in her conversations.";

const VERIFY_EXAMPLE: &str = "\
Exit codes:
  0  the read model is the fold of the topic
  3  it differs; the differences are printed
  1  the comparison could not be finished

Example, every night:
  messages verify || notify-operators";

const REBUILD_EXAMPLE: &str = "\
Exit codes:
  0  the new rows are in use; with --dry-run: this version would change nothing
  3  the rows differ, and nothing was changed
  1  the rebuild could not be finished, and nothing was changed

Example, before an upgrade, with the executable of the new version:
  ./messages rebuild --dry-run";

const REPLAY_EXAMPLE: &str = "\
Examples:
  messages replay > log.jsonl                  everything until now
  messages replay --type MESSAGE_SENT --format csv --without content > sends.csv
                                               who sent when and where, in a table
  messages replay --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z
                                               what the log took in November
  messages replay --from now --follow | jq .data.content
                                               what happens from now on
  messages replay --fold --conversation 3b0c8b5e-6f0a-5c1d-9a53-0d6f1f1c2a77 --to 2026-11-01T00:00:00Z
                                               a conversation, as it was then";

const REALTIME_EXAMPLE: &str = "\
Example, with all query-apis behind one address:
  QUERY_API_URL=http://query-api:8080 PORT=8083 messages realtime";

#[derive(Subcommand)]
enum CliCommand {
    /// Run all four services in one process on one port, with the chat page at /.
    ///
    /// Creates the topic and the schema if they are missing.
    All(Config),
    /// Run the command API: turn POST, PATCH and DELETE under /api into events on the topic.
    CommandApi(Config),
    /// Run a projector: fold the topic into Postgres and invalidate caches. Any number of projectors share the work.
    ///
    /// Creates the schema if it is missing.
    Projector(Config),
    /// Run the query API: answer GET under /api from Redis if possible, else from Postgres.
    QueryApi(Config),
    /// Run a realtime node: relay the topic to Socket.IO rooms. Needs QUERY_API_URL.
    #[command(after_help = REALTIME_EXAMPLE)]
    Realtime(Config),
    /// Create the read model's schema, or bring it up to date. Safe to run at any time.
    Migrate(Config),
    /// Show the topic: its settings, and the offsets of each partition.
    ///
    /// Fails if the topic doesn't exist, or if a setting is wrong for a system of record.
    #[command(after_help = TOPIC_EXAMPLE)]
    Topic(topic::TopicArgs),
    /// Check Kafka, Postgres, Redis, the topic, the schema, the projectors and the lag, and say what to do.
    ///
    /// Changes nothing. Prints a line for each check: ✓ ok, ! works but could be better, ✗ wrong. Fails if anything is
    /// wrong.
    #[command(after_help = DOCTOR_EXAMPLE)]
    Doctor(Config),
    /// Append a demonstration: people, their conversations and a year of messages, as real users would have caused them.
    ///
    /// For trying the system out, for tests and for measurements. For six messages there are three read marks, and one
    /// edit, deletion or reaction. Half of the commands have idempotency keys. A tenth of the messages is in one
    /// conversation. Some records are copies of earlier ones, as a producer that retries writes them, and three are no
    /// events: they become dead letters.
    ///
    /// The same options always give the same records, so a second run changes nothing, and completes a run that was
    /// interrupted. Refuses a topic that the read model was not folded from.
    #[command(after_help = DEMO_EXAMPLE)]
    Demo(demo::DemoArgs),
    /// Rebuild the read model from the topic, next to the one in use, and replace that if both are equal.
    ///
    /// Running services keep running, and notice nothing: the rows in use stay as they are until the new ones replace
    /// them, in one moment. If the rows differ, prints the first differences and changes nothing. Whenever the command
    /// is interrupted, the read model is as it was.
    ///
    /// Needs as much space in Postgres again as the read model has, and the right to create a schema. Keeps a bounded part
    /// of the topic in memory, and the rest in a temporary file in TMPDIR.
    #[command(after_help = REBUILD_EXAMPLE)]
    Rebuild(rebuild::RebuildArgs),
    /// Verify the read model: fold the topic again, and compare every row of Postgres with the result.
    ///
    /// Changes nothing, and may run at any time: it compares one snapshot of Postgres with the events that the snapshot
    /// includes. Prints the first 20 differences, each with its table, key, column and both values, and counts all of them.
    /// Dead letters that aren't folded count as they are. Then compares up to 10,000 cached views in Redis with the rows.
    ///
    /// Keeps a bounded part of the topic and of the rows in memory, and the others in a temporary file in TMPDIR, which
    /// takes about as much space as the topic and the tables.
    #[command(after_help = VERIFY_EXAMPLE)]
    Verify(verify::VerifyArgs),
    /// Replay the log: write its records, or what a conversation was, to the standard output.
    ///
    /// Each partition's records come in their order, one partition after the other, up to one offset of each partition that
    /// is fixed at the beginning and printed at the end. The same part of the log always gives the same bytes. A record
    /// that is no event keeps its place and its value, with the reason. Reads the topic only, and disturbs nobody: it joins
    /// no consumer group.
    #[command(after_help = REPLAY_EXAMPLE)]
    Replay(replay::ReplayArgs),
    /// List, retry or discard the records that could not be folded into the read model.
    ///
    /// Such a record (written by another program, or by a newer version) stays on the topic and blocks nothing.
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Print an access token for a user, signed with AUTH_JWT_SECRET (in development, with the fixed secret).
    #[command(after_help = TOKEN_EXAMPLE)]
    Token(token::TokenArgs),
}

impl Cli {
    /// Runs the chosen command. A service runs until a signal stops it. Returns the exit code.
    ///
    /// # Errors
    /// When the command fails; the message says what to do next.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            CliCommand::Verify(arguments) => return verify::run(&arguments).await,
            CliCommand::Rebuild(arguments) => return rebuild::run(&arguments).await,
            CliCommand::All(config) => serve::run(config, Roles::ALL).await,
            CliCommand::CommandApi(config) => serve::run(config, Roles::COMMAND_API).await,
            CliCommand::Projector(config) => serve::run(config, Roles::PROJECTOR).await,
            CliCommand::QueryApi(config) => serve::run(config, Roles::QUERY_API).await,
            CliCommand::Realtime(config) => serve::run(config, Roles::REALTIME).await,
            CliCommand::Migrate(config) => migrate::run(&config).await,
            CliCommand::Topic(arguments) => topic::run(&arguments).await,
            CliCommand::Doctor(config) => doctor::run(&config).await,
            CliCommand::Demo(arguments) => demo::run(&arguments).await,
            CliCommand::Replay(arguments) => replay::run(&arguments).await,
            CliCommand::DeadLetters(command) => command.run().await,
            CliCommand::Token(arguments) => token::run(&arguments),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebuild_has_one_purpose() {
        let parses = |options: &[&str]| Cli::try_parse_from([&["messages", "rebuild"], options].concat()).is_ok();
        assert!(parses(&[]) && parses(&["--reset"]) && parses(&["--accept-differences", "--yes"]));
        assert!(!parses(&["--dry-run", "--accept-differences"]) && !parses(&["--back", "--reset"]));
    }
}
