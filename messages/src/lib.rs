//! Puts the services together into processes, and gives them a command line.

pub mod cli;
mod dead_letters;
mod development;
mod doctor;
pub mod help;
mod openapi;
pub mod process;
mod rebuild;
mod topic;
mod topic_guard;
mod wait_for_services;
mod web;
