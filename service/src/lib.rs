//! What every process needs: configuration, telemetry, authentication, HTTP with its errors, and an orderly shutdown.
//!
//! This crate must never know Kafka, Postgres or Redis, nor what a command or a query does.

// A request pays for each byte of its future, which is moved and boxed: what it rarely awaits is in a box of its own.
#![warn(clippy::large_futures)]

pub mod allocations;
pub mod auth;
pub mod clock;
pub mod config;
mod connection;
pub mod cors;
mod cross_site;
pub mod health;
pub mod http;
mod json_body;
mod jwt_crypto;
pub mod lifecycle;
pub mod openapi;
mod params;
pub mod printable;
pub mod problem;
pub mod readiness;
mod request_body;
pub mod response;
pub mod telemetry;
pub mod token;
pub mod trace;
mod unparsed_request;

/// The limits of this crate, for `docs/limits.md`.
pub const LIMITS: &[&[domain::limit_rows::LimitRow]] = &[
    config::LIMIT_ROWS,
    json_body::LIMIT_ROWS,
    request_body::LIMIT_ROWS,
    connection::LIMIT_ROWS,
    unparsed_request::LIMIT_ROWS,
    http::LIMIT_ROWS,
    token::LIMIT_ROWS,
    auth::LIMIT_ROWS,
    health::LIMIT_ROWS,
    lifecycle::LIMIT_ROWS,
];
