//! The steps of a rebuild.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use cache::Cache;
use domain::PositionVector;
use event_log::LogConsumer;
use read_model::{Differences, DifferingConversations, NextGeneration, ReadModel};
use replay::{ReadProgress, SortBudget, sort_log};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::catch_up::LogFollower;
use super::copy::copy_rows;
use super::courtesy::Courtesy;
use super::swap::{self, RebuildGoal, Swap, UnknownOutcome};
use crate::complete_log::{ensure_complete, ensure_same_partitions};

/// A read model to rebuild, and the topic that it is folded from.
pub struct Rebuild {
    /// The addresses of the Kafka brokers.
    pub brokers: String,
    /// The topic's name.
    pub topic: String,
    /// The topic's id.
    pub topic_id: Uuid,
    /// How many partitions the topic has.
    pub partitions: usize,
    /// Where the rows are.
    pub read_model: ReadModel,
    /// The cache of its views.
    pub cache: Cache,
    /// What may be in memory.
    pub budget: SortBudget,
    /// The number of the job that it is; none for the command line.
    pub job: Option<i64>,
}

/// What a rebuild does now, and how much of that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildStep {
    /// The log is read, and Postgres computes digests of the live rows.
    Log(ReadProgress),
    /// Rows are copied. Counts parts of the log.
    Copying {
        /// How many parts are done.
        done: u64,
        /// How many there are.
        total: u64,
    },
    /// Postgres makes indexes.
    Indexing {
        /// How many indexes are done.
        done: u64,
        /// How many there are.
        total: u64,
    },
    /// Postgres compares the digests.
    Comparing,
    /// Batches fold what has come since.
    CatchingUp,
    /// The next generation is to become the live one.
    Swapping,
}

/// How a rebuild ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuildOutcome {
    /// The generation that was built.
    pub generation: i64,
    /// How many records of the log it includes.
    pub records: u64,
    /// What it has otherwise than the generation before.
    pub differences: Differences,
    /// The columns that the generation before lacks. Nobody has compared them.
    pub new_columns: Vec<String>,
    /// How long the projectors stood still; none if the generation didn't become the live one.
    pub stood_still: Option<Duration>,
}

/// Builds the next generation of a read model, and lets it replace the live one, if that is the goal.
///
/// # Errors
/// When the log isn't complete, or isn't the read model's; when another rebuild is at work; when Kafka or Postgres doesn't
/// answer, a disk is full, or `shutdown` comes first. The live generation is then unchanged.
pub async fn rebuild(
    rebuild: &Rebuild,
    goal: RebuildGoal,
    shutdown: &CancellationToken,
    report: impl Fn(RebuildStep),
) -> anyhow::Result<RebuildOutcome> {
    let log = Arc::new(LogConsumer::new(&rebuild.brokers, &rebuild.topic, "rebuild").without_headers());
    ensure_complete(&log).await?;
    if let Some(folded) = rebuild.read_model.folded_topic().await?.filter(|folded| folded.id == rebuild.topic_id) {
        ensure_same_partitions(&rebuild.topic, rebuild.partitions, &folded)?;
    }
    let mut next = rebuild.read_model.begin_generation(rebuild.topic_id, rebuild.job).await?;
    let built = shutdown.run_until_cancelled(build(rebuild, goal, &log, &mut next, &report)).await;
    finish(rebuild, goal, next, built).await
}

/// Makes the generation that was retired last the live one again, under a new number.
///
/// # Errors
/// As [`rebuild`], and when there is none.
pub async fn go_back(
    rebuild: &Rebuild,
    shutdown: &CancellationToken,
    report: impl Fn(RebuildStep),
) -> anyhow::Result<RebuildOutcome> {
    let mut next = rebuild.read_model.begin_return(rebuild.topic_id, rebuild.job).await?;
    let returned = shutdown.run_until_cancelled(return_to(rebuild, &mut next, &report)).await;
    finish(rebuild, RebuildGoal::Replace, next, returned).await
}

/// Drops the next generation, unless it has become the live one.
async fn finish(
    rebuild: &Rebuild,
    goal: RebuildGoal,
    next: NextGeneration,
    built: Option<anyhow::Result<RebuildOutcome>>,
) -> anyhow::Result<RebuildOutcome> {
    let generation = next.projection().generation;
    if !matches!(&built, Some(Ok(outcome)) if outcome.stood_still.is_some()) {
        rebuild.read_model.discard_generation(next).await?;
    }
    match built {
        Some(Ok(outcome)) => {
            if outcome.stood_still.is_some()
                && let Err(error) = rebuild.cache.publish_generation(generation).await
            {
                tracing::info!(%error, "publishing the generation in Redis failed; the projectors publish it, too");
            }
            Ok(outcome)
        }
        Some(Err(error)) if goal == RebuildGoal::Compare || error.is::<UnknownOutcome>() => Err(error),
        Some(Err(error)) => Err(error.context("the rebuild failed; the read model is as it was")),
        None => bail!("stopped; the read model is as it was"),
    }
}

async fn build(
    rebuild: &Rebuild,
    goal: RebuildGoal,
    log: &Arc<LogConsumer>,
    next: &mut NextGeneration,
    report: &impl Fn(RebuildStep),
) -> anyhow::Result<RebuildOutcome> {
    let Rebuild { topic, partitions, read_model, budget, .. } = rebuild;
    let folded = next.begin_live_digests().await?;
    if !log.end_offsets().await?.covers(&folded) {
        bail!("the read model has folded records that the log doesn't have: the log isn't what it was");
    }
    let sorting = async { Ok(sort_log(log, &folded, budget, |progress| report(RebuildStep::Log(progress))).await?) };
    let (buckets, ()) = tokio::try_join!(sorting, store_digests(next))?;
    let mut courtesy = Courtesy::new(log.clone(), read_model.clone());
    let copiers = next.copiers(read_model).await?;
    let copying = |done, total| report(RebuildStep::Copying { done, total });
    let parked = copy_rows(buckets, *partitions, budget.bucket_max, copiers, &mut courtesy, copying).await?;
    next.finish_copy(read_model, &folded, |done, total| report(RebuildStep::Indexing { done, total })).await?;
    report(RebuildStep::Comparing);
    let differing = next.compare_all(read_model).await?;
    let consumer = LogConsumer::new(&rebuild.brokers, topic, "rebuild");
    let follower = LogFollower::begin(consumer, next.read_model().clone(), next.projection(), &folded, Some(parked))?;
    conclude(rebuild, goal, next, follower, folded, differing, report).await
}

/// Lets Postgres compute digests of the live rows.
async fn store_digests(next: &mut NextGeneration) -> anyhow::Result<()> {
    next.store_live_digests(None).await?;
    tracing::info!("computed digests of the rows in use");
    Ok(())
}

async fn return_to(
    rebuild: &Rebuild,
    next: &mut NextGeneration,
    report: &impl Fn(RebuildStep),
) -> anyhow::Result<RebuildOutcome> {
    let from = next.offsets().await?;
    let consumer = LogConsumer::new(&rebuild.brokers, &rebuild.topic, "rebuild");
    // Dead letters stay as they are.
    let follower = LogFollower::begin(consumer, next.read_model().clone(), next.projection(), &from, None)?;
    conclude(rebuild, RebuildGoal::Replace, next, follower, from, DifferingConversations::default(), report).await
}

/// Folds what has come since, and lets the next generation replace the live one.
async fn conclude(
    rebuild: &Rebuild,
    goal: RebuildGoal,
    next: &mut NextGeneration,
    follower: LogFollower,
    compared: PositionVector,
    differing: DifferingConversations,
    report: &impl Fn(RebuildStep),
) -> anyhow::Result<RebuildOutcome> {
    report(RebuildStep::CatchingUp);
    let live = &rebuild.read_model;
    let mut swap = Swap { live, next, follower, compared, differing };
    swap.catch_up_with_live().await?;
    report(RebuildStep::Swapping);
    let swap::Swapped { offsets, differences, stood_still } = swap.run(goal).await?;
    Ok(RebuildOutcome {
        generation: next.projection().generation,
        records: offsets.0.iter().map(|next| u64::try_from(*next).unwrap_or(0)).sum(),
        differences,
        new_columns: next.columns_without_live(),
        stood_still,
    })
}
