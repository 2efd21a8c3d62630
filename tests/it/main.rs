//! The system as a whole, on real services: one file for each behaviour, and one function for each promise.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on has failed")]

mod append;
mod cache_instance;
mod cache_internals;
mod chaos;
mod client_sync;
mod commands;
mod contract;
mod counters;
mod dead_letters;
mod dependencies;
mod development;
mod doctor;
mod freshness;
mod harness;
mod heavy_groups;
mod hostile;
mod library;
mod load;
mod nginx;
mod nodes;
mod old_views;
mod open_transaction;
mod openapi;
mod operations;
mod page;
mod postgres_outages;
mod projection;
mod projectors;
mod proof;
mod redis_memory;
mod redis_outages;
mod relay;
mod replays;
mod rolling;
mod simulation;
mod single_process;
mod slow_sockets;
mod stalled_partition;
mod startup;
mod stuck_partition;
mod sync_walk;
mod tidy;
mod topic;
mod traces;
