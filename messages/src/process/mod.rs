//! A process: one service or all of them, over connections that they share.
//!
//! [`start`] waits for Kafka (and for Postgres, if the process has a projector), starts the services, and only then
//! listens: until then the system refuses connections, and a load balancer tries another process. On shutdown the services stop from the clients inwards:
//! sockets, commands, and last the projector, because a request in progress may wait for it.

mod cache_connections;
mod limits;
mod listener;
mod readiness;
mod resources;
mod roles;
mod schema;
mod shutdown;
mod start;
mod topic_guard;
mod topics;
mod wait_for_services;

pub(crate) use cache_connections::connect_cache;
pub use limits::limits;
pub(crate) use readiness::stalls_report;
pub use roles::Roles;
pub(crate) use schema::connect_and_migrate;
pub use start::{Process, start};
pub(crate) use topic_guard::folded_mismatch;
pub(crate) use topics::ensure_topics;
