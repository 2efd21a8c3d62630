//! Exporting the log to a folder or an object store, run by run, so that every record is in it once: whatever is killed, and however many
//! processes write.
//!
//! | File | Says |
//! |---|---|
//! | `export.json` | what the export is of: topic, form, filter. Another export is refused |
//! | `plan_000001.json` | which part of the log the first run writes, and into which files. It is there before them, and never replaced |
//! | `p0003_00000000000000000000_00000000000001000000.parquet` | the records of partition 3 from offset 0 to the one before 1,000,000 |
//! | `views.sql` | in an export of Parquet files: views over them for DuckDB, one for each type of event |
//! | `done_000001.json` | that these files are complete: rows, bytes and SHA-256 of each |
//!
//! A run first carries out what is planned and not done. Then it plans a part that begins where the last plan ends. The
//! names and the borders of files depend on the plan alone, and their content on the log alone. Two processes with the
//! same plan therefore write the same files, and a process that goes on with the plan of another one finds its complete
//! files. Of two processes that plan at the same time, one publishes its plan first; the other takes it over.
//!
//! An example: a process is killed while it writes the second of three files. The folder has a plan, one file, and a
//! temporary one, whose name begins with a point. The next run counts the rows of the first file, writes the other two,
//! and says that the plan is done.

mod bucket;
mod folder;
mod hashed_output;
mod https;
mod plan;
mod run;
mod store;

pub use bucket::ExportBucket;
pub use folder::ExportFolder;
pub use plan::ExportSettings;
pub use run::{Export, ExportError, ExportPart, ExportSummary, FILES_AT_A_TIME};
pub use store::ExportStore;

/// The limits of exports, for `docs/limits.md`.
pub(crate) const LIMITS: [&[domain::limit_rows::LimitRow]; 2] = [bucket::LIMIT_ROWS, https::LIMIT_ROWS];
