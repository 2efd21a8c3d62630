//! `messages demo`: appends a believable community to the topic, through the producer of the command API.
//!
//! A thread makes the records, batch by batch, and waits while the producer has two of them: memory doesn't depend on how
//! many records there are. Batches are appended one after the other, so the events of a conversation keep their order.

use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Args;
use demo::{Community, CommunitySpec, Record};
use domain::{Event, Timestamp};
use event_log::{AppendError, LogConsumer, Producer, Topic, TopicWatch, describe_topic};
use service::config::{Config, Environment};
use service::{lifecycle, telemetry};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::progress::ProgressDisplay;
use crate::process;

/// How many records the producer has at the same time.
const RECORDS_IN_FLIGHT: usize = 2_000;

/// What to do after an append that broke off.
const APPEND_THE_REST: &str =
    "the same command appends the rest: a record that is already on the topic has no second effect";

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// How many people there are. The first are alice and bob.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    users: u32,
    /// How many conversations they have: pairs, and groups of 2 to 1,000. The first is a group of everybody, up to 1,000.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    conversations: u32,
    /// How many messages they send. Read marks, edits, reactions and notifications come on top.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    messages: u32,
    /// Another number gives another community. The same options always give the same records.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The end of the year in which everything happened (RFC 3339).
    #[arg(long, value_name = "TIME", default_value = "2026-11-01T00:00:00Z")]
    until: Timestamp,
    /// Confirm that the records may stay on the topic permanently. Production mode requires it.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    config: Config,
}

impl DemoArgs {
    fn spec(&self) -> anyhow::Result<CommunitySpec> {
        Ok(CommunitySpec {
            users: self.users.try_into()?,
            conversations: self.conversations.try_into()?,
            messages: self.messages.try_into()?,
            seed: self.seed,
            until: self.until,
        })
    }
}

/// Appends the community.
///
/// # Errors
/// When nobody confirmed it in production mode, the read model belongs to another topic, Kafka or Postgres doesn't
/// answer, or a signal stops the process.
pub(crate) async fn run(arguments: &DemoArgs) -> anyhow::Result<()> {
    let config = &arguments.config;
    telemetry::start(&config.log, config.log_format);
    let topic_name = &config.kafka_topic;
    ensure!(
        arguments.yes || config.environment == Environment::Development,
        "this is production mode, and the community would stay on the topic {topic_name} permanently, among what real \
         people did; on your own machine, set MESSAGES_ENV=development; to append it here, add --yes"
    );
    let topic = find_topic(config).await?;
    let mut appender = Appender {
        producer: Producer::new(&config.kafka_brokers, (&topic).into(), None)?,
        topic_watch: TopicWatch::start(&config.kafka_brokers, topic)?,
        shutdown: lifecycle::shutdown_on_signal(),
        appended: 0,
    };
    appender.producer.warm_up().await.context("Kafka")?;
    let started = Instant::now();
    appender.append(&arguments.spec()?).await?;
    let (records, elapsed) = (appender.appended, started.elapsed());
    let per_second = (records as f64 / elapsed.as_secs_f64()).round();
    tracing::info!(records, ?elapsed, per_second, topic = topic_name, "the community is on the topic");
    Ok(())
}

/// The topic, which is created if it is missing. Refuses one that the read model was not folded from: nobody would see
/// the community.
async fn find_topic(config: &Config) -> anyhow::Result<Topic> {
    let read_model = process::connect_and_migrate(config, 1).await?;
    let name = &config.kafka_topic;
    // Never creates another topic than that of an existing read model: KAFKA_TOPIC may be misspelt.
    ensure!(
        read_model.folded_topic().await?.is_none() || describe_topic(&config.kafka_brokers, name).await?.is_some(),
        "the topic {name} doesn't exist, and the read model was folded from another one; check KAFKA_TOPIC"
    );
    let topic = process::ensure_topics(config).await?.log;
    // Before the read model's offsets: they only grow, so what lies between the two is gone.
    let beginning = LogConsumer::new(&config.kafka_brokers, name, "demo").beginning_offsets().await?;
    let folded = read_model.folded_topic().await?;
    match process::folded_mismatch((name, topic.id, topic.partitions), folded.as_ref(), &beginning) {
        Some(reason) => bail!(reason),
        None => Ok(topic),
    }
}

/// Some records, and how many commands are done with them.
struct Batch {
    records: Vec<Record>,
    commands_done: usize,
}

/// Makes the records of a community in a thread of its own. It ends when the receiver is dropped.
fn generate(mut community: Community) -> (mpsc::Receiver<Batch>, JoinHandle<()>) {
    let (sender, batches) = mpsc::channel(1);
    let generating = tokio::task::spawn_blocking(move || {
        loop {
            let records: Vec<Record> = community.by_ref().take(RECORDS_IN_FLIGHT).collect();
            let commands_done = community.commands_done();
            if records.is_empty() || sender.blocking_send(Batch { records, commands_done }).is_err() {
                return;
            }
        }
    });
    (batches, generating)
}

struct Appender {
    producer: Producer,
    topic_watch: TopicWatch,
    shutdown: CancellationToken,
    /// How many records Kafka has acknowledged.
    appended: usize,
}

impl Appender {
    /// Appends a community, and shows the progress.
    async fn append(&mut self, spec: &CommunitySpec) -> anyhow::Result<()> {
        let display = ProgressDisplay::new("appending the community", "commands")?;
        let community = Community::new(spec);
        let traceparent = community.traceparent().to_owned();
        let (mut batches, generating) = generate(community);
        while let Some(batch) = batches.recv().await {
            let appended = self.append_batch(batch.records, &traceparent).await;
            let count = self.appended;
            appended.with_context(|| {
                format!("{count} records are on the topic, and perhaps some more; {APPEND_THE_REST}; Kafka")
            })?;
            if let Some(change) = self.topic_watch.change() {
                return Err(change).with_context(|| format!("stopped after {count} records"));
            }
            display.update(batch.commands_done as u64, spec.commands() as u64);
            if self.shutdown.is_cancelled() && batch.commands_done < spec.commands() {
                display.finish();
                bail!("stopped after {count} records, all of which are on the topic; {APPEND_THE_REST}");
            }
        }
        display.finish();
        generating.await.context("making the records")
    }

    async fn append_batch(&mut self, records: Vec<Record>, traceparent: &str) -> Result<(), AppendError> {
        let mut events = Vec::with_capacity(records.len());
        for record in records {
            match record {
                Record::Event(event) => events.push(event),
                Record::Undecodable(record) => {
                    self.append_events(&mut events, traceparent).await?;
                    self.producer.append_undecodable(record.key, record.event_type, &record.value).await?;
                    self.appended += 1;
                }
            }
        }
        self.append_events(&mut events, traceparent).await
    }

    async fn append_events(&mut self, events: &mut Vec<Event>, traceparent: &str) -> Result<(), AppendError> {
        if !events.is_empty() {
            self.producer.append(events, traceparent).await?;
            self.appended += events.len();
            events.clear();
        }
        Ok(())
    }
}
