//! The core of the projector: which records make up a batch, and what a batch needs step by step until it is folded,
//! committed and published. It does no I/O and reads no clock: the worker runs it against Postgres and Redis, and the
//! simulation in `tests` against models of them.

mod backlog;
mod batch;
mod batch_run;
mod budget;
mod pending_record;
#[cfg(test)]
mod tests;

pub(crate) use backlog::LIMIT_ROWS as BACKLOG_LIMITS;
pub use backlog::{Backlog, Setback};
pub use batch::{Batch, fold};
pub(crate) use batch_run::LIMIT_ROWS as PUBLICATION_LIMITS;
pub use batch_run::{BatchRun, Publication, Reply, Request};
pub(crate) use budget::LIMIT_ROWS as BUDGET_LIMITS;
pub use pending_record::PendingRecord;
