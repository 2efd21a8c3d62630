//! How fast a projector folds a full topic, next to inserts of the same rows.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::pair::SLICES;
use crate::context::Context;
use crate::floors::kafka;
use crate::load::http::{self, HttpConnection};
use crate::observer::Observer;
use crate::options::{Options, Phase};
use crate::progress::Progress;
use crate::report::figures::{Case, System};
use crate::server::{self, INSERT, Program, Server};
use crate::totals::Totals;
use crate::workload::{Events, Population};

const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How long the projector may make no progress.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// What the slices of one method measured.
#[derive(Default)]
struct Measurement {
    events: f64,
    seconds: f64,
    totals: Totals,
}

impl Measurement {
    fn system(&self, name: &str) -> System {
        System::new(name).figure("events", "/s", Some(self.events / self.seconds).filter(|_| self.seconds > 0.0)).costs(
            &self.totals,
            "an event",
            self.events,
        )
    }
}

/// Measures the projector, `UNNEST` and `COPY` in turns.
///
/// # Errors
/// When a process or a service ends.
pub(crate) async fn measure(context: &Context, options: &Options) -> anyhow::Result<Vec<Case>> {
    let population = Population { conversations: options.conversations, members: 2, connected: 0 };
    let [mut folded, mut inserted, mut copied] = [(); 3].map(|()| Measurement::default());
    let name = context.create_topic("insert").await?;
    server::migrate(&context.services, &name).await?;
    let floor = Server::start(Program::Floor(INSERT), &context.services, &name).await?;
    for slice in 0..SLICES {
        let topic = context.create_topic(&format!("projector_{slice}")).await?;
        fill(context, &topic, population, options.events).await?;
        fold(context, &topic, population, options.events, &mut folded).await?;
        for (path, measured) in [("/insert", &mut inserted), ("/copy", &mut copied)] {
            write(context, &floor, path, population, options.events, measured).await?;
        }
    }
    floor.kill().await?;
    let systems = vec![folded.system("Messages"), inserted.system("UNNEST"), copied.system("COPY")];
    Ok(vec![Case { phase: Phase::Projector, name: format!("{} events", options.events), systems }])
}

/// Appends the conversations and messages of a population to a topic.
async fn fill(context: &Context, topic: &str, population: Population, count: u32) -> anyhow::Result<()> {
    let generator = Events::new(population);
    let mut events = generator.conversations_created()?;
    for number in 0..u64::from(count) {
        events.push(generator.message_sent(number)?);
    }
    tracing::info!(events = events.len(), "filling a topic");
    let (brokers, topic) = (context.services.kafka_brokers.clone(), topic.to_owned());
    let failures = context.failures.clone();
    tokio::task::spawn_blocking(move || kafka::fill(&brokers, &topic, &events, &failures)).await?
}

/// Starts a projector with an empty schema, and measures from its first observed commit to its last.
async fn fold(
    context: &Context,
    name: &str,
    population: Population,
    count: u32,
    measured: &mut Measurement,
) -> anyhow::Result<()> {
    let total = i64::from(population.conversations) + i64::from(count);
    let mut postgres = PgConnection::connect(&context.services.database_url).await.context("DATABASE_URL")?;
    let mut projector = Server::spawn(Program::Messages("projector"), &context.services, name)?;
    let observer = Observer::new(&context.services, &projector);
    let progress = Progress::new("projector", u64::try_from(total)?)?;
    let sum_offsets = format!("SELECT coalesce(sum(next_offset), 0)::bigint FROM \"{name}\".partitions");
    let (mut first, mut last) = (None, (Instant::now(), 0));
    while last.1 < total {
        tokio::time::sleep(POLL_INTERVAL).await;
        projector.ensure_running()?;
        // The query fails until the projector has created the table.
        let result = sqlx::query_scalar(AssertSqlSafe(sum_offsets.as_str())).fetch_one(&mut postgres).await;
        let folded: i64 = result.unwrap_or(0);
        if folded > last.1 {
            last = (Instant::now(), folded);
            if first.is_none() {
                first = Some((last, observer.counters().await, observer.cpu_times().await?));
            }
            progress.update(u64::try_from(folded)?);
        }
        anyhow::ensure!(last.0.elapsed() < STALL_TIMEOUT, "the projector stalls at {folded} of {total} events");
    }
    let (first, counters, cpu) = first.context("the topic is empty")?;
    let mut totals = observer.cpu_times().await?.since(&cpu);
    totals.extend(observer.counters().await.since(&counters));
    measured.events += (total - first.1) as f64;
    measured.seconds += last.0.duration_since(first.0).as_secs_f64();
    measured.totals.add(&totals);
    projector.kill().await?;
    let count_messages = format!("SELECT count(*) FROM \"{name}\".messages");
    let messages: i64 = sqlx::query_scalar(AssertSqlSafe(count_messages)).fetch_one(&mut postgres).await?;
    let missing = u64::from(count).saturating_sub(u64::try_from(messages)?);
    context.failures.add("messages that were not folded", missing);
    Ok(postgres.close().await?)
}

/// Makes the rows of as many messages, then measures their writing.
async fn write(
    context: &Context,
    floor: &Server,
    path: &str,
    population: Population,
    count: u32,
    measured: &mut Measurement,
) -> anyhow::Result<()> {
    let Population { conversations, members, .. } = population;
    let prepare = format!("/prepare?rows={count}&conversations={conversations}&members={members}");
    let mut connection = HttpConnection::open(&floor.address.to_string()).await?;
    let response = connection.send(&http::post(&prepare, "", "")).await?;
    anyhow::ensure!(response.status == 200, "{prepare}: {}", String::from_utf8_lossy(connection.body(response)));
    let observer = Observer::new(&context.services, floor);
    let (started, cpu) = (Instant::now(), observer.cpu_times().await?);
    let response = connection.send(&http::post(path, "", "")).await?;
    anyhow::ensure!(response.status == 200, "{path}: {}", String::from_utf8_lossy(connection.body(response)));
    measured.events += f64::from(count);
    measured.seconds += started.elapsed().as_secs_f64();
    measured.totals.add(&observer.cpu_times().await?.since(&cpu));
    Ok(())
}
