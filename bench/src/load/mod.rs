//! The load generator. It has two cores with everything that it measures, so each message costs it as little as
//! possible: requests are bytes that are built once, and responses are read without copying them.

pub(crate) mod chat;
pub(crate) mod closed_loop;
pub(crate) mod conversations;
pub(crate) mod http;
pub(crate) mod open_loop;
pub(crate) mod socket;
