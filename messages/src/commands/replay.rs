//! `messages replay`: writes a part of the log to the standard output or into a folder, as JSON lines, CSV or Parquet.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use domain::{ConversationId, EventData, PositionVector, UserId};
use event_log::{LogConsumer, TopicDescription, describe_topic};
use projector::held_reason;
use replay::{
    ContentChoice, Export, ExportPart, ExportSettings, ExportStore, ExportSummary, LogPoint, LogRange, ReadProgress,
    RecordChoice, RecordFilter, ReplayFormat, ReplayPlan, ReplaySummary,
};
use service::config::Config;
use service::token::PositionTokens;
use service::{lifecycle, telemetry};

use super::progress::ProgressDisplay;

#[derive(Args)]
pub(crate) struct ReplayArgs {
    /// Where to begin: beginning, now, a time, offsets, or a token. An export that goes on begins where it ended.
    ///
    /// A time is one of RFC 3339, such as 2026-11-23T09:00:00Z: the first record that the log took then or later. Offsets
    /// are those of some partitions, such as 0:1200,1:1187; the other partitions begin at their first record. A token is
    /// what a query answers as Messages-Position: all that the answer included comes before it.
    #[arg(long, default_value = "beginning", value_name = "POINT")]
    from: String,
    /// Where to end, before: now, a time, offsets, or a token. Partitions that offsets don't name end now.
    #[arg(long, default_value = "now", value_name = "POINT", conflicts_with = "follow")]
    to: String,
    /// Go on with new records as they come, until Ctrl-C.
    #[arg(long)]
    follow: bool,
    /// The form of the output.
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Write files into this folder, instead of the standard output. Whatever is killed, no record is missing and none is in
    /// two files.
    ///
    /// The folder must be empty. It gets a file for each range of offsets of a partition, and documents that say which runs
    /// wrote them. An object store works, too: s3://BUCKET/PREFIX, with the usual variables of AWS in the environment, such
    /// as AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL.
    #[arg(long, value_name = "FOLDER", conflicts_with = "follow")]
    folder: Option<String>,
    /// Go on with the export in the folder: finish what an earlier run began, and add what the log has since.
    ///
    /// Give the same options as before. In an empty folder, the export begins.
    #[arg(long = "continue", requires = "folder")]
    continues: bool,
    /// How many offsets of a partition a file has at most. Files end at the multiples of this number.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000, requires = "folder",
          value_parser = clap::value_parser!(u64).range(1..))]
    file_records: u64,
    /// Only events of this type. Give the option again for another one.
    #[arg(long = "type", value_name = "TYPE", value_parser = PossibleValuesParser::new(EventData::TYPE_NAMES))]
    types: Vec<String>,
    /// Only events of this conversation. Give the option again for another one.
    #[arg(long = "conversation", value_name = "ID")]
    conversations: Vec<ConversationId>,
    /// Only what this user did. Give the option again for another one.
    #[arg(long = "actor", value_name = "USER")]
    actors: Vec<UserId>,
    /// Leave out what people wrote (texts, titles, labels, attachments), for readers who may not see it.
    #[arg(long, value_enum)]
    without: Option<Without>,
    /// Print the state of one conversation at --to, as its participants saw it then; with --from, what differs between both
    /// points.
    #[arg(long, requires = "conversations", conflicts_with_all = ["follow", "format", "types", "actors", "without", "folder"])]
    fold: bool,
    #[command(flatten)]
    config: Config,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A JSON object a line: the record's value, with partition, offset and loggedAt before its fields.
    Jsonl,
    /// The same columns for every type of event, with a head.
    Csv,
    /// Apache Parquet: these columns, with types.
    Parquet,
}

impl From<Format> for ReplayFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Jsonl => Self::JsonLines,
            Format::Csv => Self::Csv,
            Format::Parquet => Self::Parquet,
        }
    }
}

impl ReplayArgs {
    /// Which records are replayed, and how much of them.
    fn choice(&self, partitions: usize) -> RecordChoice {
        RecordChoice {
            partitions,
            filter: RecordFilter {
                types: self.types.iter().cloned().collect(),
                conversations: self.conversations.iter().copied().collect(),
                actors: self.actors.iter().cloned().collect(),
            },
            content: self.without.map_or(ContentChoice::Kept, |Without::Content| ContentChoice::LeftOut),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Without {
    Content,
}

/// Writes a part of the log to the standard output, or into a folder.
///
/// # Errors
/// When the log doesn't have the part, Kafka doesn't answer, or the output can't be written.
pub(crate) async fn run(arguments: &ReplayArgs) -> anyhow::Result<()> {
    let config = &arguments.config;
    telemetry::start(&config.log, config.log_format);
    let topic = described(config).await?;
    let log = consumer(config);
    let point = |text: &str, option: &str| point(text, config, &topic).with_context(|| format!("{option} {text}"));
    let (from, to) = (point(&arguments.from, "--from")?, point(&arguments.to, "--to")?);
    ensure!(to != LogPoint::Beginning, "--to beginning: nothing comes before it");
    if let Some(folder) = &arguments.folder {
        return export(arguments, folder, topic, ExportPart { from, to, continues: arguments.continues }).await;
    }
    let is_growing = arguments.follow && arguments.format == Format::Parquet;
    ensure!(!is_growing, "--follow: a Parquet file can't be read before its end; use another --format");
    let range = LogRange::find(&log, &from, &to).await?;
    warn(&range);
    let started = Instant::now();
    let part = LogPart { log, topic, range };
    if arguments.fold {
        part.fold(arguments).await?
    } else {
        part.write(arguments).await?
    }
    if described(config).await?.id != part.topic.id {
        bail!(
            "the topic {} was deleted and created again meanwhile: the output has records of both",
            config.kafka_topic
        );
    }
    tracing::info!(elapsed = ?started.elapsed(), "replayed the log");
    Ok(())
}

/// What reads the log. It needs nothing that headers say.
fn consumer(config: &Config) -> LogConsumer {
    LogConsumer::new(&config.kafka_brokers, &config.kafka_topic, "replay").without_headers()
}

/// Writes a part of the log into a folder.
async fn export(arguments: &ReplayArgs, folder: &str, topic: TopicDescription, part: ExportPart) -> anyhow::Result<()> {
    let config = &arguments.config;
    let RecordChoice { partitions, filter, content } = arguments.choice(topic.partitions);
    let settings = ExportSettings {
        topic: config.kafka_topic.clone(),
        topic_id: topic.id,
        partitions,
        format: arguments.format.into(),
        filter,
        content,
        file_records: arguments.file_records,
    };
    let store = ExportStore::open(folder).with_context(|| format!("--folder {folder}"))?;
    let logs = std::array::from_fn(|_| consumer(config));
    let export = Export { logs, brokers: config.kafka_brokers.clone(), settings, store };
    let display = ProgressDisplay::new("exporting the log", "offsets")?;
    let summary = export.run(&part, &lifecycle::shutdown_on_signal(), |progress| show(&display, progress)).await;
    display.finish();
    let ExportSummary { files, found, rows, next, held } = summary?;
    warn_of_held(&held);
    match files {
        0 => eprintln!("✓ the export has everything"),
        _ => eprintln!("✓ files: {files}, of these already there: {found}; records in them: {rows}"),
    }
    eprintln!("  it ends before {}", offsets(&next));
    Ok(())
}

/// A part of the log, and the topic that has it.
struct LogPart {
    log: LogConsumer,
    topic: TopicDescription,
    range: LogRange,
}

impl LogPart {
    /// Writes the records.
    async fn write(&self, arguments: &ReplayArgs) -> anyhow::Result<()> {
        let plan = ReplayPlan {
            range: self.range.clone(),
            choice: arguments.choice(self.topic.partitions),
            format: arguments.format.into(),
            follows: arguments.follow,
        };
        let display = ProgressDisplay::new("replaying the log", "offsets")?;
        let shutdown = lifecycle::shutdown_on_signal();
        let report = |progress| show(&display, progress);
        let summary = replay::replay(&self.log, plan, std::io::stdout(), &shutdown, report).await;
        display.finish();
        print_summary(&summary?, &self.range.to, arguments.follow);
        Ok(())
    }

    /// Prints the state of a conversation, or what differs between two of its states.
    async fn fold(&self, arguments: &ReplayArgs) -> anyhow::Result<()> {
        let [conversation] = arguments.conversations[..] else { bail!("--fold takes one --conversation") };
        ensure!(self.range.lost.is_none(), "without the first records nobody can say what the state was");
        let display = ProgressDisplay::new("folding the log", "offsets")?;
        let shutdown = lifecycle::shutdown_on_signal();
        let LogRange { from, to, .. } = &self.range;
        let points = [from.clone(), to.clone()];
        let report = |progress| show(&display, progress);
        let partitions = self.topic.partitions;
        let states = replay::conversation_states(&self.log, partitions, conversation, &points, &shutdown, report).await;
        display.finish();
        let [before, after] = &states?[..] else { bail!("there are not two states") };
        ensure!(!after.is_empty(), "there is no conversation {conversation} at that point of the log");
        let lines: Vec<_> = match before.is_empty() {
            true => after.lines().collect(),
            false => before.lines_that_differ(after).collect(),
        };
        let mut out = BufWriter::new(std::io::stdout().lock());
        for line in lines {
            writeln!(out, "{line}")?;
        }
        Ok(out.flush()?)
    }
}

/// Shows the progress, until everything is read.
fn show(display: &ProgressDisplay, progress: ReadProgress) {
    display.update(progress.done, progress.total);
    if progress.done == progress.total {
        display.finish();
    }
}

async fn described(config: &Config) -> anyhow::Result<TopicDescription> {
    let topic = describe_topic(&config.kafka_brokers, &config.kafka_topic).await?;
    topic.with_context(|| format!("the topic {} doesn't exist", config.kafka_topic))
}

/// The point that an option names.
fn point(text: &str, config: &Config, topic: &TopicDescription) -> anyhow::Result<LogPoint> {
    let not_a_point = match text.parse() {
        Ok(point) => return Ok(point),
        Err(error) => anyhow::Error::from(error),
    };
    // Nothing that a person writes is as long as the shortest token.
    if text.contains([',', ':', ' ']) || text.len() < 32 {
        return Err(not_a_point);
    }
    let tokens = PositionTokens::new(config.secret()?, topic.id, topic.partitions);
    let PositionVector(offsets) = tokens.read_of_anybody(text)?;
    Ok(LogPoint::Offsets((0..).zip(offsets).collect()))
}

/// Says where the part doesn't have what a reader would expect.
fn warn(range: &LogRange) {
    if let Some(lost) = &range.lost {
        eprintln!("! the topic no longer has its first records: {lost}");
    }
    warn_of_held(&range.held);
}

fn warn_of_held(held: &BTreeMap<i32, i64>) {
    for (partition, from) in held {
        eprintln!("! partition {partition} ends at offset {from}: {}", held_reason(*from));
    }
}

/// Offsets as `--from` takes them.
fn offsets(vector: &PositionVector) -> String {
    let offsets = (0..).zip(&vector.0).map(|(partition, next): (i32, _)| format!("{partition}:{next}"));
    offsets.collect::<Vec<_>>().join(",")
}

fn print_summary(summary: &ReplaySummary, to: &PositionVector, follows: bool) {
    let ReplaySummary { written, undecodable, filtered, is_closed } = summary;
    if *is_closed {
        return;
    }
    eprintln!("✓ records written: {written}, of these no events: {undecodable}; left out by filters: {filtered}");
    if !follows {
        eprintln!("  the next ones: --from {}", offsets(to));
    }
}
