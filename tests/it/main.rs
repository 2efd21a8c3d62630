//! The system as a whole, on real services: a file per behaviour, names that read as promises.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on has failed")]

mod append;
mod auth;
mod caching;
mod chat;
mod conversations;
mod cors;
mod crowd;
mod dead_letters;
mod deletions;
mod deliveries;
mod dependencies;
mod development;
mod doctor;
mod edits;
mod errors;
mod following;
mod freshness;
mod handshake;
mod harness;
mod idempotency;
mod limits;
mod lists;
mod messages;
mod nodes;
mod openapi;
mod operations;
mod page;
mod pages;
mod positions;
mod presence;
mod privacy;
mod projection;
mod projectors;
mod reactions;
mod read_marks;
mod relay;
mod rooms;
mod sync;
mod tidy;
mod topic;
mod traces;
mod trust;
mod typing;
mod typing_frames;
