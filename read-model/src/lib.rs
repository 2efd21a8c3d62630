//! The read model in Postgres: what the projector writes, and what queries and commands read. The only crate
//! that knows SQL.

mod checkup;
mod commit;
mod connection;
mod dead_letters;
mod facts;
mod idempotency;
mod lease;
mod load;
mod projection;
mod queries;
mod rows;
mod sync;
mod whole;

pub use checkup::{Checkup, Leases};
pub use commit::{CommitError, PartitionStep};
pub use connection::{ReadModel, ReadModelError};
pub use dead_letters::{Contents, DeadLetter, Parked, Refolded, Status};
pub use facts::{ChangedHeads, Membership};
pub use idempotency::{KeyUse, Unreserved};
pub use projection::{OpenError, Projection};
pub use queries::{ConversationPage, Listed, Snapshot};
pub use sync::{Change, Changed, SyncPage};
