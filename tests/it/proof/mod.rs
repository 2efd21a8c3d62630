//! The proofs of `make proof`: promises that need release builds, millions of rows, many minutes, or the executable of
//! the parent commit next to this one. `docs/proof.md` shows what they found.
//!
//! `make test` must never run them: each is ignored, and is selected by its module's name.

mod chaos;
mod chats;
mod ended;
mod heavy_groups;
mod keyed_sends;
mod neighbours;
mod planted;
mod ratios;
mod rebuild;
mod releases;
mod reliability;
mod replay;
mod rows;
mod slow_sockets;
mod sockets;
mod stalled_partition;
mod sync;
mod table;
