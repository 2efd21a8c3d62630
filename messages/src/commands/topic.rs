//! `messages topic`: shows the topic, which is the system of record, and creates it with `--make`.

use anyhow::{Context, ensure};
use clap::Args;
use domain::PositionVector;
use event_log::{LogConsumer, LostRecords, TopicDescription, describe_topic};
use service::config::Config;
use service::printable::escaped;
use service::telemetry;

use crate::process;

#[derive(Args)]
pub(crate) struct TopicArgs {
    /// Create the topic if it doesn't exist: with KAFKA_PARTITIONS partitions, and settings that keep all events.
    #[arg(long)]
    make: bool,
    #[command(flatten)]
    config: Config,
}

/// Shows the topic.
///
/// # Errors
/// When the topic doesn't exist, a setting is wrong, or Kafka doesn't answer.
pub(crate) async fn run(arguments: &TopicArgs) -> anyhow::Result<()> {
    let config = &arguments.config;
    if arguments.make {
        telemetry::start(&config.log, config.log_format);
        process::ensure_topics(config).await?;
    }
    let name = &config.kafka_topic;
    let described = describe_topic(&config.kafka_brokers, name).await?;
    let topic = described
        .with_context(|| format!("the topic {name} doesn't exist; to create it, run: messages topic --make"))?;
    print_settings(name, &topic);
    let log = LogConsumer::new(&config.kafka_brokers, name, "topic");
    let (first, next, held) = tokio::try_join!(log.beginning_offsets(), log.end_offsets(), log.held_partitions())?;
    println!("\n{:>9}  {:>12}  {:>12}", "partition", "first offset", "next offset");
    for (partition, (first, next)) in first.0.iter().zip(&next.0).enumerate() {
        println!("{partition:>9}  {first:>12}  {next:>12}");
    }
    if let Some(lost) = LostRecords::between(&PositionVector::default(), &first) {
        println!("✗ the topic no longer has its first records: {lost}");
    }
    for (partition, from) in held {
        println!("✗ partition {partition}: {}", projector::held_reason(from));
    }
    ensure!(
        topic.wrong_settings().next().is_none(),
        "no process starts with these settings; correct those marked with ✗: kafka-configs --alter"
    );
    Ok(())
}

fn print_settings(name: &str, topic: &TopicDescription) {
    println!("{name}: {} partitions, id {}", topic.partitions, topic.id);
    println!(
        "{} replicas on {} brokers; {} are in sync, {} must be",
        topic.replicas, topic.brokers, topic.in_sync, topic.min_in_sync
    );
    println!("{}", durability(topic));
    for setting in &topic.settings {
        let expected = if setting.is_right { String::new() } else { format!("  ✗ must be {}", setting.wanted) };
        println!("  {:<24} {}{expected}", setting.name, escaped(&setting.found));
    }
}

/// On how many brokers an acknowledged event is stored, as a sentence without its full stop.
pub(crate) fn durability(topic: &TopicDescription) -> String {
    match topic.copies() {
        1 => "an acknowledged event is on 1 broker only, and lost with that broker's disk".to_owned(),
        copies => format!("an acknowledged event is on {copies} brokers"),
    }
}
