//! What each kind of job does.

use std::time::Duration;

use anyhow::Context;
use read_model::{BeginError, ClaimedJob, Differences, JobKind, JobOutcome, JobTable};
use replay::SortBudget;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::runner::JobRunner;
use crate::progress::StepProgress;
use crate::rebuild::{Rebuild, RebuildGoal, RebuildOutcome, go_back, rebuild};
use crate::verify::{Verification, compare_cached_views, verify};

/// How long a job waits for a rebuild that somebody has started at the command line, or for the end of one whose process
/// died.
const BUSY_MAX: Duration = Duration::from_secs(60);
const BUSY_PAUSE: Duration = Duration::from_millis(500);

domain::limit_rows! {
    Services, "wait of a rebuild for one that was started at the command line", Time BUSY_MAX, "it has failed", "admins, who wait for its end";
}

impl JobRunner {
    /// Does what the job demands.
    pub(super) async fn carry_out(
        &self,
        claimed: &ClaimedJob,
        shutdown: &CancellationToken,
        report: &(impl Fn(StepProgress) + Sync),
    ) -> anyhow::Result<JobOutcome> {
        let ClaimedJob { job, generation } = claimed;
        if let Some(generation) = generation {
            // The process of an earlier attempt died, or lost Postgres, right after the replacement.
            return Ok(JobOutcome { generation: Some(*generation), is_in_use: true, ..JobOutcome::default() });
        }
        let goal = match (job.kind, job.accept_differences) {
            (JobKind::Verify, _) => return self.verify(shutdown, report).await,
            (JobKind::DryRun, _) => RebuildGoal::Compare,
            (JobKind::Rebuild, false) => RebuildGoal::ReplaceIfEqual,
            (JobKind::Rebuild, true) | (JobKind::GoBack, _) => RebuildGoal::Replace,
        };
        let work = Rebuild {
            brokers: self.brokers.clone(),
            topic: self.topic.name.clone(),
            topic_id: self.topic.id,
            partitions: self.topic.partitions,
            read_model: self.read_model.clone(),
            cache: self.cache.clone(),
            budget: SortBudget::in_folder(std::env::temp_dir()),
            job: Some(job.number),
        };
        let began = Instant::now();
        loop {
            let report = |step| report(StepProgress::from(step));
            let result = match job.kind {
                JobKind::GoBack => go_back(&work, shutdown, report).await,
                _ => rebuild(&work, goal, shutdown, report).await,
            };
            let is_busy = |error: &anyhow::Error| matches!(error.downcast_ref(), Some(BeginError::Busy));
            match result {
                Err(error) if is_busy(&error) && began.elapsed() < BUSY_MAX && !shutdown.is_cancelled() => {
                    sleep(BUSY_PAUSE).await;
                }
                result => return result.map(of_rebuild),
            }
        }
    }

    async fn verify(
        &self,
        shutdown: &CancellationToken,
        report: &(impl Fn(StepProgress) + Sync),
    ) -> anyhow::Result<JobOutcome> {
        let verification = Verification {
            brokers: self.brokers.clone(),
            topic: self.topic.name.clone(),
            topic_id: self.topic.id,
            partitions: self.topic.partitions,
            read_model: self.read_model.clone(),
            budget: SortBudget::in_folder(std::env::temp_dir()),
        };
        let comparing = async {
            let outcome = verify(&verification, |progress| report(progress.into())).await?;
            let report = |compared| report(StepProgress::of_views(compared));
            let views = compare_cached_views(&self.read_model, &self.cache, report).await;
            let views = views.context("the cached views were not compared")?;
            let mut first = outcome.differences.first.iter().map(ToString::to_string).collect::<Vec<_>>();
            first.extend(views.first.iter().map(ToString::to_string));
            anyhow::Ok(JobOutcome {
                records: outcome.records,
                rows: Some(outcome.rows),
                stale_views: Some(views.stale),
                first,
                ..with_differences(&outcome.differences)
            })
        };
        shutdown.run_until_cancelled(comparing).await.context("stopped before everything was compared")?
    }
}

fn of_rebuild(outcome: RebuildOutcome) -> JobOutcome {
    let RebuildOutcome { generation, records, differences, new_columns, stood_still } = outcome;
    let mut shown = with_differences(&differences);
    if !new_columns.is_empty() {
        let columns = new_columns.join(", ");
        shown.first.insert(0, format!("not compared, because the schema in use has no such columns: {columns}"));
    }
    JobOutcome {
        generation: Some(generation),
        records,
        is_in_use: stood_still.is_some(),
        stood_still_ms: stood_still.map(|stood_still| u64::try_from(stood_still.as_millis()).unwrap_or(u64::MAX)),
        ..shown
    }
}

fn with_differences(differences: &Differences) -> JobOutcome {
    let tables = differences.counts.iter().map(|(table, counts)| JobTable {
        table: (*table).to_owned(),
        missing: counts.missing,
        added: counts.added,
        changed: counts.changed,
    });
    JobOutcome {
        differing_conversations: differences.conversations,
        tables: tables.collect(),
        first: differences.first.iter().map(ToString::to_string).collect(),
        ..JobOutcome::default()
    }
}
