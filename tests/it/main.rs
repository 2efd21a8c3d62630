//! The system as a whole, on real services: a file per behaviour, names that read as promises.

mod chat;
mod deliveries;
mod development;
mod following;
mod handshake;
mod harness;
mod operations;
mod page;
mod presence;
mod relay;
mod rooms;
mod sync;
mod typing;
