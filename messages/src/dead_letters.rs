//! `messages dead-letters`: the records that could not be folded.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use domain::Position;
use event_log::{LogConsumer, describe_topic};
use read_model::{DeadLetter, DeadLetterStatus, ReadModel};
use service::config::Config;
use service::telemetry;
use tokio::time::Instant;
use uuid::Uuid;

use crate::process;

/// How long a retry is waited for.
const RETRIED: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Subcommand)]
pub(crate) enum Task {
    /// List them in the order of the log: position (partition:offset), status, when it was parked, what is wrong.
    List(List),
    /// Show one, with its record as it stands on the topic.
    Show(One),
    /// Try some again, after an upgrade that can read them: their conversations are folded again from the log.
    ///
    /// A running projector does it; this waits for it, up to a minute. What was folded after the record counts anew:
    /// where it is a message, the ones after it move up by one.
    Retry(Retry),
    /// Note that nothing is to be done about one. The record stays on the topic, and can still be tried again.
    Discard(Discard),
}

#[derive(Args)]
pub(crate) struct List {
    /// Also those that were folded or discarded.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    config: Config,
}

#[derive(Args)]
pub(crate) struct One {
    /// Where it is: partition:offset, as `list` shows it.
    position: Position,
    #[command(flatten)]
    config: Config,
}

#[derive(Args)]
pub(crate) struct Retry {
    /// Where they are: partition:offset, as `list` shows it.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    positions: Vec<Position>,
    /// Try all that are parked.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    config: Config,
}

#[derive(Args)]
pub(crate) struct Discard {
    /// Where it is: partition:offset, as `list` shows it.
    position: Position,
    /// Why: it is kept with the note of it.
    #[arg(long)]
    because: String,
    #[command(flatten)]
    config: Config,
}

impl Task {
    /// Does what was asked.
    ///
    /// # Errors
    /// When a service doesn't answer, there is no such dead letter, or a retry failed.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => {
                let desk = Desk::open(list.config).await?;
                let letters = desk.read_model.dead_letters(desk.topic_id, list.all).await?;
                print_list(&letters);
                Ok(())
            }
            Self::Show(one) => Desk::open(one.config).await?.show(one.position).await,
            Self::Retry(retry) => {
                let desk = Desk::open(retry.config).await?;
                let mut positions = retry.positions;
                if retry.all {
                    let letters = desk.read_model.dead_letters(desk.topic_id, false).await?;
                    positions.extend(letters.iter().map(|letter| letter.position));
                }
                desk.retry(&positions).await
            }
            Self::Discard(discard) => {
                let note = discard.because.trim();
                ensure!(!note.is_empty(), "--because needs a reason");
                let desk = Desk::open(discard.config).await?;
                desk.decide(discard.position, DeadLetterStatus::Discarded, Some(note)).await?;
                println!("{} is discarded", discard.position);
                Ok(())
            }
        }
    }
}

/// Where dead letters are worked on.
struct Desk {
    config: Config,
    topic_id: Uuid,
    read_model: ReadModel,
}

impl Desk {
    async fn open(config: Config) -> anyhow::Result<Self> {
        telemetry::start(&config.log, config.log_format);
        // Nothing is made where there is nothing: a name may be wrong.
        let topic = describe_topic(&config.kafka_brokers, &config.kafka_topic).await?;
        let topic_id = topic.with_context(|| format!("there is no topic {}; see KAFKA_TOPIC", config.kafka_topic))?.id;
        let read_model = ReadModel::connect(&config.database_url, &config.database_schema, 2)?;
        read_model.migrate().await.context(process::POSTGRES_HINT)?;
        Ok(Self { config, topic_id, read_model })
    }

    async fn letter(&self, position: Position) -> anyhow::Result<DeadLetter> {
        let letter = self.read_model.dead_letter(self.topic_id, position).await?;
        letter.with_context(|| format!("there is no dead letter at {position}; see messages dead-letters list --all"))
    }

    async fn decide(&self, position: Position, status: DeadLetterStatus, text: Option<&str>) -> anyhow::Result<()> {
        if !self.read_model.set_dead_letter_status(self.topic_id, position, status, text).await? {
            let status = name(self.letter(position).await?.status);
            bail!("the dead letter at {position} is {status}; nothing was done");
        }
        Ok(())
    }

    async fn show(&self, position: Position) -> anyhow::Result<()> {
        let letter = self.letter(position).await?;
        println!("position   {position} of {}", self.config.kafka_topic);
        println!("status     {}, since {}", name(letter.status), letter.changed_at);
        println!("parked     {}", letter.parked_at);
        println!("reason     {}", letter.reason);
        if let Some(note) = &letter.note {
            println!("note       {note}");
        }
        let log = LogConsumer::new(&self.config.kafka_brokers, &self.config.kafka_topic, "dead-letters")?;
        let record = log.read_at(position).await?.context("the log doesn't have the record any more")?;
        println!("key        {}", String::from_utf8_lossy(&record.key));
        println!("ce_type    {}", record.event_type.as_deref().unwrap_or("-"));
        println!("value      {} bytes", record.value.len());
        println!("{}", String::from_utf8_lossy(&record.value));
        Ok(())
    }

    async fn retry(&self, positions: &[Position]) -> anyhow::Result<()> {
        for position in positions {
            self.decide(*position, DeadLetterStatus::RetryRequested, None).await?;
        }
        let deadline = Instant::now() + RETRIED;
        let mut failed = 0;
        for position in positions {
            let letter = loop {
                let letter = self.letter(*position).await?;
                if !matches!(
                    letter.status,
                    DeadLetterStatus::RetryRequested | DeadLetterStatus::FoldedPendingInvalidation
                ) {
                    break letter;
                }
                ensure!(Instant::now() < deadline, "no projector has seen to {position} yet: is one running? It will");
                tokio::time::sleep(LOOK_EVERY).await;
            };
            match letter.status {
                DeadLetterStatus::Folded => println!("{position} is folded"),
                _ => {
                    failed += 1;
                    println!("{position} is {}: {}", name(letter.status), letter.reason);
                }
            }
        }
        ensure!(failed == 0, "{failed} of {} could not be folded", positions.len());
        Ok(())
    }
}

fn name(status: DeadLetterStatus) -> &'static str {
    match status {
        DeadLetterStatus::Parked => "parked",
        DeadLetterStatus::RetryRequested | DeadLetterStatus::FoldedPendingInvalidation => "being tried",
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
        let why = letter.note.as_ref().unwrap_or(&letter.reason);
        println!("{position:<16} {:<12} {parked:<24} {why}", name(letter.status));
    }
}
