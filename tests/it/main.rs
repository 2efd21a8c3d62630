//! The system as a whole, on real services: a file per behaviour, names that read as promises.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on has failed")]

mod alone;
mod append;
mod cache_internals;
mod contract;
mod crowd;
mod dead_letters;
mod dependencies;
mod development;
mod doctor;
mod following;
mod freshness;
mod front;
mod harness;
mod hostile;
mod library;
mod nodes;
mod openapi;
mod operations;
mod page;
mod projection;
mod projectors;
mod relay;
mod rolling;
mod starting;
mod tidy;
mod topic;
mod traces;
mod trust;
mod unreserved;
