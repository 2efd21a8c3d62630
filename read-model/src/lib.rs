//! The read model in Postgres: the conversations, participants, messages and reactions that the log folds to, and how
//! far the projector has folded it. The only crate that knows SQL.
//!
//! # Offsets and snapshots
//!
//! For each partition of the topic, Postgres stores the *next offset*: the projector has folded every event below it,
//! and none from there on. The projector writes the rows that a batch changed and moves the offsets in one transaction
//! ([`ReadModel::commit`]), so the rows and the offsets always agree.
//!
//! A reader gets both from one state of the database, as a [`Snapshot`]: a value, and the offsets that it includes. An
//! example: a client has sent a message, and its event is at position `3:42` (partition 3, offset 42). A snapshot in
//! which the next offset of partition 3 is 43 or more includes the message. In an older snapshot it is missing.
//!
//! # What never happens here
//!
//! - This crate never decides what an event does; `domain::fold` does. It loads the state that the fold needs, and
//!   writes what the fold changed.
//! - It never writes a batch without its offsets, or twice: a commit whose offsets are not the expected ones writes
//!   nothing.
//! - It never waits for the projector, and never asks Kafka or Redis. `read-path` does.
//!
//! Everything in the read model can be folded again from the log ([`ReadModel::reset`]), except what operators decide
//! about dead letters, the audit, the jobs, and the announced outages of Redis.
//!
//! # Errors
//!
//! Every method fails with a [`ReadModelError`] when Postgres doesn't answer. An `# Errors` section names only what
//! else can go wrong.

mod audit;
mod changed_entities;
mod commit;
mod connection;
mod conversation_rebuilds;
mod conversation_summary;
mod dead_letters;
mod derived_rows;
mod embedded_migrations;
mod error;
mod facts;
mod generations;
mod health;
mod idempotency;
mod jobs;
mod lease;
mod load;
mod migrations;
mod operation_timer;
mod overview;
mod parking;
mod pool;
mod projection;
mod queries;
mod repairs;
mod rows;
mod server_settings;
mod silence;
mod state_export;
mod statement_watch;
mod sync;
mod sync_walk;
mod write;

pub use audit::{AuditEntry, AuditNumber, AuditedAction};
pub use changed_entities::{ChangedEntities, ChangesCursor};
pub use commit::CommitError;
pub use connection::ReadModel;
pub use conversation_rebuilds::{ConversationRebuild, ConversationRebuildStatus};
pub use conversation_summary::ConversationSummary;
pub use dead_letters::{DeadLetter, RefoldedConversation, Upkeep};
pub use derived_rows::{
    DemandedRow, DerivedRow, DerivedTable, Difference, DifferenceKind, Differences, ParkedRecords, StoredConversation,
    StoredRows, TableCounts, demanded_applied, demanded_rows,
};
pub use error::ReadModelError;
pub use facts::Membership;
pub use generations::{
    BeginError, DifferingConversations, DifferingRow, LockedGeneration, NextGeneration, RowBuffers, SwapError,
    TableCopier,
};
pub use health::{Leases, PostgresHealth};
pub use idempotency::{KeyConditions, KeyUse, RedisOutage};
pub use jobs::{ClaimedJob, Job, JobEnd, JobKind, JobOutcome, JobStatus, JobStep, JobTable};
pub use lease::LeasedPartition;
pub use overview::{GenerationState, GenerationStatus, ReadModelOverview};
pub use parking::{DeadLetterStatus, ParkedRecord};
pub use projection::{FoldedTopic, OpenError, Projection};
pub use queries::{ConversationPage, Page, Snapshot};
pub use sync::{Change, PositionedChange, SyncOutcome, SyncPage};

/// The limits of this crate, for `docs/limits.md`.
pub const LIMITS: &[&[domain::limit_rows::LimitRow]] = &[
    connection::LIMIT_ROWS,
    derived_rows::LIMIT_ROWS,
    derived_rows::DIFFERENCE_LIMITS,
    derived_rows::CONVERSATION_LIMITS,
    generations::BUILD_LIMITS,
    generations::COPY_LIMITS,
    generations::RETIRED_LIMITS,
    generations::SWAP_LIMITS,
    jobs::LIMIT_ROWS,
    parking::LIMIT_ROWS,
    pool::LIMIT_ROWS,
    server_settings::LIMIT_ROWS,
    repairs::LIMIT_ROWS,
    silence::LIMIT_ROWS,
    sync_walk::LIMIT_ROWS,
    write::LIMIT_ROWS,
];
