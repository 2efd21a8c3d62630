//! Jobs: rebuilds and verifications that admins start. Each projector looks for one, and works on it beside its batches.
//!
//! # When processes die
//!
//! The runner of a job says once a second that it still works on it. If it has said nothing for ten seconds, another
//! projector takes the job over, and begins it anew: what the first one built is dropped. The transaction that makes a
//! rebuilt generation the live one also writes that into the job, so a job whose runner died right after it is over.

mod carry_out;
mod runner;

pub(crate) use carry_out::LIMIT_ROWS as CARRY_OUT_LIMITS;
pub(crate) use runner::LIMIT_ROWS as RUNNER_LIMITS;
pub use runner::{JobRunner, run_jobs};
