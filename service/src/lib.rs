//! What every process is made of: configuration, telemetry, authentication, problems, HTTP and lifecycle.

pub mod auth;
pub mod config;
mod connection;
pub mod cors;
pub mod http;
pub mod lifecycle;
pub mod openapi;
pub mod params;
pub mod problem;
pub mod readiness;
pub mod response;
pub mod telemetry;
pub mod token;
pub mod trace;
