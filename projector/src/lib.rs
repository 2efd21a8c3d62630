//! The projector: reads the log in batches, folds it into the read model, and tells the caches.
//!
//! Rows and offsets commit together, with a compare-and-set on the offsets, so that a batch counts once
//! however often it is read. Leases say who should work on a partition; the compare-and-set says who can.

mod batch;
mod dead_letters;
mod invalidate;
mod lag;
mod rebuild;
mod worker;

pub use lag::{Lag, lag};
pub use rebuild::{Rebuild, rebuild};
pub use worker::{Projector, run};
