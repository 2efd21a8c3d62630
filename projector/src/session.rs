//! A session: the work from opening the projection to the first failure that concerns all partitions. It owns
//! partitions, and runs what is to be done for them side by side: one batch of the healthy partitions, batches of those
//! that are set apart, leases, dead letters, and what Redis must learn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use domain::OffsetAdvance;
use event_log::{LogConsumer, LogRecord, PartitionReader, ReadError, TopicChange};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use read_model::{CommitError, LeasedPartition, Projection, ReadModelError};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::as_of::PendingAsOfs;
use crate::complete_log::ensure_complete_for_empty;
use crate::dead_letters::{DeadLetterRetrier, PartitionState, log_parked};
use crate::execute::{RunError, execute, fold_span, republish};
use crate::folding::{Backlog, Batch, BatchRun, PendingRecord, Setback};
use crate::idle::{Idle, far_away};
use crate::lag::LogEnd;
use crate::projector::Projector;

/// How many records the worker takes at a time, before it looks at what else is to be done.
const RECORDS_PER_TURN: usize = 2_000;
/// The pause between two renewals of the leases.
const RENEW_INTERVAL: Duration = Duration::from_millis(1_000);
/// How long a lease lasts. After that, another projector takes over the partitions of one that has died.
const LEASE_TTL: Duration = Duration::from_secs(4);

/// What has come to its end.
enum Finished {
    Batch { run: Box<BatchRun>, batch: Batch, outcome: Result<(), RunError>, took: Duration },
    Leases(Result<Vec<LeasedPartition>, ReadModelError>),
    Retry { retrier: DeadLetterRetrier, outcome: anyhow::Result<()>, reserved: Option<i32> },
    Publication(Result<(), RunError>),
}

/// The work from opening the projection to the first failure.
pub(crate) struct Session<'a> {
    projector: &'a Projector,
    reader: PartitionReader,
    /// Looks records up.
    log: Arc<LogConsumer>,
    projection: Projection,
    backlog: Backlog,
    running: FuturesUnordered<BoxFuture<'a, Finished>>,
    /// The partitions of which a batch has ended since the last look at the leases began.
    moved: BTreeSet<i32>,
    /// The partitions of which nothing more comes until they are assigned again.
    unread: BTreeSet<i32>,
    as_ofs: PendingAsOfs,
    /// The partitions with their next offsets. Outlives the session: its partitions still lag behind after a failure.
    owned: &'a watch::Sender<BTreeMap<i32, i64>>,
    /// None while a retry runs.
    retrier: Option<DeadLetterRetrier>,
    is_renewing: bool,
    /// Whether the last publication reached Redis.
    redis_up_to_date: bool,
    idle: Idle,
}

impl<'a> Session<'a> {
    pub(crate) async fn open(
        projector: &'a Projector,
        log: Arc<LogConsumer>,
        owned: &'a watch::Sender<BTreeMap<i32, i64>>,
        reader: Option<PartitionReader>,
    ) -> anyhow::Result<Self> {
        let topic = &projector.topic;
        ensure_complete_for_empty(projector, &log).await?;
        let projection = projector.read_model.open_projection(topic.id, topic.partitions).await?;
        if let Err(error) = projector.cache.publish_generation(projection.generation).await {
            tracing::info!(%error, "publishing the generation in Redis failed; projecting without Redis");
        }
        projector.cache.enter_generation(projection.generation);
        // A reader must be warm before the projector owns partitions: from then on, readers wait for their events.
        let reader = match reader {
            Some(reader) => reader,
            None => PartitionReader::warm(&projector.brokers, &topic.name, "projector").await?,
        };
        Ok(Self {
            projector,
            reader,
            log,
            projection,
            backlog: Backlog::default(),
            running: FuturesUnordered::new(),
            moved: BTreeSet::new(),
            unread: BTreeSet::new(),
            as_ofs: PendingAsOfs::default(),
            owned,
            retrier: Some(DeadLetterRetrier::default()),
            is_renewing: false,
            redis_up_to_date: true,
            idle: Idle::new(),
        })
    }

    /// The generation that it folded into, and what another session can go on with.
    pub(crate) fn into_parts(self) -> (i64, PartitionReader) {
        (self.projection.generation, self.reader)
    }

    /// Works until the shutdown, or until something fails that concerns all partitions.
    pub(crate) async fn work(
        &mut self,
        shutdown: &CancellationToken,
        mut log_end: watch::Receiver<LogEnd>,
    ) -> anyhow::Result<()> {
        let mut renewal = tokio::time::interval(RENEW_INTERVAL);
        renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.start_batches()?;
            let retry_at = self.backlog.next_retry().map_or_else(far_away, Instant::from_std);
            let (backlog, unread) = (&self.backlog, &self.unread);
            let wants = |partition| backlog.has_room(partition) && !unread.contains(&partition);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(finished) = self.running.next() => self.finish(finished)?,
                _ = renewal.tick(), if !self.is_renewing => self.renew_leases(),
                Ok(()) = log_end.changed() => {
                    self.as_ofs.observe(&self.backlog.next_offsets(), &log_end.borrow_and_update());
                    self.publish_as_ofs();
                }
                // Also without a partition: the consumer has to be polled all the time.
                record = next_record(&self.reader, self.idle.next_read(), wants) => self.take_records(record)?,
                () = tokio::time::sleep_until(retry_at) => {}
            }
        }
        // A batch that has begun is worth its end.
        while let Some(finished) = self.running.next().await {
            self.finish(finished)?;
        }
        Ok(())
    }

    /// Takes a record, and those that have come with it.
    fn take_records(&mut self, first: Result<LogRecord, ReadError>) -> anyhow::Result<()> {
        let partitions = self.projector.topic.partitions;
        match first {
            Ok(record) => self.backlog.push(PendingRecord::new(record, partitions)),
            Err(error) => self.stop_reading(error)?,
        }
        let mut taken = 0;
        for partition in self.backlog.next_offsets().into_keys() {
            while taken < RECORDS_PER_TURN && self.backlog.has_room(partition) {
                match self.reader.take(partition) {
                    Ok(Some(record)) => self.backlog.push(PendingRecord::new(record, partitions)),
                    Ok(None) => break,
                    Err(error) => self.stop_reading(error)?,
                }
                taken += 1;
            }
        }
        if taken < RECORDS_PER_TURN {
            self.idle.after_read();
        }
        Ok(())
    }

    /// Takes note that nothing more comes of a partition. The next renewal of the leases tries to read it again.
    fn stop_reading(&mut self, ReadError { partition, error }: ReadError) -> anyhow::Result<()> {
        let Some(partition) = partition else { return Err(error.into()) };
        tracing::warn!(partition, %error, "reading a partition failed; retrying in a second");
        self.projector.stalls.failed(&[partition], &error.to_string());
        self.unread.insert(partition);
        Ok(())
    }

    fn start_batches(&mut self) -> anyhow::Result<()> {
        if let Some(change) = self.projector.topic_watch.change().filter(TopicChange::forbids_folding) {
            anyhow::bail!("{change}; its events are not folded");
        }
        if self.idle.until() <= Instant::now()
            && let Some(batch) = self.backlog.shared_batch()
        {
            self.start(batch);
        }
        while let Some(batch) = self.backlog.apart_batch(std::time::Instant::now()) {
            self.start(batch);
        }
        Ok(())
    }

    fn start(&mut self, batch: Batch) {
        let (projector, projection) = (self.projector, self.projection);
        let run = async move {
            let began = Instant::now();
            let spans: Vec<_> = batch.entries().filter_map(fold_span).collect();
            let mut run = Box::new(BatchRun::new(batch.clone()));
            let outcome = execute(projector, projection, &mut run).await;
            drop(spans);
            Finished::Batch { run, batch, outcome, took: began.elapsed() }
        };
        self.running.push(run.boxed());
    }

    fn finish(&mut self, finished: Finished) -> anyhow::Result<()> {
        match finished {
            Finished::Batch { run, batch, outcome, took } => self.finish_batch(&run, &batch, outcome, took),
            Finished::Leases(Ok(leased)) => self.enter_leases(&leased),
            Finished::Leases(Err(error)) if error.concerns_everything() => Err(error.into()),
            Finished::Leases(Err(error)) => {
                // The compare-and-set keeps the data right if another projector takes over in the meantime.
                tracing::warn!(%error, "renewing the leases failed; retrying in a second");
                self.is_renewing = false;
                Ok(())
            }
            Finished::Publication(outcome) => {
                self.note_publication(&outcome);
                Ok(())
            }
            Finished::Retry { retrier, outcome, reserved } => {
                self.retrier = Some(retrier);
                if let Some(partition) = reserved {
                    self.backlog.release(partition);
                }
                if let Err(error) = outcome {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "retrying a dead letter failed; trying again in a second"
                    );
                }
                Ok(())
            }
        }
    }

    fn finish_batch(
        &mut self,
        run: &BatchRun,
        batch: &Batch,
        outcome: Result<(), RunError>,
        took: Duration,
    ) -> anyhow::Result<()> {
        self.moved.extend(batch.partitions());
        if !run.is_committed() {
            return self.set_back(batch, outcome);
        }
        let committed = run.batch().unwrap_or(batch);
        self.backlog.committed(committed, run.cost(), took);
        self.projector.stalls.progressed(batch.partitions());
        metrics::counter!("projector_events_total").increment(committed.event_count() as u64);
        metrics::histogram!("projector_batch_seconds").record(took);
        log_parked(committed);
        self.note_publication(&outcome);
        self.owned.send_replace(self.backlog.next_offsets());
        self.publish_as_ofs();
        // While records wait, the worker catches up without idling.
        if batch.is_shared() && !self.backlog.has_ready_records() {
            self.idle.after_batch(took);
        }
        Ok(())
    }

    /// Sets partitions apart whose batch failed. What concerns all partitions ends the session.
    fn set_back(&mut self, batch: &Batch, outcome: Result<(), RunError>) -> anyhow::Result<()> {
        let Err(error) = outcome else { return Ok(()) };
        metrics::counter!("projector_batch_failures_total", "failure" => error.kind()).increment(1);
        let setback = match &error {
            RunError::Commit(CommitError::Held(partitions)) => Setback::Held(partitions.clone()),
            RunError::Commit(CommitError::ReadModel(failure)) | RunError::Postgres(failure)
                if !failure.concerns_everything() =>
            {
                Setback::Failed
            }
            _ => return Err(error.into()),
        };
        let partitions = match &setback {
            Setback::Held(partitions) => partitions.as_slice(),
            Setback::Failed => batch.partitions(),
        };
        self.projector.stalls.failed(partitions, &error.to_string());
        if batch.is_shared() {
            tracing::warn!(?partitions, %error, "a batch failed; trying these partitions one by one");
        } else {
            tracing::debug!(?partitions, %error, "a batch failed again; retrying after a pause");
        }
        self.backlog.set_back(batch, &setback, std::time::Instant::now());
        Ok(())
    }

    /// Looks at the leases, publishes the progress again, and retries dead letters.
    fn renew_leases(&mut self) {
        let projector = self.projector;
        self.is_renewing = true;
        self.moved.clear();
        let renewal = async { Finished::Leases(projector.read_model.renew_leases(&projector.owner, LEASE_TTL).await) };
        self.running.push(renewal.boxed());
        self.publish_again();
        self.retry_dead_letters();
    }

    /// Publishes the progress of all partitions, also when nothing has changed: a projector may have died between its
    /// commit and its publication, and Redis may have been down, or lost everything.
    fn publish_again(&mut self) {
        let (projector, projection) = (self.projector, self.projection);
        let unmoved =
            self.backlog.next_offsets().into_iter().filter(|(partition, _)| !self.backlog.is_busy(*partition));
        let unmoved = unmoved.map(|(partition, next)| OffsetAdvance { partition, from: next, to: next });
        let unmoved: Vec<OffsetAdvance> = unmoved.collect();
        let publication = async move { Finished::Publication(republish(projector, projection, unmoved).await) };
        self.running.push(publication.boxed());
    }

    fn retry_dead_letters(&mut self) {
        let Some(mut retrier) = self.retrier.take() else { return };
        let reserved = retrier.partition_to_replace();
        if reserved.is_some_and(|partition| !self.backlog.reserve(partition)) {
            self.retrier = Some(retrier);
            return;
        }
        let (projector, log) = (self.projector, self.log.clone());
        let state = PartitionState { projection: self.projection, owned: self.backlog.next_offsets() };
        let retry = async move {
            let outcome = retrier.run_step(projector, &log, &state).await;
            Finished::Retry { retrier, outcome, reserved }
        };
        self.running.push(retry.boxed());
    }

    /// Takes or gives up partitions. Passes offsets without a record.
    fn enter_leases(&mut self, leased: &[LeasedPartition]) -> anyhow::Result<()> {
        self.is_renewing = false;
        let known = self.backlog.next_offsets();
        for LeasedPartition { partition, next, generation } in leased {
            let is_sure = !self.moved.contains(partition) && !self.backlog.is_busy(*partition);
            let has_moved = is_sure && known.get(partition).is_some_and(|known| known != next);
            anyhow::ensure!(
                !has_moved && *generation == self.projection.generation,
                "the offsets have moved: another projector is at work on these partitions, or a rebuild"
            );
        }
        let leased: BTreeMap<i32, i64> = leased.iter().map(|it| (it.partition, it.next)).collect();
        if leased.keys().eq(known.keys()) && self.unread.is_empty() {
            for (partition, position) in self.reader.positions()? {
                self.backlog.pass(partition, position);
            }
            return Ok(());
        }
        for partition in known.keys().filter(|partition| !leased.contains_key(partition)) {
            self.backlog.remove(*partition);
        }
        for (partition, next) in leased.iter().filter(|(partition, _)| !known.contains_key(partition)) {
            self.backlog.add(*partition, *next);
        }
        tracing::info!(partitions = ?leased.keys().collect::<Vec<_>>(), "now projecting these partitions");
        self.unread.clear();
        self.reader.assign(&self.backlog.read_offsets())?;
        // Before the first batches: Redis distrusts all views when it first hears of a partition.
        self.publish_again();
        self.owned.send_replace(self.backlog.next_offsets());
        Ok(())
    }

    fn publish_as_ofs(&mut self) {
        let reached = self.as_ofs.take_reached(&self.backlog.next_offsets());
        if reached.is_empty() {
            return;
        }
        let (cache, generation) = (&self.projector.cache, self.projection.generation);
        let publication =
            async move { Finished::Publication(cache.publish_as_of(generation, &reached).await.map_err(Into::into)) };
        self.running.push(publication.boxed());
    }

    /// A failure doesn't end the session: the next renewal of the leases publishes the progress again.
    fn note_publication(&mut self, outcome: &Result<(), RunError>) {
        if let Err(error) = outcome {
            metrics::counter!("projector_announce_failures_total").increment(1);
            // Logs only the first failure of an outage of Redis.
            if self.redis_up_to_date {
                tracing::warn!(%error, "cache invalidation failed; retrying every second");
            }
        } else if !self.redis_up_to_date {
            tracing::info!("cache invalidation works again");
        }
        self.redis_up_to_date = outcome.is_ok();
    }
}

/// Waits until `next_read`, and then for a record of a partition that is wanted.
async fn next_record(
    reader: &PartitionReader,
    next_read: Instant,
    wants: impl Fn(i32) -> bool,
) -> Result<LogRecord, ReadError> {
    tokio::time::sleep_until(next_read).await;
    reader.next(wants).await
}
