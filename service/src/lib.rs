//! What every process is made of: configuration, telemetry, authentication, problems, HTTP and lifecycle.

pub mod auth;
pub mod config;
pub mod http;
pub mod lifecycle;
pub mod params;
pub mod problem;
pub mod telemetry;
pub mod token;
