//! Generations: making the rows of the read model anew next to those that are in use, and replacing them.
//!
//! Each generation of the projection has its rows in a schema of its own, such as `messages_g8`; those of the first one
//! are in the configured schema. The table `projection` says which generation is *live*. A connection finds the rows of
//! the generation that was live when it was opened: they come first on its search path, and what all generations share,
//! such as leases and dead letters, after them.
//!
//! # The life of a generation
//!
//! | Status | What happens |
//! |---|---|
//! | building | A rebuild copies rows into its tables, and folds what comes meanwhile. Nobody else uses it. |
//! | live | Everybody uses it. There is always exactly one. |
//! | retired | Another one has replaced it. Nobody uses it, and it can become the live one again under a new number, until it is dropped. |
//!
//! # How readers notice
//!
//! The table `partitions` of each generation has its number, and retiring a generation makes the number negative. Every
//! snapshot reads the number with the offsets. If it isn't the one with which the connection was opened, the pool
//! replaces its connections, and the operation reads again ([`ReadModel::read_live`](crate::ReadModel)). A projector's
//! commit expects the number, too, and is fenced off.
//!
//! An example: generation 7 is live, in the schema `messages_g7`. A rebuild makes generation 8 in `messages_g8`, and the
//! swap sets the live generation to 8 and the number of the partitions of 7 to -7. A query whose snapshot began before
//! the swap still sees 7, and its rows. The next snapshot on the same connection sees -7.

mod build;
mod common_columns;
mod copy;
mod differing_rows;
mod digests;
mod retired;
mod schema;
mod swap;

pub use build::{BeginError, NextGeneration};
pub use copy::{RowBuffers, TableCopier};
pub use differing_rows::DifferingRow;
pub use digests::DifferingConversations;
pub use swap::{LockedGeneration, SwapError};

pub(crate) use build::LIMIT_ROWS as BUILD_LIMITS;
pub(crate) use copy::LIMIT_ROWS as COPY_LIMITS;
pub(crate) use retired::{LIMIT_ROWS as RETIRED_LIMITS, drop_all_retired, lock_name};
pub(crate) use swap::LIMIT_ROWS as SWAP_LIMITS;
