//! The contract as clients see it from outside, whoever serves what: a suite that holds in every layout in which a system
//! can be run. What only one process can show (its counters, its end, what it does when it is alone) is tested elsewhere.

mod auth;
mod caching;
mod chat;
mod conversations;
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
mod messages;
mod pages;
mod positions;
mod presence;
mod privacy;
mod reactions;
mod read_marks;
mod rooms;
mod sync;
mod typing;
mod typing_frames;
