//! The system as a whole, on real services: a file per behaviour, names that read as promises.

mod caching;
mod chat;
mod deliveries;
mod development;
mod following;
mod freshness;
mod handshake;
mod harness;
mod lists;
mod operations;
mod page;
mod pages;
mod positions;
mod presence;
mod projection;
mod relay;
mod rooms;
mod sync;
mod typing;
