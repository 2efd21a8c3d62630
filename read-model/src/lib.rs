//! The read model in Postgres: what the projector writes, and what queries and commands read. The only crate
//! that knows SQL.

mod commit;
mod connection;
mod dead_letters;
mod facts;
mod health;
mod idempotency;
mod lease;
mod load;
mod parking;
mod projection;
mod queries;
mod rows;
mod state_export;
mod sync;
mod write;

pub use commit::CommitError;
pub use connection::{ReadModel, ReadModelError};
pub use dead_letters::{ConversationContents, DeadLetter, DeadLetterStatus, RefoldedConversation};
pub use facts::{ChangedEntities, Membership};
pub use health::{Leases, PostgresHealth};
pub use idempotency::{KeyUse, RedisOutage};
pub use parking::ParkedRecord;
pub use projection::{OpenError, Projection};
pub use queries::{ConversationPage, Page, Snapshot};
pub use sync::{Change, Changed, SyncPage};
