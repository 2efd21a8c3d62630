//! One conversation looked into: what the log, Postgres and Redis have of it, and where they disagree.

pub(crate) mod events;
mod log_scanner;
mod log_stretch;
pub(crate) mod overview;
pub(crate) mod state;
pub(crate) mod views;

pub(crate) use events::LIMIT_ROWS as EVENT_LIMITS;
pub(crate) use log_scanner::{LIMIT_ROWS as SCAN_LIMITS, LogScanner};
pub(crate) use views::LIMIT_ROWS as VIEW_LIMITS;
