//! Assembles the services into processes, and is their command line.
//!
//! The layers from top to bottom: `cli` parses the command line, `commands` has one module for each command, `process`
//! runs services, and `site` serves pages and documents. A module never uses a layer above its own.

mod access_token;
pub mod cli;
mod commands;
pub mod help;
pub mod process;
mod site;
