//! The worker: leases, batches, commits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cache::Cache;
use domain::OffsetAdvance;
use domain::state::Changes;
use event_log::{LogConsumer, LogError, LogRecord, StartAt, Topic, TopicWatch};
use read_model::{CommitError, Projection, ReadModel};
use service::trace;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::batch::Batch;
use crate::dead_letters::{At, Retries};
use crate::{invalidate, lag};

/// Most records in a batch.
const BATCH_RECORDS: usize = 2_000;
/// Most bytes of values in a batch.
const BATCH_BYTES: usize = 8 << 20;
/// In a steady stream the projector rests after a batch for so many times as long as the batch took: most of what a
/// batch costs doesn't grow with it, and on a busy machine commands and sockets go first.
const REST: u32 = 5;
/// The longest rest: whoever waits for a position waits for this, too.
const LONGEST_REST: Duration = Duration::from_millis(250);
/// Rest that is had in advance, while nothing comes: what two people say is projected as it comes.
const SAVED: Duration = Duration::from_secs(1);
/// How often leases are renewed, and idle partitions looked after.
const LEASE_EVERY: Duration = Duration::from_millis(1_000);
/// How long a lease lasts: a partition whose projector dies is taken over after this.
const LEASE_TTL: Duration = Duration::from_secs(4);
/// The longest pause after a failure.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// What a projector works with.
#[derive(Clone)]
pub struct Projector {
    /// Kafka's addresses.
    pub brokers: String,
    /// The topic, as it was found at the start.
    pub topic: Topic,
    /// Whether it is still that one.
    pub topic_watch: TopicWatch,
    /// Where the projection is kept.
    pub read_model: ReadModel,
    /// The caches that are told.
    pub cache: Cache,
    /// Who this is, among the projectors: unique to the process.
    pub owner: String,
}

/// Projects until the shutdown. Failures are retried with a growing pause: what was not committed is read
/// again.
pub async fn run(projector: Projector, shutdown: CancellationToken) {
    let (owned, told) = watch::channel(BTreeMap::new());
    match LogConsumer::new(&projector.brokers, &projector.topic.name, "lag") {
        Ok(log) => drop(tokio::spawn(lag::watch(log, told))),
        Err(error) => tracing::warn!(%error, "how far the projector is behind won't be known"),
    }
    let mut backoff = Duration::from_millis(50);
    while !shutdown.is_cancelled() {
        let started = Instant::now();
        match Session::open(&projector, &owned).await {
            Ok(mut session) => match session.work(&shutdown).await {
                Ok(()) => break,
                Err(error) => tracing::warn!(error = format!("{error:#}"), "projecting stopped and starts again"),
            },
            Err(error) => tracing::warn!(error = format!("{error:#}"), "projecting can't start; trying again"),
        }
        backoff = if started.elapsed() > MAX_BACKOFF { Duration::from_millis(50) } else { backoff * 2 };
        tokio::select! {
            () = tokio::time::sleep(backoff.min(MAX_BACKOFF)) => {}
            () = shutdown.cancelled() => {}
        }
    }
    if let Err(error) = projector.read_model.release_leases(&projector.owner).await {
        tracing::info!(%error, "the leases were not given back and run out by themselves");
    }
}

/// One stretch of work: from opening the projection to the first failure.
struct Session<'a> {
    projector: &'a Projector,
    consumer: Arc<LogConsumer>,
    generation: i64,
    /// The partitions that are leased, with their next offsets.
    owned: BTreeMap<i32, i64>,
    /// The same, for whoever measures. It stays when the session ends: what was owned waits to be projected.
    told: &'a watch::Sender<BTreeMap<i32, i64>>,
    /// What is done about dead letters.
    retries: Retries,
    /// Whether Redis was told the last time.
    told_redis: bool,
}

impl<'a> Session<'a> {
    async fn open(projector: &'a Projector, told: &'a watch::Sender<BTreeMap<i32, i64>>) -> anyhow::Result<Self> {
        let topic = &projector.topic;
        let projection = projector.read_model.open_projection(topic.id, topic.partitions).await?;
        if let Err(error) = projector.cache.publish_generation(projection.generation).await {
            tracing::info!(%error, "Redis is out of reach: projecting without it");
        }
        projector.cache.enter_generation(projection.generation);
        let consumer = Arc::new(LogConsumer::in_batches(&projector.brokers, &topic.name, "projector")?);
        // Before it has partitions: from then on somebody waits for what is on them.
        consumer.warm_up().await?;
        Ok(Self {
            projector,
            consumer,
            generation: projection.generation,
            owned: BTreeMap::new(),
            told,
            retries: Retries::default(),
            told_redis: true,
        })
    }

    async fn work(&mut self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let mut lease = tokio::time::interval(LEASE_EVERY);
        lease.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut next = Instant::now() - SAVED;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                _ = lease.tick() => self.renew().await?,
                records = next_batch(&self.consumer, next), if !self.owned.is_empty() => {
                    let (records, began) = (records?, Instant::now());
                    let spans: Vec<_> = records.iter().filter_map(span).collect();
                    self.project(Batch::new(&records, &self.owned, self.projector.topic.partitions)).await?;
                    drop(spans);
                    // After a full one more is waiting: catching up isn't held up.
                    if records.len() < BATCH_RECORDS {
                        let took = began.elapsed();
                        next = next.max(began - SAVED) + took + (took * REST).min(LONGEST_REST);
                    }
                }
            }
        }
    }

    /// Renews the leases, and takes or gives up partitions so that all projectors have a fair share.
    async fn renew(&mut self) -> anyhow::Result<()> {
        let projector = self.projector;
        let leased = projector.read_model.renew_leases(&projector.owner, LEASE_TTL).await?;
        let partitions: BTreeMap<i32, i64> = leased.into_iter().collect();
        if partitions == self.owned {
            self.step_over_gaps().await?;
        } else if partitions.keys().eq(self.owned.keys()) {
            anyhow::bail!("the read model is not where this left it: another projector is at work, or a rebuild");
        } else {
            tracing::info!(partitions = ?partitions.keys().collect::<Vec<_>>(), "projecting these partitions");
            let starts: Vec<(i32, StartAt)> =
                partitions.iter().map(|(partition, next)| (*partition, StartAt::Offset(*next))).collect();
            self.consumer.assign(&starts)?;
            self.owned = partitions;
            self.told.send_replace(self.owned.clone());
        }
        // Each time, though nothing may have happened: a projector may have died between its commit and its
        // announcement, and Redis may have been out of reach, or lost everything.
        let here =
            self.owned.iter().map(|(partition, next)| OffsetAdvance { partition: *partition, from: *next, to: *next });
        self.publish_progress(&Changes::default(), &here.collect::<Vec<_>>()).await;
        self.dead_letters().await
    }

    /// Goes on with the dead letters of the partitions that are owned.
    async fn dead_letters(&mut self) -> anyhow::Result<()> {
        let (projector, at) = (self.projector, At { generation: self.generation, owned: &self.owned });
        self.retries.step(projector, &self.consumer, at).await
    }

    /// Offsets are ordered, not gapless: the end of a transaction takes one too. Moves over those that hold
    /// no record, so that whoever waits for the end of the log is not kept waiting.
    async fn step_over_gaps(&mut self) -> anyhow::Result<()> {
        let positions = self.consumer.positions()?;
        let gaps = positions.into_iter().filter_map(|(partition, to)| {
            let from = *self.owned.get(&partition)?;
            (from < to).then_some(OffsetAdvance { partition, from, to })
        });
        let advances: Vec<OffsetAdvance> = gaps.collect();
        if advances.is_empty() {
            return Ok(());
        }
        self.project(Batch { advances, ..Batch::default() }).await
    }

    /// Loads what a batch touches, folds it, commits it with its offsets, then tells the caches.
    async fn project(&mut self, batch: Batch) -> anyhow::Result<()> {
        if batch.advances.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let projector = self.projector;
        let other = projector.topic_watch.other();
        anyhow::ensure!(other.is_none(), "the topic was deleted and made again: nothing of the new one is folded");
        let mut state = projector.read_model.load(&batch.touched()).await?;
        let changes = batch.fold(&mut state);
        let whose = Projection { topic_id: projector.topic.id, generation: self.generation };
        fenced(projector.read_model.commit(&state, &changes, &batch.parked, &batch.advances, whose).await)?;
        for step in &batch.advances {
            self.owned.insert(step.partition, step.to);
        }
        self.told.send_replace(self.owned.clone());
        metrics::counter!("projector_events_total").increment(batch.events.len() as u64);
        metrics::histogram!("projector_batch_seconds").record(started.elapsed());
        self.publish_progress(&changes, &batch.advances).await;
        Ok(())
    }

    async fn publish_progress(&mut self, changes: &Changes, advances: &[OffsetAdvance]) {
        let projector = self.projector;
        let (cache, read_model) = (&projector.cache, &projector.read_model);
        let told = invalidate::announce(cache, read_model, self.generation, changes, advances).await;
        if let Err(error) = &told {
            metrics::counter!("projector_announce_failures_total").increment(1);
            // Said once: it goes on for as long as Redis is away.
            if self.told_redis {
                tracing::warn!(error = format!("{error:#}"), "Redis can't be told what is new; tried every second");
            }
        } else if !self.told_redis {
            tracing::info!("Redis is told again what is new");
        }
        self.told_redis = told.is_ok();
    }
}

fn span(record: &LogRecord) -> Option<trace::Span> {
    trace::of_record("fold", record.event_type.as_deref(), record.traceparent.as_deref())
}

/// What has come by a moment, or comes first after it.
async fn next_batch(consumer: &LogConsumer, at: Instant) -> Result<Vec<LogRecord>, LogError> {
    tokio::time::sleep_until(at).await;
    consumer.next_batch(BATCH_RECORDS, BATCH_BYTES).await
}

/// Tells of a commit that was not done.
pub(crate) fn fenced(committed: Result<(), CommitError>) -> anyhow::Result<()> {
    match committed {
        Ok(()) => Ok(()),
        Err(CommitError::Fenced) => anyhow::bail!("another projector is at work on these partitions, or a rebuild"),
        Err(CommitError::ReadModel(error)) => Err(error.into()),
    }
}
