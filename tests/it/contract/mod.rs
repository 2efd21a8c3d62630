//! The contract as clients see it: behaviour that must hold in every layout of the services (see `harness/layout.rs`).
//! A test that needs one process, such as for its metrics or its shutdown, belongs outside this folder.

mod auth;
mod caching;
mod chat;
mod conversations;
mod cookies;
mod cors;
mod deletions;
mod deliveries;
mod edits;
mod errors;
mod freshness;
mod handshake;
mod idempotency;
mod limits;
mod lists;
mod malformed_requests;
mod messages;
mod pages;
mod positions;
mod presence;
mod privacy;
mod query_limits;
mod reactions;
mod read_marks;
mod rooms;
mod scene;
mod sync;
mod typing;
mod typing_frames;
