//! What every process needs: configuration, telemetry, authentication, HTTP with its errors, and an orderly shutdown.
//!
//! This crate must never know Kafka, Postgres or Redis, nor what a command or a query does.

pub mod allocations;
pub mod auth;
pub mod config;
mod connection;
pub mod cors;
pub mod http;
mod json_body;
mod jwt_crypto;
pub mod lifecycle;
pub mod openapi;
mod params;
pub mod problem;
pub mod readiness;
pub mod response;
pub mod telemetry;
pub mod token;
pub mod trace;
