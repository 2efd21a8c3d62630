//! Reads the whole log, or a part of it, for those who replay it: in its order, or conversation by conversation.
//!
//! # In its order
//!
//! A [`LogRange`] is a part of the log that is the same for ever: an offset of each partition to begin at, and one to end
//! before. [`replay()`] writes its records as JSON lines or CSV. [`conversation_states`] folds one conversation to some
//! points of the log.
//!
//! # Conversation by conversation
//!
//! The log has the events of all conversations mixed; what folds one conversation after the other needs far less memory,
//! and writes or compares each row once.
//!
//! [`sort_log`] reads the topic from its beginning to a vector of offsets, and puts its records into [`Buckets`] by the
//! hash of their conversation. Buckets keep a bounded number of bytes in memory, and the others in a temporary file.
//! Then the caller takes one [`Bucket`] after the other, and decodes its records with [`DecodedBlock`].
//!
//! An example: a log of a million records takes 500 MB. Of these, 192 MiB stay in memory. Each of the 256 buckets has
//! about 4,000 records. A bucket with far more records is divided by further bits of the hash, until it is small enough
//! or has only one conversation.
//!
//! What holds:
//!
//! - A conversation's records are in one bucket, in the order of the log. So are those of its records that its key
//!   doesn't name: only the value counts, as for the projector.
//! - No record is lost: one that nobody can decode comes in some bucket, too.
//! - The temporary file has no name. The system deletes it when the process ends, however it ends.

mod buckets;
mod conversation_scan;
mod conversation_states;
mod csv_rows;
mod decode;
mod export;
mod json_lines;
mod parquet_file;
mod range;
mod read;
mod record_writer;
mod replay;
mod replayed_record;
mod sort;
mod spill_file;
mod table_row;

pub use buckets::{Bucket, BucketEntry, Buckets, EntryBlock, SortBudget, hash_of};
pub use conversation_scan::{ConversationScan, ScanPlan, ScannedRecord, scan_conversation};
pub use conversation_states::{ConversationState, conversation_states};
pub use decode::DecodedBlock;
pub use export::{
    Export, ExportBucket, ExportError, ExportFolder, ExportPart, ExportSettings, ExportStore, ExportSummary,
    FILES_AT_A_TIME,
};
pub use range::{LogPoint, LogRange, NotALogPoint, RangeError};
pub use read::{ReadLogError, ReadProgress};
pub use record_writer::ReplayFormat;
pub use replay::{ReplayError, ReplayPlan, ReplaySummary, replay};
pub use replayed_record::{ContentChoice, RecordChoice, RecordFilter};
pub use sort::{SortError, sort_log};
pub use spill_file::SpillError;

/// The limits of this crate, for `docs/limits.md`.
pub const LIMITS: &[&[domain::limit_rows::LimitRow]] = &[
    buckets::LIMIT_ROWS,
    conversation_scan::LIMIT_ROWS,
    conversation_states::LIMIT_ROWS,
    export::LIMITS[0],
    export::LIMITS[1],
    parquet_file::LIMIT_ROWS,
    read::LIMIT_ROWS,
];
