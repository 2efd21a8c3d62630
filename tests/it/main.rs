//! The system as a whole, on real services: a file per behaviour, names that read as promises.

mod chat;
mod following;
mod harness;
mod operations;
mod sync;
