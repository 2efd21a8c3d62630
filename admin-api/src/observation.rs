//! Observations of the projection: how far each partition is, and how old the oldest record is that isn't folded.
//!
//! All admins share them: an observation that is younger than [`REUSE`] answers everybody, and one is taken at a time.
//! So the cost of watching doesn't grow with the number of watchers. Observing must never hold up anything else: it asks
//! Postgres for a few rows and Kafka for the ends of the log, and reads one record of each partition that is behind.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cache::{Cache, LiveNode};
use domain::{Position, PositionVector};
use event_log::{LogConsumer, LogError};
use futures_util::future::try_join_all;
use read_model::{GenerationState, ReadModel, ReadModelOverview};
use serde::Serialize;
use service::clock;
use service::problem::Problem;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::recent_offsets::{Rates, RecentOffsets};
use crate::{log_problem, postgres_problem};

/// How long an observation answers everybody, also one that failed.
const REUSE: Duration = Duration::from_millis(500);
/// How long an observation may take.
const OBSERVE_TIMEOUT: Duration = Duration::from_secs(5);

domain::limit_rows! {
    Services, "an observation of the projection, for admins", Time OBSERVE_TIMEOUT, "503 `unavailable`", "the admins who wait for it";
}

/// How far the projection of a partition is.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PartitionStatus {
    /// Its number.
    partition: i32,
    /// The offset after the last record of the log.
    end: i64,
    /// The offset up to which readers get records. It is smaller while another producer has a transaction open.
    readable: i64,
    /// The offset up to which the read model is folded.
    folded: i64,
    /// How many offsets are readable and not folded yet.
    pub(crate) lag: i64,
    /// How many seconds ago the log took the oldest record that is readable and not folded yet; 0 if all are folded.
    pub(crate) lag_seconds: f64,
    /// How many offsets a second the log grew by, over the last 10 s.
    pub(crate) appended_per_second: f64,
    /// How many offsets a second the projector folded, over the last 10 s.
    pub(crate) folded_per_second: f64,
    /// Whether a projector works on it.
    is_projected: bool,
    /// When the log took that oldest record, in Unix milliseconds.
    #[serde(skip)]
    oldest_ms: Option<i64>,
}

/// The projection at a moment.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    /// The generations of the read model, the newest first.
    pub(crate) generations: Vec<GenerationState>,
    /// How many projectors own at least one partition.
    pub(crate) projectors: usize,
    /// How many dead letters are neither folded nor discarded.
    pub(crate) open_dead_letters: i64,
    /// Each partition of the topic.
    pub(crate) partitions: Vec<PartitionStatus>,
    /// The realtime nodes that are alive; none while Redis doesn't answer.
    pub(crate) nodes: Vec<LiveNode>,
}

/// The last observation, or why it failed.
struct LastOutcome {
    at: Instant,
    outcome: Result<Arc<Observation>, Problem>,
}

/// Observes the projection for everybody who asks this process.
pub(crate) struct Observer {
    read_model: ReadModel,
    cache: Cache,
    log: Arc<LogConsumer>,
    topic_id: Uuid,
    /// For the one observation at a time.
    permit: Semaphore,
    last: Mutex<Option<LastOutcome>>,
    recent: Mutex<RecentOffsets>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observer {
    /// Observes the topic with this id.
    pub(crate) fn new(read_model: ReadModel, cache: Cache, log: Arc<LogConsumer>, topic_id: Uuid) -> Self {
        let (permit, last, recent) = (Semaphore::new(1), Mutex::default(), Mutex::default());
        Self { read_model, cache, log, topic_id, permit, last, recent }
    }

    /// The present state of the projection; at most [`REUSE`] ago.
    ///
    /// # Errors
    /// 503 when Postgres or Kafka doesn't answer.
    pub(crate) async fn observe(&self) -> Result<Arc<Observation>, Problem> {
        if let Some(outcome) = self.reusable() {
            return outcome;
        }
        let _permit = self.permit.acquire().await.map_err(|_| Problem::internal())?;
        // Somebody else may have observed meanwhile.
        if let Some(outcome) = self.reusable() {
            return outcome;
        }
        let taken = tokio::time::timeout(OBSERVE_TIMEOUT, self.take()).await;
        let outcome = taken.unwrap_or_else(|_| Err(Problem::dependency_unavailable())).map(Arc::new);
        *lock(&self.last) = Some(LastOutcome { at: Instant::now(), outcome: outcome.clone() });
        outcome
    }

    fn reusable(&self) -> Option<Result<Arc<Observation>, Problem>> {
        lock(&self.last).as_ref().filter(|last| last.at.elapsed() < REUSE).map(|last| last.outcome.clone())
    }

    async fn take(&self) -> Result<Observation, Problem> {
        // Before the log's ends: what is folded meanwhile must not look as if it were beyond them.
        let overview = self.read_model.overview(self.topic_id).await.map_err(|error| postgres_problem(&error))?;
        let log = &self.log;
        let ends = tokio::try_join!(log.end_offsets(), log.readable_end_offsets());
        let (end, readable) = ends.map_err(|error| log_problem(&error))?;
        let oldest = self.oldest(&overview.offsets, &readable).await.map_err(|error| log_problem(&error))?;
        let rates = lock(&self.recent).add(Instant::now(), &end, &overview.offsets);
        let nodes = self.cache.live_nodes().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "Redis failed; admins see no realtime nodes");
            Vec::new()
        });
        Ok(Observation { nodes, ..observation(overview, &end, &readable, &oldest, &rates) })
    }

    /// When the log took the first record of each partition that isn't folded, in Unix milliseconds; none where all are,
    /// or where the log has no record at that offset.
    async fn oldest(&self, folded: &PositionVector, readable: &PositionVector) -> Result<Vec<Option<i64>>, LogError> {
        let before = lock(&self.last).as_ref().and_then(|last| last.outcome.clone().ok());
        let reads = (0..).zip(&readable.0).map(|(partition, readable)| {
            let offset = folded.next(partition);
            let known = before.as_ref().and_then(|before| before.oldest_at(Position { partition, offset }));
            async move {
                // A partition that stands still needs no second read.
                if known.is_some() || *readable <= offset {
                    return Ok(known);
                }
                let record = self.log.read_at(Position { partition, offset }).await?;
                Ok(record.map(|record| record.timestamp_ms))
            }
        });
        try_join_all(reads).await
    }
}

impl Observation {
    /// How many offsets of all partitions are not folded yet.
    pub(crate) fn lag(&self) -> i64 {
        self.partitions.iter().map(|partition| partition.lag).sum()
    }

    /// The lag in seconds of the partition that is the furthest behind.
    pub(crate) fn lag_seconds(&self) -> f64 {
        self.partitions.iter().map(|partition| partition.lag_seconds).fold(0.0, f64::max)
    }

    /// When the log took the record at a position, if it is the oldest one that wasn't folded.
    fn oldest_at(&self, position: Position) -> Option<i64> {
        let partition = self.partitions.iter().find(|it| it.partition == position.partition)?;
        partition.oldest_ms.filter(|_| partition.folded == position.offset)
    }
}

fn observation(
    overview: ReadModelOverview,
    end: &PositionVector,
    readable: &PositionVector,
    oldest: &[Option<i64>],
    rates: &[Rates],
) -> Observation {
    let ReadModelOverview { offsets, generations, leases, open_dead_letters } = overview;
    let partitions = (0..).zip(end.0.iter().zip(rates).zip(oldest)).map(|(partition, ((end, rates), oldest_ms))| {
        let (folded, readable) = (offsets.next(partition), readable.next(partition));
        PartitionStatus {
            partition,
            end: *end,
            readable,
            folded,
            lag: (readable - folded).max(0),
            // The broker's clock may be ahead of ours.
            lag_seconds: oldest_ms.map_or(0.0, |oldest_ms| clock::since_millis(oldest_ms).as_secs_f64()),
            appended_per_second: rates.appended,
            folded_per_second: rates.folded,
            is_projected: !leases.unowned.contains(&partition) && leases.projectors > 0,
            oldest_ms: *oldest_ms,
        }
    });
    let (partitions, nodes) = (partitions.collect(), Vec::new());
    Observation { generations, projectors: leases.projectors, open_dead_letters, partitions, nodes }
}
