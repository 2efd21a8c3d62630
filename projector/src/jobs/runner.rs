//! Taking a job, saying that it is still worked on, and ending it.

use std::sync::OnceLock;
use std::time::Duration;

use cache::Cache;
use event_log::Topic;
use read_model::{ClaimedJob, JobEnd, JobStep, ReadModel, ReadModelError};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::progress::StepProgress;
use crate::rebuild::UnknownOutcome;

/// How often a projector looks for a job, and a runner says that it works on one.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// A job of which its runner has said nothing for so long is taken over.
const ABANDONED_AFTER: Duration = Duration::from_secs(10);
/// How many runners may begin a job.
const ATTEMPTS_MAX: i32 = 5;
/// How often a runner tries to write what came of a job.
const END_ATTEMPTS_MAX: u32 = 30;

domain::limit_rows! {
    Services, "silence of the projector that works on a rebuild or verification", Time ABANDONED_AFTER, "another projector begins it anew", "admins, who wait for it";
    Services, "projectors that begin the same rebuild or verification", Count ATTEMPTS_MAX, "it has failed", "the projectors, which it may end";
    Services, "attempts to write what came of a rebuild or verification", Count END_ATTEMPTS_MAX, "another projector begins it anew", "the projector";
}

/// What works on jobs.
#[derive(Clone)]
pub struct JobRunner {
    /// The addresses of the Kafka brokers.
    pub brokers: String,
    /// What the read model is folded from.
    pub topic: Topic,
    /// The read model, which also has the jobs.
    pub read_model: ReadModel,
    /// The cache of its views.
    pub cache: Cache,
    /// Its own name. Unique to the process.
    pub name: String,
}

/// Why the work on a job ends before it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interruption {
    /// An admin wants it.
    Cancelled,
    /// Another runner has taken the job over.
    TakenOver,
}

/// Works on one job after the other until `stop`. A job that this interrupts is given back.
pub async fn run_jobs(runner: JobRunner, stop: CancellationToken) {
    while stop.run_until_cancelled(sleep(BEAT_INTERVAL)).await.is_some() {
        match runner.read_model.claim_job(&runner.name, ABANDONED_AFTER).await {
            Ok(Some(claimed)) => runner.work_on(claimed, &stop).await,
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "looking for a job failed; trying again"),
        }
    }
}

impl JobRunner {
    async fn work_on(&self, claimed: ClaimedJob, stop: &CancellationToken) {
        let (number, kind) = (claimed.job.number, claimed.job.kind);
        tracing::info!(number, ?kind, attempt = claimed.job.attempts, "working on a job");
        if claimed.job.attempts > ATTEMPTS_MAX {
            return self
                .end(number, JobEnd::Failed(format!("{ATTEMPTS_MAX} projectors have ended in the middle of it")))
                .await;
        }
        let (shutdown, interruption) = (stop.child_token(), OnceLock::new());
        let (reported, step) = watch::channel(None);
        let report = |progress| {
            let StepProgress { name, unit, done, total } = progress;
            reported.send_replace(Some(JobStep { name: name.to_owned(), unit: unit.to_owned(), done, total }));
        };
        let result = tokio::select! {
            result = self.carry_out(&claimed, &shutdown, &report) => result,
            never = self.beat(number, step, &shutdown, &interruption) => match never {},
        };
        let end = match (result, interruption.get()) {
            (_, Some(Interruption::TakenOver)) => {
                return tracing::warn!(number, "another projector has taken the job over");
            }
            // It was over before.
            (Ok(outcome), _) => JobEnd::Done(outcome),
            (Err(_), Some(Interruption::Cancelled)) => JobEnd::Cancelled,
            (Err(error), None) if stop.is_cancelled() || error.is::<UnknownOutcome>() => {
                return self.give_back(number, &error).await;
            }
            (Err(error), None) => JobEnd::Failed(format!("{error:#}")),
        };
        self.end(number, end).await;
    }

    /// Says once a second how far the job is. Interrupts the work if an admin wants that, or the job isn't this runner's any
    /// more.
    async fn beat(
        &self,
        number: i64,
        step: watch::Receiver<Option<JobStep>>,
        shutdown: &CancellationToken,
        interruption: &OnceLock<Interruption>,
    ) -> std::convert::Infallible {
        loop {
            sleep(BEAT_INTERVAL).await;
            let present = step.borrow().clone();
            let found = match self.read_model.beat_job(number, &self.name, present).await {
                Ok(Some(false)) => continue,
                Ok(Some(true)) => Interruption::Cancelled,
                Ok(None) => Interruption::TakenOver,
                Err(error) => {
                    tracing::info!(%error, number, "saying how far the job is failed; trying again");
                    continue;
                }
            };
            // The first one counts: the work may still be ending.
            let _ = interruption.set(found);
            shutdown.cancel();
        }
    }

    async fn end(&self, number: i64, end: JobEnd) {
        tracing::info!(number, ?end, "the job has ended");
        for _ in 0..END_ATTEMPTS_MAX {
            match self.read_model.end_job(number, &self.name, &end).await {
                Ok(()) => return,
                Err(error) => self.pause(number, &error).await,
            }
        }
    }

    async fn pause(&self, number: i64, error: &ReadModelError) {
        tracing::warn!(%error, number, "writing what came of the job failed; trying again");
        sleep(BEAT_INTERVAL).await;
    }

    /// Another runner begins it anew: at once, or if Postgres doesn't answer, after a while.
    async fn give_back(&self, number: i64, reason: &anyhow::Error) {
        tracing::info!(number, "giving the job back: {reason:#}");
        if let Err(error) = self.read_model.give_job_back(number, &self.name).await {
            tracing::info!(%error, number, "giving the job back failed; another projector will take it over");
        }
    }
}
