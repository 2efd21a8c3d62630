//! Users send at several rates, and two sockets of each conversation receive.

use super::pair::{Pair, PairSlice, SLICES};
use crate::context::Context;
use crate::floors::kafka::{self, KafkaLatencies};
use crate::options::{Options, Phase};
use crate::report::figures::{Case, System};
use crate::schedule::Schedule;
use crate::workload::Population;

/// How much shorter Kafka alone is measured.
const KAFKA_SHARE: f64 = 0.5;

/// Measures each rate.
///
/// # Errors
/// When a process or a service ends.
pub(crate) async fn measure(context: &Context, options: &Options) -> anyhow::Result<Vec<Case>> {
    let population = Population { conversations: options.conversations, members: 2, connected: 2 };
    let mut pair = Pair::start(context, "send", population).await?;
    let mut kafka = KafkaAlone { context, topic: context.create_topic("kafka").await?, population, next_number: 0 };
    let seconds = f64::from(options.seconds) / f64::from(SLICES);
    let mut cases = Vec::new();
    for rate in &options.rates {
        let (mut measured, mut alone) = (PairSlice::default(), KafkaLatencies::default());
        for _ in 0..SLICES {
            measured.add(&pair.measure_slice(*rate, seconds).await?);
            alone.add(&kafka.measure_slice(*rate, seconds * KAFKA_SHARE).await?);
        }
        let mut systems = measured.systems();
        systems.push(
            System::new("Kafka alone")
                .latencies("answered", &alone.acknowledged)
                .latencies("delivered", &alone.consumed),
        );
        cases.push(Case { phase: Phase::Send, name: format!("{rate}/s"), systems });
    }
    pair.stop().await?;
    Ok(cases)
}

/// A topic that librdkafka produces to and consumes from, without anything else.
struct KafkaAlone<'a> {
    context: &'a Context,
    topic: String,
    population: Population,
    next_number: u64,
}

impl KafkaAlone<'_> {
    async fn measure_slice(&mut self, rate: u32, seconds: f64) -> anyhow::Result<KafkaLatencies> {
        let schedule = Schedule::new(rate, seconds, self.next_number);
        self.next_number = schedule.numbers().end;
        let Context { services, failures, .. } = self.context;
        kafka::measure(&services.kafka_brokers, &self.topic, self.population, schedule, failures).await
    }
}
