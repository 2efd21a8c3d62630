//! The harness: starts systems, sends requests, and reads the topic, the read model and Redis next to them.

pub(crate) mod buffers;
pub(crate) mod checker;
pub(crate) mod cluster;
pub(crate) mod fold;
pub(crate) mod http;
pub(crate) mod kafka;
mod layout;
pub(crate) mod log;
pub(crate) mod nginx;
pub(crate) mod pgbouncer;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod raw_socket;
pub(crate) mod redis;
pub(crate) mod replicas;
pub(crate) mod repository;
pub(crate) mod rows;
pub(crate) mod script;
pub(crate) mod sockets;
pub(crate) mod system;
pub(crate) mod traffic;
pub(crate) mod verified;

pub(crate) use sockets::Client;
pub(crate) use system::{System, eventually, send_concurrently, unknown_id};
