//! The worker: leases partitions, and folds the log into the read model batch by batch.
//!
//! # The timeline of a batch
//!
//! | When | What happens |
//! |---|---|
//! | lease | Once a second, [`Session::renew_leases`] renews the leases, and takes or gives up partitions. It also publishes the progress again, and retries dead letters. |
//! | read | The worker waits for a record, and takes all that have come. |
//! | decode | [`Batch::new`] skips records that are folded already, and parks those that can't be decoded. |
//! | load | `ReadModel::load` reads the part of the state that the events can touch. |
//! | fold | `domain::fold` changes the state in memory. |
//! | commit | `ReadModel::commit` writes the rows and moves the offsets, in one transaction, if the offsets are still the expected ones. |
//! | publish | [`invalidate::publish_progress`] invalidates cached views, and publishes the new offsets to readers. |
//! | idle | After a batch that isn't full, the worker pauses. What comes in the meantime makes up the next batch. |
//!
//! An example: the worker owns partition 3, whose next offset is 42. It takes the records at offsets 42 to 44, folds
//! them, and commits the rows with the offset 45. Then it publishes 45, which wakes the readers that wait for `3:44`.
//!
//! *The worker dies before the commit.* Nothing of the batch is written. The next owner of the partition reads from
//! offset 42 again.
//!
//! *The worker dies after the commit, or Redis fails.* Redis still knows 42 and serves no view as fresher. The next
//! renewal of the leases, by this worker or by the next owner, finds that Redis is behind, and invalidates what changed
//! since 42.
//!
//! *Two workers believe that they own partition 3.* The second commit finds another offset than 42 and is fenced off.
//! Its session ends and starts again from the offsets in Postgres.
//!
//! The worker must never keep an offset that Postgres doesn't have, and must never publish before the commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::OffsetAdvance;
use domain::state::Changes;
use event_log::{LogConsumer, LogError, LogRecord, StartAt};
use read_model::Projection;
use service::trace;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::batch::Batch;
use crate::dead_letters::{DeadLetterRetrier, PartitionState};
use crate::projector::Projector;
use crate::{invalidate, lag};

/// The largest number of records in a batch.
const BATCH_RECORDS: usize = 2_000;
/// The largest number of bytes of values in a batch.
const BATCH_BYTES: usize = 8 << 20;
/// In a steady stream of records, the worker idles after a batch for this many times as long as the batch took. Most of
/// the cost of a batch doesn't grow with its size, and on a busy machine commands and sockets come first.
const IDLE_FACTOR: u32 = 5;
/// The longest time that the worker idles: a reader that waits for a position waits for it, too.
const MAX_IDLE: Duration = Duration::from_millis(250);
/// How much idle time the worker can save up while no records come. It spends the credit before it idles again, so it
/// projects the messages of two users who chat as they come.
const IDLE_CREDIT: Duration = Duration::from_secs(1);
/// The pause between two renewals of the leases.
const RENEW_INTERVAL: Duration = Duration::from_millis(1_000);
/// How long a lease lasts. After that, another projector takes over the partitions of one that has died.
const LEASE_TTL: Duration = Duration::from_secs(4);
/// The backoff before any failure. Each failure doubles it, and the worker then pauses for as long.
const INITIAL_BACKOFF: Duration = Duration::from_millis(50);
/// The longest pause after a failure. A session that lasted longer than this resets the backoff.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// Projects until `shutdown`. After a failure it starts again, with a growing pause, from what is committed.
pub async fn run(projector: Projector, shutdown: CancellationToken) {
    let (owned_sender, owned) = watch::channel(BTreeMap::new());
    let log = LogConsumer::new(&projector.brokers, &projector.topic.name, "lag");
    tokio::spawn(lag::measure(log, owned));
    let mut backoff = INITIAL_BACKOFF;
    while !shutdown.is_cancelled() {
        let started = Instant::now();
        match Session::open(&projector, &owned_sender).await {
            Ok(mut session) => match session.work(&shutdown).await {
                Ok(()) => break,
                Err(error) => tracing::warn!(
                    error = format!("{error:#}"),
                    "projecting failed; starting again from the committed offsets"
                ),
            },
            Err(error) => tracing::warn!(error = format!("{error:#}"), "starting to project failed; retrying"),
        }
        backoff = if started.elapsed() > MAX_BACKOFF { INITIAL_BACKOFF } else { backoff * 2 };
        tokio::select! {
            () = tokio::time::sleep(backoff.min(MAX_BACKOFF)) => {}
            () = shutdown.cancelled() => {}
        }
    }
    if let Err(error) = projector.read_model.release_leases(&projector.owner).await {
        tracing::info!(%error, "releasing the leases failed; they expire by themselves");
    }
}

/// The work from opening the projection to the first failure.
struct Session<'a> {
    projector: &'a Projector,
    consumer: Arc<LogConsumer>,
    projection: Projection,
    /// The partitions that the projector owns, with their next offsets.
    owned: BTreeMap<i32, i64>,
    /// The same for measuring the lag. Outlives the session: its partitions still lag behind after a failure.
    owned_sender: &'a watch::Sender<BTreeMap<i32, i64>>,
    retrier: DeadLetterRetrier,
    /// Whether the last publication reached Redis.
    redis_up_to_date: bool,
}

impl<'a> Session<'a> {
    async fn open(
        projector: &'a Projector,
        owned_sender: &'a watch::Sender<BTreeMap<i32, i64>>,
    ) -> anyhow::Result<Self> {
        let topic = &projector.topic;
        let projection = projector.read_model.open_projection(topic.id, topic.partitions).await?;
        if let Err(error) = projector.cache.publish_generation(projection.generation).await {
            tracing::info!(%error, "publishing the generation in Redis failed; projecting without Redis");
        }
        projector.cache.enter_generation(projection.generation);
        let consumer = Arc::new(LogConsumer::in_batches(&projector.brokers, &topic.name, "projector"));
        // Before the projector owns partitions: from then on, readers wait for their events.
        consumer.warm_up().await?;
        Ok(Self {
            projector,
            consumer,
            projection,
            owned: BTreeMap::new(),
            owned_sender,
            retrier: DeadLetterRetrier::default(),
            redis_up_to_date: true,
        })
    }

    async fn work(&mut self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let mut renewal = tokio::time::interval(RENEW_INTERVAL);
        renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // In the past, by the credit that is left.
        let mut idle_until = Instant::now() - IDLE_CREDIT;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                _ = renewal.tick() => self.renew_leases().await?,
                // Also without a partition: the consumer has to be polled all the time.
                records = next_records(&self.consumer, idle_until) => {
                    let (records, began) = (records?, Instant::now());
                    let spans: Vec<_> = records.iter().filter_map(fold_span).collect();
                    self.project(Batch::new(&records, &self.owned, self.projector.topic.partitions)).await?;
                    drop(spans);
                    // After a full batch more records are waiting; the worker catches up without idling.
                    if records.len() < BATCH_RECORDS {
                        let took = began.elapsed();
                        idle_until = idle_until.max(began - IDLE_CREDIT) + took + (took * IDLE_FACTOR).min(MAX_IDLE);
                    }
                }
            }
        }
    }

    /// Renews the leases, and takes or gives up partitions until each projector owns a fair share. Publishes the
    /// progress again, and retries dead letters.
    async fn renew_leases(&mut self) -> anyhow::Result<()> {
        let projector = self.projector;
        let leased = projector.read_model.renew_leases(&projector.owner, LEASE_TTL).await?;
        let partitions: BTreeMap<i32, i64> = leased.into_iter().collect();
        if partitions == self.owned {
            self.skip_gaps().await?;
        } else if partitions.keys().eq(self.owned.keys()) {
            anyhow::bail!("the offsets have moved: another projector is at work on these partitions, or a rebuild");
        } else {
            tracing::info!(partitions = ?partitions.keys().collect::<Vec<_>>(), "now projecting these partitions");
            let starts: Vec<(i32, StartAt)> =
                partitions.iter().map(|(partition, next)| (*partition, StartAt::Offset(*next))).collect();
            self.consumer.assign(&starts)?;
            self.owned = partitions;
            self.owned_sender.send_replace(self.owned.clone());
        }
        // Also when nothing has changed: a projector may have died between its commit and its publication, and Redis
        // may have been down, or lost everything.
        let unmoved =
            self.owned.iter().map(|(partition, next)| OffsetAdvance { partition: *partition, from: *next, to: *next });
        self.publish_progress(&Changes::default(), &unmoved.collect::<Vec<_>>()).await;
        let state = PartitionState { projection: self.projection, owned: &self.owned };
        self.retrier.run_step(projector, &self.consumer, state).await
    }

    /// Commits that the partitions have passed offsets without a record: offsets are ordered, not gapless, and the end
    /// of a transaction takes one, too. Otherwise a reader that waits for the end of the log would wait in vain.
    async fn skip_gaps(&mut self) -> anyhow::Result<()> {
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

    /// Loads what a batch can touch, folds it, commits it with its offsets, and publishes the progress.
    async fn project(&mut self, batch: Batch) -> anyhow::Result<()> {
        if batch.advances.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let projector = self.projector;
        let replacement = projector.topic_watch.replacement();
        anyhow::ensure!(
            replacement.is_none(),
            "somebody deleted and recreated the topic; the events of the new one are not folded"
        );
        let mut state = projector.read_model.load(&batch.touched()).await?;
        let changes = batch.fold(&mut state);
        projector.read_model.commit(&state, &changes, &batch.parked, &batch.advances, self.projection).await?;
        for advance in &batch.advances {
            self.owned.insert(advance.partition, advance.to);
        }
        self.owned_sender.send_replace(self.owned.clone());
        metrics::counter!("projector_events_total").increment(batch.events.len() as u64);
        metrics::histogram!("projector_batch_seconds").record(started.elapsed());
        self.publish_progress(&changes, &batch.advances).await;
        Ok(())
    }

    /// Invalidates cached views and publishes the progress. A failure doesn't end the session: the next renewal of the
    /// leases tries again.
    async fn publish_progress(&mut self, changes: &Changes, advances: &[OffsetAdvance]) {
        let generation = self.projection.generation;
        let published = invalidate::publish_progress(self.projector, generation, changes, advances).await;
        if let Err(error) = &published {
            metrics::counter!("projector_announce_failures_total").increment(1);
            // Logs only the first failure of an outage of Redis.
            if self.redis_up_to_date {
                let partitions: Vec<i32> = self.owned.keys().copied().collect();
                tracing::warn!(
                    error = format!("{error:#}"),
                    ?partitions,
                    "cache invalidation failed; retrying every second"
                );
            }
        } else if !self.redis_up_to_date {
            tracing::info!("cache invalidation works again");
        }
        self.redis_up_to_date = published.is_ok();
    }
}

/// The span of folding a record, in the trace that its producer began.
fn fold_span(record: &LogRecord) -> Option<trace::Span> {
    trace::record_span("fold", record.event_type.as_deref(), record.traceparent.as_deref())
}

/// Waits until `idle_until`, and then for a record. Takes all records that have come by then.
async fn next_records(consumer: &LogConsumer, idle_until: Instant) -> Result<Vec<LogRecord>, LogError> {
    tokio::time::sleep_until(idle_until).await;
    consumer.next_batch(BATCH_RECORDS, BATCH_BYTES).await
}
