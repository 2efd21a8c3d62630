//! `messages topic`: the system of record, as it is set up.

use anyhow::{Context, ensure};
use clap::Args;
use event_log::{LogConsumer, TopicDescription, describe_topic};
use service::config::Config;
use service::telemetry;

use crate::process;

#[derive(Args)]
pub(crate) struct Topic {
    /// Make it where it is missing: KAFKA_PARTITIONS partitions, and settings that never forget.
    #[arg(long)]
    make: bool,
    #[command(flatten)]
    config: Config,
}

impl Topic {
    /// Shows the topic.
    ///
    /// # Errors
    /// When it isn't there, is set up otherwise than it must be, or Kafka doesn't answer.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let config = &self.config;
        if self.make {
            telemetry::start(&config.log, config.log_format);
            process::topic(config).await?;
        }
        let name = &config.kafka_topic;
        let described = describe_topic(&config.kafka_brokers, name).await?;
        let topic = described.with_context(|| format!("there is no topic {name}; make it: messages topic --make"))?;
        show(name, &topic);
        let log = LogConsumer::new(&config.kafka_brokers, name, "topic")?;
        let (first, next) = tokio::try_join!(log.beginning_offsets(), log.end_offsets())?;
        println!("\n{:>9}  {:>12}  {:>12}", "partition", "first offset", "next offset");
        for (partition, (first, next)) in first.0.iter().zip(&next.0).enumerate() {
            println!("{partition:>9}  {first:>12}  {next:>12}");
        }
        ensure!(topic.wrong().next().is_none(), "no process starts with it: set it with kafka-configs --alter");
        Ok(())
    }
}

fn show(name: &str, topic: &TopicDescription) {
    println!("{name}: {} partitions, id {}", topic.partitions, topic.id);
    println!(
        "{} replicas on {} brokers, {} in sync, of which {} have to be: what is acknowledged is on {}",
        topic.replicas,
        topic.brokers,
        topic.in_sync,
        topic.min_in_sync,
        copies(topic)
    );
    for setting in &topic.settings {
        let wanted =
            if setting.found == setting.wanted { String::new() } else { format!("  ✗ has to be {}", setting.wanted) };
        println!("  {:<24} {}{wanted}", setting.name, setting.found);
    }
}

/// On how many brokers what is acknowledged is.
pub(crate) fn copies(topic: &TopicDescription) -> String {
    match topic.copies() {
        1 => "1 broker's disk only, and lost with it".to_owned(),
        copies => format!("{copies} brokers"),
    }
}
