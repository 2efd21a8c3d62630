//! `messages dead-letters`: inspects, retries and discards the records that could not be folded.
//!
//! These commands only read the topic, and record decisions in the read model. A projector carries out a retry.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use domain::Position;
use event_log::{LogConsumer, describe_topic};
use read_model::{DeadLetter, DeadLetterStatus, ReadModel};
use service::config::Config;
use service::printable::escaped;
use service::telemetry;
use tokio::time::Instant;
use uuid::Uuid;

use crate::process;

/// How long the command waits for a projector to carry out the retries.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How many dead letters are read at a time.
const PAGE_SIZE: i64 = 1_000;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the dead letters in log order: position (partition:offset), status, time of parking, reason.
    List(ListArgs),
    /// Show a dead letter, with its record as it is on the topic.
    Show(ShowArgs),
    /// Retry dead letters after an upgrade that can read them: fold their conversations again from the log.
    ///
    /// A running projector does this; the command waits for it, up to a minute. The events that follow the record are
    /// folded again, too: if the record is a message, the numbers of the messages after it increase by one.
    Retry(RetryArgs),
    /// Discard a dead letter, with a reason. The record stays on the topic and can still be retried.
    Discard(DiscardArgs),
}

#[derive(Args)]
pub(crate) struct ListArgs {
    /// Include dead letters that were folded or discarded.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    config: Config,
}

#[derive(Args)]
pub(crate) struct ShowArgs {
    /// The position of the record: partition:offset, as `list` shows it.
    position: Position,
    #[command(flatten)]
    config: Config,
}

#[derive(Args)]
pub(crate) struct RetryArgs {
    /// The positions of the records: partition:offset, as `list` shows them.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    positions: Vec<Position>,
    /// Retry all dead letters that are parked.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    config: Config,
}

#[derive(Args)]
pub(crate) struct DiscardArgs {
    /// The position of the record: partition:offset, as `list` shows it.
    position: Position,
    /// The reason, which is stored with the dead letter.
    #[arg(long)]
    because: String,
    #[command(flatten)]
    config: Config,
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// When Kafka or Postgres doesn't answer, the dead letter doesn't exist, or a retry failed.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(arguments) => {
                let admin = DeadLetterAdmin::connect(arguments.config).await?;
                let letters = admin.letters(arguments.all).await?;
                print_list(&letters);
                Ok(())
            }
            Self::Show(arguments) => DeadLetterAdmin::connect(arguments.config).await?.show(arguments.position).await,
            Self::Retry(arguments) => {
                let admin = DeadLetterAdmin::connect(arguments.config).await?;
                let mut positions = arguments.positions;
                if arguments.all {
                    let letters = admin.letters(false).await?;
                    positions.extend(letters.iter().map(|letter| letter.position));
                }
                admin.retry(&positions).await
            }
            Self::Discard(arguments) => {
                let reason = arguments.because.trim();
                ensure!(!reason.is_empty(), "--because needs a reason");
                let admin = DeadLetterAdmin::connect(arguments.config).await?;
                admin.decide(arguments.position, DeadLetterStatus::Discarded, Some(reason)).await?;
                println!("{} is discarded", arguments.position);
                Ok(())
            }
        }
    }
}

/// The dead letters of one topic.
struct DeadLetterAdmin {
    config: Config,
    topic_id: Uuid,
    read_model: ReadModel,
}

impl DeadLetterAdmin {
    /// All dead letters, or only the open ones.
    async fn letters(&self, all: bool) -> anyhow::Result<Vec<DeadLetter>> {
        let mut letters: Vec<DeadLetter> = Vec::new();
        loop {
            let after = letters.last().map(|letter| letter.position);
            let page = self.read_model.dead_letters(self.topic_id, all, after, PAGE_SIZE).await?;
            let is_last = page.is_empty();
            letters.extend(page);
            if is_last {
                return Ok(letters);
            }
        }
    }

    async fn connect(config: Config) -> anyhow::Result<Self> {
        telemetry::start(&config.log, config.log_format);
        // Never creates a missing topic: KAFKA_TOPIC may be misspelt.
        let topic = describe_topic(&config.kafka_brokers, &config.kafka_topic).await?;
        let topic =
            topic.with_context(|| format!("the topic {} doesn't exist; check KAFKA_TOPIC", config.kafka_topic))?;
        let read_model = process::connect_and_migrate(&config, 2).await?;
        Ok(Self { config, topic_id: topic.id, read_model })
    }

    async fn find(&self, position: Position) -> anyhow::Result<DeadLetter> {
        let letter = self.read_model.dead_letter(self.topic_id, position).await?;
        letter.with_context(|| {
            format!("no dead letter is at {position}; to see all of them, run: messages dead-letters list --all")
        })
    }

    async fn decide(&self, position: Position, status: DeadLetterStatus, note: Option<&str>) -> anyhow::Result<()> {
        if !self.read_model.set_dead_letter_status(self.topic_id, position, status, note).await? {
            let status = status_name(self.find(position).await?.status);
            bail!("the dead letter at {position} is {status}; nothing was changed");
        }
        Ok(())
    }

    async fn show(&self, position: Position) -> anyhow::Result<()> {
        let letter = self.find(position).await?;
        println!("position   {position} of {}", self.config.kafka_topic);
        println!("status     {}, since {}", status_name(letter.status), letter.changed_at);
        println!("parked     {}", letter.parked_at);
        println!("reason     {}", escaped(&letter.reason));
        if let Some(note) = &letter.note {
            println!("note       {}", escaped(note));
        }
        let log = LogConsumer::new(&self.config.kafka_brokers, &self.config.kafka_topic, "dead-letters");
        let record = log.read_at(position).await?.context("the record is no longer on the topic")?;
        println!("key        {}", escaped(&String::from_utf8_lossy(&record.key)));
        println!("ce_type    {}", escaped(record.event_type.as_deref().unwrap_or("-")));
        println!("value      {} bytes", record.value.len());
        println!("{}", escaped(&String::from_utf8_lossy(&record.value)));
        Ok(())
    }

    /// Requests retries, waits for a projector to carry them out, and prints the result of each.
    async fn retry(&self, positions: &[Position]) -> anyhow::Result<()> {
        for position in positions {
            self.decide(*position, DeadLetterStatus::RetryRequested, None).await?;
        }
        let deadline = Instant::now() + RETRY_TIMEOUT;
        let mut failed = 0;
        for position in positions {
            let letter = self.await_retry(*position, deadline).await?;
            if letter.status == DeadLetterStatus::Folded {
                println!("{position} is folded");
            } else {
                failed += 1;
                println!("{position} is {}: {}", status_name(letter.status), escaped(&letter.reason));
            }
        }
        ensure!(failed == 0, "{failed} of {} could not be folded", positions.len());
        Ok(())
    }

    async fn await_retry(&self, position: Position, deadline: Instant) -> anyhow::Result<DeadLetter> {
        loop {
            let letter = self.find(position).await?;
            if !is_retrying(letter.status) {
                return Ok(letter);
            }
            ensure!(
                Instant::now() < deadline,
                "no projector has retried {position} within a minute; check that one is running: it will still retry it"
            );
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

fn is_retrying(status: DeadLetterStatus) -> bool {
    matches!(status, DeadLetterStatus::RetryRequested | DeadLetterStatus::FoldedPendingInvalidation)
}

fn status_name(status: DeadLetterStatus) -> &'static str {
    match status {
        DeadLetterStatus::Parked => "parked",
        DeadLetterStatus::RetryRequested | DeadLetterStatus::FoldedPendingInvalidation => "retrying",
        DeadLetterStatus::Folded => "folded",
        DeadLetterStatus::Discarded => "discarded",
    }
}

fn print_list(letters: &[DeadLetter]) {
    if letters.is_empty() {
        println!("no dead letters");
        return;
    }
    println!("{:<16} {:<12} {:<24} REASON", "POSITION", "STATUS", "PARKED");
    for letter in letters {
        let (position, parked) = (letter.position.to_string(), letter.parked_at.to_string());
        let reason = escaped(letter.note.as_ref().unwrap_or(&letter.reason));
        println!("{position:<16} {:<12} {parked:<24} {reason}", status_name(letter.status));
    }
}
