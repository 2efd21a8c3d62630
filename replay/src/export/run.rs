//! A run of an export: what is planned and not done, and then a plan of its own.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use domain::PositionVector;
use event_log::{LogConsumer, TopicError, describe_topic};
use futures_util::{StreamExt, TryStreamExt, stream};
use parquet::file::reader::{FileReader, SerializedFileReader};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::hashed_output::HashedOutput;
use super::plan::{DoneFile, DonePlan, ExportPlan, ExportSettings, PlannedFile};
use super::store::ExportStore;
use crate::range::{LogPoint, LogRange, RangeError};
use crate::read::{ReadLogError, ReadProgress, WAITING_MAX, read_log};
use crate::record_writer::ReplayFormat;
use crate::replay::{ReplaySummary, write_all};
use crate::replayed_record::RecordChoice;

/// The document that says what an export is of.
const SETTINGS: &str = "export.json";

/// The views over the files, for DuckDB.
const VIEWS: &str = "views.sql";

/// Which part of the log a run adds to an export.
#[derive(Debug, Clone)]
pub struct ExportPart {
    /// Where the first run begins. Later ones begin where the last one ended.
    pub from: LogPoint,
    /// Where the run ends, before.
    pub to: LogPoint,
    /// Whether the folder may have an export already.
    pub continues: bool,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExportSummary {
    /// How many files it made sure of.
    pub files: u64,
    /// How many of these were there already, from a process that was killed or is at work, too.
    pub found: u64,
    /// How many records these files have.
    pub rows: u64,
    /// The offset of each partition at which the next run begins.
    pub next: PositionVector,
    /// The partitions whose later records an open transaction holds back; each with the offset where it does.
    pub held: BTreeMap<i32, i64>,
}

/// Why a run ended early. What is published stays, and the next run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The folder's export must not be continued by accident.
    #[error("the folder has an export already; to go on with it, add --continue")]
    Exists,
    /// Somebody's files are in the folder.
    #[error("the folder has files, and no export.json: choose an empty folder")]
    NotAnExport,
    /// The folder is another export's.
    #[error("the folder has another export: its {setting} is {there}; choose another folder, or the same options")]
    Other {
        /// The first setting that differs.
        setting: String,
        /// Its value in the folder.
        there: serde_json::Value,
    },
    /// The topic's records are other ones now.
    #[error("the topic was deleted and created again after this export began: choose another folder for the new one")]
    TopicMadeAnew,
    /// A document of the export isn't what a run wrote.
    #[error("{name} isn't a document of an export: {error}")]
    Document {
        /// The name of the document.
        name: String,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// The log doesn't have the part.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// The log can't be read.
    #[error(transparent)]
    Read(#[from] ReadLogError),
    /// Kafka doesn't answer.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The folder can't be read or written.
    #[error(
        "the folder or object store can't be read or written: {0}; once it can, run the same command with --continue"
    )]
    Folder(#[from] io::Error),
    /// It was stopped before the end.
    #[error("stopped before the end; to go on, run the same command with --continue")]
    Stopped,
}

/// How many files are written at a time: while one waits for Kafka or the disk, the other one is encoded.
pub const FILES_AT_A_TIME: usize = 2;

/// An export, and the log that it is of.
pub struct Export {
    /// Read the log, each for one file at a time.
    pub logs: [LogConsumer; FILES_AT_A_TIME],
    /// The addresses of Kafka.
    pub brokers: String,
    /// What the export is of.
    pub settings: ExportSettings,
    /// Where it is.
    pub store: ExportStore,
}

impl Export {
    /// Carries out what is planned and not done, and then plans and writes what the log has after that.
    ///
    /// # Errors
    /// When the folder is another export's, the log doesn't have the part, Kafka doesn't answer, or the folder can't be
    /// written.
    pub async fn run(
        &self,
        part: &ExportPart,
        shutdown: &CancellationToken,
        report: impl Fn(ReadProgress),
    ) -> Result<ExportSummary, ExportError> {
        self.enter(part.continues).await?;
        let mut summary = ExportSummary::default();
        let (mut number, mut last, mut has_planned) = (1, None, false);
        loop {
            if let Some(plan) = self.document::<ExportPlan>(&plan_name(number)).await? {
                if self.document::<DonePlan>(&done_name(number)).await?.is_none() {
                    self.carry_out(number, &plan, &mut summary, shutdown, &report).await?;
                }
                summary.next = plan.next();
                last = Some(plan);
                number += 1;
            } else if has_planned {
                return Ok(summary);
            } else {
                let from = last.as_ref().map_or_else(|| part.from.clone(), |plan| offsets(&plan.next()));
                let range = LogRange::find(&self.logs[0], &from, &part.to).await?;
                summary.held.clone_from(&range.held);
                if range.from == range.to {
                    summary.next = range.to;
                    return Ok(summary);
                }
                let plan = ExportPlan::of(&range, &self.settings);
                // If another process was faster, its plan comes first.
                has_planned = self.store.create(&plan_name(number), json(&plan)?).await?;
            }
        }
    }

    /// Makes sure that the folder is this export's.
    async fn enter(&self, continues: bool) -> Result<(), ExportError> {
        // The settings are the first file of an export. Another process may write them between two looks.
        let store = &self.store;
        if store.read(SETTINGS).await?.is_none() && store.is_used().await? && store.read(SETTINGS).await?.is_none() {
            return Err(ExportError::NotAnExport);
        }
        if !store.create(SETTINGS, json(&self.settings)?).await? {
            let Some(existing) = self.document(SETTINGS).await? else { return Err(ExportError::NotAnExport) };
            match self.settings.difference(&existing) {
                Some((setting, _)) if setting == "topicId" => return Err(ExportError::TopicMadeAnew),
                Some((setting, there)) => return Err(ExportError::Other { setting, there }),
                None if !continues => return Err(ExportError::Exists),
                None => {}
            }
        }
        if self.settings.format == ReplayFormat::Parquet {
            store.create(VIEWS, include_bytes!("views.sql").to_vec()).await?;
        }
        Ok(())
    }

    async fn document<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ExportError> {
        let Some(content) = self.store.read(name).await? else { return Ok(None) };
        let document = serde_json::from_slice(&content);
        document.map(Some).map_err(|error| ExportError::Document { name: name.to_owned(), error })
    }

    /// Writes the files of a plan that aren't there yet, and then that the plan is done.
    async fn carry_out(
        &self,
        number: u64,
        plan: &ExportPlan,
        summary: &mut ExportSummary,
        shutdown: &CancellationToken,
        report: &impl Fn(ReadProgress),
    ) -> Result<(), ExportError> {
        let (done, total) = (AtomicU64::new(0), plan.offsets());
        // Two of them at a time are neighbours, so that each has its own consumer.
        let writing = plan.files.iter().enumerate().map(|(index, file)| {
            let (log, done) = (&self.logs[index % FILES_AT_A_TIME], &done);
            async move {
                let of_file = AtomicU64::new(0);
                let report = |offsets: u64| {
                    let new = offsets - of_file.swap(offsets, Ordering::Relaxed);
                    report(ReadProgress { done: done.fetch_add(new, Ordering::Relaxed) + new, total });
                };
                let found = self.find(&file.name).await?;
                let is_found = found.is_some();
                let written = match found {
                    Some(found) => found,
                    None => {
                        self.write(log, file, &plan.next(), shutdown, |read: ReadProgress| report(read.done)).await?
                    }
                };
                report(file.offsets());
                Ok::<_, ExportError>((written, is_found))
            }
        });
        let written: Vec<_> = stream::iter(writing).buffered(FILES_AT_A_TIME).try_collect().await?;
        summary.files += written.len() as u64;
        summary.found += written.iter().filter(|(_, is_found)| *is_found).count() as u64;
        let files: Vec<DoneFile> = written.into_iter().map(|(file, _)| file).collect();
        summary.rows += files.iter().map(|file| file.rows).sum::<u64>();
        // If another process was faster, it says the same.
        self.store.create(&done_name(number), json(&DonePlan { files })?).await?;
        Ok(())
    }

    /// Describes a file that is there.
    async fn find(&self, name: &str) -> Result<Option<DoneFile>, ExportError> {
        let Some(file) = self.store.file(name).await? else { return Ok(None) };
        let (name, format) = (name.to_owned(), self.settings.format);
        let described = tokio::task::spawn_blocking(move || describe(name, file, format));
        Ok(Some(described.await.map_err(|_| ExportError::Stopped)??))
    }

    /// Writes a file.
    async fn write(
        &self,
        log: &LogConsumer,
        file: &PlannedFile,
        others: &PositionVector,
        shutdown: &CancellationToken,
        report: impl Fn(ReadProgress),
    ) -> Result<DoneFile, ExportError> {
        let (mut from, mut to) = (others.clone(), others.clone());
        for (vector, offset) in [(&mut from, file.from), (&mut to, file.to)] {
            let place = usize::try_from(file.partition).ok().and_then(|index| vector.0.get_mut(index));
            *place.ok_or(RangeError::UnknownPartition(file.partition))? = offset;
        }
        let (sender, records) = mpsc::channel(WAITING_MAX);
        let choice = RecordChoice {
            partitions: self.settings.partitions,
            filter: self.settings.filter.clone(),
            content: self.settings.content,
        };
        let (format, output) = (self.settings.format, HashedOutput::new(self.store.begin()?));
        let writing = tokio::task::spawn_blocking(move || {
            let mut summary = ReplaySummary::default();
            write_all(records, &choice, format, false, output, &mut summary).map(|output| (output, summary))
        });
        let reading = async {
            let ended = shutdown.run_until_cancelled(read_log(log, &from, &to, &sender, report)).await;
            ended.ok_or(ExportError::Stopped)?.map_err(ExportError::from)
        };
        tokio::select! {
            ended = reading => ended?,
            // The thread that writes has failed.
            () = sender.closed() => {}
        }
        drop(sender);
        let (output, summary) = writing.await.map_err(|_| ExportError::Stopped)??;
        self.ensure_same_topic().await?;
        let (output, bytes, sha256) = output.into_parts();
        self.store.publish(output, &file.name).await?;
        Ok(DoneFile { name: file.name.clone(), rows: summary.written, bytes, sha256 })
    }

    /// Makes sure that what was read came from the export's topic.
    async fn ensure_same_topic(&self) -> Result<(), ExportError> {
        let topic = describe_topic(&self.brokers, &self.settings.topic).await?;
        let id: Option<Uuid> = topic.map(|topic| topic.id);
        if id == Some(self.settings.topic_id) { Ok(()) } else { Err(ExportError::TopicMadeAnew) }
    }
}

fn plan_name(number: u64) -> String {
    format!("plan_{number:06}.json")
}

fn done_name(number: u64) -> String {
    format!("done_{number:06}.json")
}

fn json(document: &impl serde::Serialize) -> Result<Vec<u8>, ExportError> {
    let mut json = serde_json::to_vec_pretty(document).map_err(io::Error::from)?;
    json.push(b'\n');
    Ok(json)
}

fn offsets(vector: &PositionVector) -> LogPoint {
    LogPoint::Offsets((0..).zip(vector.0.iter().copied()).collect())
}

/// Counts the rows of a file, and hashes it.
fn describe(name: String, mut file: std::fs::File, format: ReplayFormat) -> io::Result<DoneFile> {
    let mut output = HashedOutput::new(io::sink());
    io::copy(&mut file, &mut output)?;
    output.flush()?;
    let (_, bytes, sha256) = output.into_parts();
    file.rewind()?;
    Ok(DoneFile { name, rows: rows(file, format)?, bytes, sha256 })
}

fn rows(file: std::fs::File, format: ReplayFormat) -> io::Result<u64> {
    match format {
        ReplayFormat::JsonLines => {
            let bytes = io::BufReader::with_capacity(256 << 10, file).bytes();
            bytes.into_iter().try_fold(0, |lines, byte| Ok(lines + u64::from(byte? == b'\n')))
        }
        ReplayFormat::Csv => {
            let mut reader = csv::Reader::from_reader(file);
            let (mut record, mut rows) = (csv::ByteRecord::new(), 0);
            while reader.read_byte_record(&mut record)? {
                rows += 1;
            }
            Ok(rows)
        }
        ReplayFormat::Parquet => {
            let rows = SerializedFileReader::new(file).map(|reader| reader.metadata().file_metadata().num_rows());
            Ok(rows.map_err(io::Error::other)?.unsigned_abs())
        }
    }
}
