//! The command line. The texts here are the `--help`.

use clap::{Args, Parser};

/// Measure Messages on this machine, each figure next to a baseline: the same hops without Messages.
///
/// It starts the release build of `messages` from its own folder as separate processes, with topics and schemas that it
/// deletes afterwards, and prints three rows:
///
///   send to answer   POST /api/messages until its 201; baseline: librdkafka acknowledges a record like its event
///   send to frame    POST /api/messages until a receiver's socket gets `message:new`; baseline: produce to consume
///   projector        folded events a second; baseline: inserts of the same rows a second, in batches of 2,000
///
/// The first two rows come from one open loop: each message has a due time, and its latency counts from then, also when
/// earlier messages stall. The baselines (columns "raw") are measured in the same run, with the same settings and rate.
/// Each failure is counted and shown, and makes the exit code 1. Use a quiet machine, and run it more than once.
#[derive(Parser)]
#[command(name = "bench", max_term_width = 120, verbatim_doc_comment)]
pub(crate) struct Options {
    /// Messages a second.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// How many seconds to measure, after a warm-up of 2 s.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub(crate) seconds: u32,
    /// Users, who send in turn. At least twice the number of conversations.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub(crate) users: u32,
    /// Conversations. The users are spread over them.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(crate) conversations: u32,
    /// Events for the projector to fold.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) events: u32,
    #[command(flatten)]
    pub(crate) services: Services,
}

/// The addresses of the three services; `scripts/services env` prints them.
#[derive(Clone, Args)]
pub(crate) struct Services {
    /// Kafka's addresses, separated by commas.
    #[arg(long, env = "KAFKA_BROKERS")]
    pub(crate) kafka_brokers: String,
    /// The URL of Postgres, for the read model.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: String,
    /// The URL of Redis, for caches and limits.
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub(crate) redis_url: String,
}
