//! The commands of the command line, a module each. A command never uses the command line that calls it.

pub(crate) mod dead_letters;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod migrate;
mod progress;
pub(crate) mod rebuild;
pub(crate) mod replay;
pub(crate) mod serve;
pub(crate) mod token;
pub(crate) mod topic;
pub(crate) mod verify;
mod welcome;
