//! The settings of a floor, with the names that `messages` has for them.

use std::net::IpAddr;

use clap::{Parser, ValueEnum};

use crate::options::Services;

/// A process with the same hops as Messages and nothing in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Floor {
    /// Of a message: HTTP, Redis, Kafka, sockets and Postgres.
    Pipeline,
    /// Of a cached query: HTTP and Redis.
    Reads,
    /// Of sockets alone.
    Sockets,
    /// Of the projector: inserts of the same rows.
    Insert,
}

/// The command line and the environment of `bench floor`.
#[derive(Parser)]
pub(crate) struct FloorOptions {
    pub(crate) floor: Floor,
    #[arg(long, env = "HOST")]
    pub(crate) host: IpAddr,
    #[arg(long, env = "PORT")]
    pub(crate) port: u16,
    #[arg(long, env = "AUTH_JWT_SECRET")]
    pub(crate) secret: String,
    #[arg(long, env = "KAFKA_TOPIC")]
    pub(crate) topic: String,
    #[arg(long, env = "DATABASE_SCHEMA")]
    pub(crate) schema: String,
    #[arg(long, env = "REDIS_PREFIX")]
    pub(crate) prefix: String,
    #[command(flatten)]
    pub(crate) services: Services,
}
