//! `messages rebuild`: makes the read model anew from the topic, next to the one that is in use or in its place, and shows
//! the progress.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use domain::ConversationId;
use event_log::{TopicWatch, describe_topic, partition_of};
use projector::{FoldedKeys, Projector, Rebuild, RebuildGoal, RebuildOutcome, Stalls};
use read_model::{ConversationRebuildStatus, ReadModel};
use replay::SortBudget;
use service::config::Config;
use service::{lifecycle, telemetry};
use uuid::Uuid;

use super::progress::{ProgressDisplay, StepDisplay};
use super::verify::{DIFFERENT, print_counts, print_differences};
use crate::process;

/// How many connections to Postgres the command opens at most, besides those on which it builds.
const CONNECTIONS: u32 = 2;
/// How many bytes the read model may have before the command asks.
const BYTES_WITHOUT_QUESTION: u64 = 10_000_000_000;

/// How long the command waits for a projector that makes a conversation anew, and how often it looks.
const CONVERSATION_TIMEOUT: Duration = Duration::from_secs(60);
const CONVERSATION_POLL_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(crate) struct RebuildArgs {
    /// Only show what this version would change: build the rows, compare them with those in use, and drop them.
    #[arg(long, conflicts_with_all = ["accept_differences", "back", "reset"])]
    dry_run: bool,
    /// Use the new rows even if they differ from those in use.
    #[arg(long, conflicts_with_all = ["back", "reset"])]
    accept_differences: bool,
    /// Go back to the rows that the last rebuild has replaced. They are kept for ten minutes.
    #[arg(long, conflicts_with = "reset")]
    back: bool,
    /// Empty the read model first: for a topic that replaces another one. Until the topic is folded, queries answer from
    /// what is folded so far.
    #[arg(long)]
    reset: bool,
    /// Make only the rows of this conversation anew. A running projector does it.
    #[arg(long, value_name = "ID", conflicts_with_all = ["dry_run", "accept_differences", "back", "reset"])]
    conversation: Option<ConversationId>,
    /// Don't ask, however large the read model is.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    config: Config,
}

/// Makes the read model anew.
///
/// # Errors
/// When Kafka or Postgres doesn't answer, the log isn't complete, or a signal stops the process.
pub(crate) async fn run(arguments: &RebuildArgs) -> anyhow::Result<ExitCode> {
    let config = &arguments.config;
    telemetry::start(&config.log, config.log_format);
    if arguments.reset {
        reset(config).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(conversation) = arguments.conversation {
        rebuild_conversation(config, conversation).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let rebuild = prepare(arguments).await?;
    let started = Instant::now();
    let steps = StepDisplay::default();
    let shutdown = lifecycle::shutdown_on_signal();
    let goal = match arguments {
        RebuildArgs { dry_run: true, .. } => RebuildGoal::Compare,
        RebuildArgs { accept_differences: true, .. } => RebuildGoal::Replace,
        _ => RebuildGoal::ReplaceIfEqual,
    };
    let outcome = match arguments.back {
        true => projector::go_back(&rebuild, &shutdown, |step| steps.show(step.into())).await,
        false => projector::rebuild(&rebuild, goal, &shutdown, |step| steps.show(step.into())).await,
    };
    steps.finish();
    let outcome = outcome?;
    tracing::info!(elapsed = ?started.elapsed(), stood_still = ?outcome.stood_still, "the rebuild has ended");
    Ok(print(&outcome, goal))
}

async fn prepare(arguments: &RebuildArgs) -> anyhow::Result<Rebuild> {
    let config = &arguments.config;
    let topic = describe_topic(&config.kafka_brokers, &config.kafka_topic).await?;
    let topic = topic.with_context(|| format!("the topic {} doesn't exist", config.kafka_topic))?;
    let read_model = ReadModel::connect(&config.database_url, &config.database_schema, CONNECTIONS)?;
    let pending = read_model.health().await?.pending_migrations;
    // Another version shows what it would change before its migrations run.
    let is_known = pending == 0 || arguments.dry_run && read_model.has_generations().await?;
    ensure!(is_known, "the schema {} lacks {pending} migrations: run messages migrate", config.database_schema);
    let bytes = read_model.rows_bytes().await?;
    ensure!(
        arguments.yes || arguments.back || bytes <= BYTES_WITHOUT_QUESTION || is_confirmed(bytes)?,
        "nothing was changed"
    );
    Ok(Rebuild {
        brokers: config.kafka_brokers.clone(),
        topic: config.kafka_topic.clone(),
        topic_id: topic.id,
        partitions: topic.partitions,
        read_model,
        cache: process::connect_cache(config)?,
        budget: SortBudget::in_folder(std::env::temp_dir()),
        job: None,
    })
}

/// Lets a projector make the rows of a conversation anew, and waits until it has.
async fn rebuild_conversation(config: &Config, conversation: ConversationId) -> anyhow::Result<()> {
    let topic = describe_topic(&config.kafka_brokers, &config.kafka_topic).await?;
    let topic = topic.with_context(|| format!("the topic {} doesn't exist", config.kafka_topic))?;
    let read_model = ReadModel::connect(&config.database_url, &config.database_schema, CONNECTIONS)?;
    read_model.request_conversation_rebuild(conversation, partition_of(conversation, topic.partitions)).await?;
    let requested = Instant::now();
    while let Some(request) = read_model.conversation_rebuild(conversation).await? {
        if request.status == ConversationRebuildStatus::Failed {
            bail!("a projector failed to do it: {}", request.reason.unwrap_or_default());
        }
        ensure!(
            requested.elapsed() < CONVERSATION_TIMEOUT,
            "no projector has done it yet; the next one that owns the partition will: see messages doctor"
        );
        tokio::time::sleep(CONVERSATION_POLL_INTERVAL).await;
    }
    println!("✓ the rows of the conversation {conversation} are those that the topic demands");
    Ok(())
}

/// Asks whether there is room for a second generation.
fn is_confirmed(bytes: u64) -> anyhow::Result<bool> {
    let gigabytes = bytes / 1_000_000_000;
    let needs = format!("the rebuild needs about {gigabytes} GB in Postgres, and as much for its write-ahead log");
    ensure!(std::io::stdin().is_terminal(), "{needs}; repeat the command with --yes");
    print!("{needs}. Go on? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

fn print(outcome: &RebuildOutcome, goal: RebuildGoal) -> ExitCode {
    let RebuildOutcome { generation, records, differences, new_columns, stood_still } = outcome;
    if !new_columns.is_empty() {
        println!("! not compared, because the schema in use has no such columns: {}", new_columns.join(", "));
    }
    print_differences(differences);
    if !differences.is_empty() {
        print_counts(differences);
    }
    let conversations = differences.conversations;
    match (stood_still, differences.is_empty()) {
        (Some(_), true) => println!("✓ generation {generation} is in use: {records} records, the same rows as before"),
        (Some(_), false) => println!(
            "✓ generation {generation} is in use: {records} records. Conversations with other rows than before: \
             {conversations}"
        ),
        (None, true) => println!("✓ this version would change nothing: {records} records"),
        (None, false) if goal == RebuildGoal::Compare => {
            println!("✗ this version would change rows in conversations: {conversations}");
        }
        (None, false) => {
            println!("✗ the new rows differ from those in use, in conversations: {conversations}. Nothing was changed");
            println!("    → use the new ones nevertheless: messages rebuild --accept-differences");
        }
    }
    match stood_still.is_none() && !differences.is_empty() {
        true => ExitCode::from(DIFFERENT),
        false => ExitCode::SUCCESS,
    }
}

/// Empties the read model and folds the topic again, up to the end that it has now.
async fn reset(config: &Config) -> anyhow::Result<()> {
    let topic = process::ensure_topics(config).await?.log;
    process::connect_and_migrate(config, 1).await?;
    let projector = Projector {
        brokers: config.kafka_brokers.clone(),
        topic_watch: TopicWatch::start(&config.kafka_brokers, topic.clone())?,
        topic,
        read_model: ReadModel::connect_projector(&config.database_url, &config.database_schema)?,
        cache: process::connect_cache(config)?,
        owner: Uuid::now_v7().to_string(),
        stalls: Stalls::default(),
        folded: FoldedKeys::default(),
    };
    let started = Instant::now();
    let display = ProgressDisplay::new("folding the topic into the emptied read model", "records")?;
    let shutdown = lifecycle::shutdown_on_signal();
    let rebuilt =
        projector::reset(projector, &shutdown, |progress| display.update(progress.done, progress.total)).await?;
    display.finish();
    tracing::info!(records = rebuilt.total, elapsed = ?started.elapsed(), "the read model is rebuilt to the log's end");
    Ok(())
}
