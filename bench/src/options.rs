//! The command line. The texts here are the `--help`.

use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};
use serde::{Deserialize, Serialize};

/// Measure Messages on this machine, each figure next to a floor: the same hops with nothing in them
///
/// It starts the release build of `messages` from its own folder, and the floors, as separate
/// processes with topics and schemas that it deletes afterwards. Messages and the floors take turns,
/// so a machine whose speed drifts favours neither. Between runs, compare ratios, CPU times and
/// counters, never bare latencies: a shared machine is faster on some days than on others.
///
/// The phases:
///
///   send       users send at several rates, and two sockets of each conversation receive;
///              floors: the bare pipeline (HTTP, a script in Redis, Kafka, sockets, Postgres),
///              and Kafka alone
///   reads      32 connections repeat a cached query;
///              floor: axum and one round trip to Redis, with the same bytes
///   sockets    memory of idle sockets, and what a process keeps after sockets have come and gone;
///              floors: axum and socketioxide alone, and the bare pipeline
///   fanout     each message goes to 1,000 sockets; floor: the bare pipeline
///   hot        100 users send to one conversation; floor: the bare pipeline
///   projector  events folded a second; floors: inserts by UNNEST and by COPY into the same tables
///
/// Latencies come from an open loop: each message has a due time, and its latency counts from then,
/// also when earlier messages stall. Only `reads` has a closed loop, for throughput. CPU times are
/// those of the measured seconds, without set-up and warm-up. A dash stands for what can't be
/// measured here, such as the CPU of a service on another machine. Each failure is counted and
/// shown, and makes the exit code 1. A run of all phases takes about ten minutes. Use a quiet machine.
#[derive(Parser)]
#[command(name = "bench", max_term_width = 120, verbatim_doc_comment)]
pub(crate) struct Options {
    /// Run only these phases, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [
        Phase::Send, Phase::Reads, Phase::Sockets, Phase::Fanout, Phase::Hot, Phase::Projector,
    ])]
    pub(crate) phases: Vec<Phase>,
    /// How many seconds to measure each rate and each query, in two slices that alternate with the floor's.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub(crate) seconds: u32,
    /// Messages a second of `send`, separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 2_000, 3_000], value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rates: Vec<u32>,
    /// Conversations of `send`, with two users each.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub(crate) conversations: u32,
    /// Events for the projector to fold.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) events: u32,
    /// Write the results to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Print these results next to those of an earlier run, which --json wrote.
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,
    /// Write docs/performance.md and its pictures, from the root of the repository and with all phases.
    #[arg(long)]
    pub(crate) docs: bool,
    #[command(flatten)]
    pub(crate) services: Services,
}

/// A part of a run that can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    Send,
    Reads,
    Sockets,
    Fanout,
    Hot,
    Projector,
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
