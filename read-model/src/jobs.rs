//! Jobs: rebuilds and verifications that admins start. Whichever projector is free works on one, and another one begins it
//! anew if that one dies. The table isn't folded from the log, so a rebuild keeps it.
//!
//! # The life of a job
//!
//! | Status | What happens |
//! |---|---|
//! | waiting | A projector is to begin it. |
//! | running | A projector works on it, and says so once a second: its *beat*. If it says nothing for a while, another one takes the job over. |
//! | done, failed, cancelled | It has ended. |

use std::time::Duration;

use domain::{Timestamp, UserId};
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use utoipa::ToSchema;

use crate::connection::{READ_WRITE, ReadModel};
use crate::error::ReadModelError;
use crate::parking::storable_text;
use crate::rows;

/// How many jobs are kept.
const KEPT_MAX: i64 = 1_000;

domain::limit_rows! {
    Services, "rebuilds and verifications whose history is kept", Count KEPT_MAX, "the oldest ones are deleted", "Postgres' disk";
}

/// The columns of a job, in the order of [`Job`].
const COLUMNS: &str = "number, kind, accept_differences, status, is_cancel_requested, requested_by, requested_at, \
                       started_at, ended_at, runner, attempts, step, outcome, error";

/// The server process that rebuilds: it holds the lock whose name is `$1`.
const REBUILDING: &str = "FROM pg_locks WHERE locktype = 'advisory' AND granted
     AND (classid::bigint << 32 | objid::bigint) = hashtext($1)::bigint
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum JobKind {
    /// Builds the read model anew, next to the one in use, and replaces that.
    Rebuild,
    /// Builds it and compares both, and drops the new one.
    DryRun,
    /// Makes the read model that the last rebuild has replaced the one in use again.
    GoBack,
    /// Compares the read model and the cached views with the fold of the log.
    Verify,
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum JobStatus {
    /// A projector is to begin it.
    Waiting,
    /// A projector works on it.
    Running,
    /// It has come to its end.
    Done,
    /// It couldn't come to its end, and has changed nothing.
    Failed,
    /// An admin ended it, and it has changed nothing.
    Cancelled,
}

/// What a job does now, and how much of that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStep {
    /// Such as `reading the log`.
    pub name: String,
    /// What it counts, such as `records`.
    pub unit: String,
    /// How many are done.
    pub done: u64,
    /// How many there are.
    pub total: u64,
}

/// How many rows of a table differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobTable {
    /// The table's name.
    pub table: String,
    /// Rows that the log demands, and that weren't there.
    pub missing: u64,
    /// Rows that were there, and that the log doesn't demand.
    pub added: u64,
    /// Rows with other values than the log demands.
    pub changed: u64,
}

/// What came of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobOutcome {
    /// The generation that it built.
    #[schema(required)]
    pub generation: Option<i64>,
    /// How many records of the log the compared rows include.
    pub records: u64,
    /// How many rows were compared, if it was a verification.
    #[schema(required)]
    pub rows: Option<u64>,
    /// Whether what it built is in use now.
    pub is_in_use: bool,
    /// How long the projectors stood still for the replacement, in milliseconds.
    #[schema(required)]
    pub stood_still_ms: Option<u64>,
    /// In how many conversations rows differ.
    pub differing_conversations: u64,
    /// How many cached views are stale, if it was a verification.
    #[schema(required)]
    pub stale_views: Option<u64>,
    /// How many rows of each table differ.
    pub tables: Vec<JobTable>,
    /// The first differences, in words.
    pub first: Vec<String>,
}

/// A rebuild or verification that an admin has started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Increases with time.
    pub number: i64,
    /// What it does.
    pub kind: JobKind,
    /// Whether it may replace rows by other ones.
    pub accept_differences: bool,
    /// Where it is.
    pub status: JobStatus,
    /// Whether an admin wants it to end.
    pub is_cancel_requested: bool,
    /// The admin who started it.
    pub requested_by: String,
    /// When they did.
    pub requested_at: Timestamp,
    /// When a projector first began it.
    #[schema(required)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(required)]
    pub ended_at: Option<Timestamp>,
    /// The projector that works on it, or did last.
    #[schema(required)]
    pub runner: Option<String>,
    /// How many projectors have begun it.
    pub attempts: i32,
    /// What it does now.
    #[schema(required)]
    pub step: Option<JobStep>,
    /// What came of it.
    #[schema(required)]
    pub outcome: Option<JobOutcome>,
    /// Why it failed.
    #[schema(required)]
    pub error: Option<String>,
}

impl Job {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            number: row.try_get("number")?,
            kind: rows::enum_value(row, "kind")?,
            accept_differences: row.try_get("accept_differences")?,
            status: rows::enum_value(row, "status")?,
            is_cancel_requested: row.try_get("is_cancel_requested")?,
            requested_by: row.try_get("requested_by")?,
            requested_at: rows::timestamp(row, "requested_at")?,
            started_at: rows::optional_timestamp(row, "started_at")?,
            ended_at: rows::optional_timestamp(row, "ended_at")?,
            runner: row.try_get("runner")?,
            attempts: row.try_get("attempts")?,
            step: row.try_get::<Option<Json<JobStep>>, _>("step")?.map(|step| step.0),
            outcome: row.try_get::<Option<Json<JobOutcome>>, _>("outcome")?.map(|outcome| outcome.0),
            error: row.try_get("error")?,
        })
    }
}

/// A job that a projector has just begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedJob {
    /// As it is now that the projector has it.
    pub job: Job,
    /// The generation that an earlier attempt has made the live one: nothing is left to do.
    pub generation: Option<i64>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// It came to its end.
    Done(JobOutcome),
    /// It failed for this reason.
    Failed(String),
    /// An admin ended it.
    Cancelled,
}

impl ReadModel {
    /// Whether a rebuild is at work, also one that was started at the command line.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn is_rebuilding(&self) -> Result<bool, ReadModelError> {
        let mut connection = self.acquire("is_rebuilding").await?;
        let statement = sqlx::AssertSqlSafe(format!("SELECT EXISTS (SELECT {REBUILDING})"));
        let name = crate::generations::lock_name(&self.schema);
        Ok(sqlx::query_scalar(statement).bind(name).fetch_one(&mut connection).await?)
    }

    /// Adds a job. None if another one waits or runs.
    ///
    /// # Errors
    /// When Postgres doesn't take it for good.
    pub async fn request_job(
        &self,
        kind: JobKind,
        accept_differences: bool,
        requested_by: &UserId,
    ) -> Result<Option<Job>, ReadModelError> {
        let mut transaction = self.begin("request_job", READ_WRITE).await?;
        // Nothing can bring the row back that a crash loses.
        sqlx::query("SET LOCAL synchronous_commit = on").execute(&mut transaction).await?;
        let statement = sqlx::AssertSqlSafe(format!(
            "INSERT INTO jobs (kind, accept_differences, requested_by) VALUES ($1, $2, $3)
             ON CONFLICT DO NOTHING RETURNING {COLUMNS}"
        ));
        let row = sqlx::query(statement).bind(rows::enum_text(kind)).bind(accept_differences);
        let row = row.bind(requested_by.as_str()).fetch_optional(&mut transaction).await?;
        let forget =
            "DELETE FROM jobs WHERE number <= (SELECT number FROM jobs ORDER BY number DESC OFFSET $1 LIMIT 1)";
        sqlx::query(forget).bind(KEPT_MAX).execute(&mut transaction).await?;
        transaction.commit().await?;
        Ok(row.as_ref().map(Job::read).transpose()?)
    }

    /// Takes the job that waits, or whose runner hasn't said for `abandoned_after` that it still works on it. What that one
    /// was building is ended.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn claim_job(
        &self,
        runner: &str,
        abandoned_after: Duration,
    ) -> Result<Option<ClaimedJob>, ReadModelError> {
        let mut connection = self.acquire("claim_job").await?;
        let statement = sqlx::AssertSqlSafe(format!(
            "UPDATE jobs SET status = 'running', runner = $1, attempts = attempts + 1, beat_at = now(), step = NULL,
                    started_at = coalesce(started_at, now())
             WHERE number = (SELECT number FROM jobs WHERE status IN ('waiting', 'running')
                                 AND (status = 'waiting' OR beat_at < now() - make_interval(secs => $2))
                             LIMIT 1 FOR UPDATE SKIP LOCKED)
             RETURNING {COLUMNS}, generation"
        ));
        let row = sqlx::query(statement).bind(runner).bind(abandoned_after.as_secs_f64());
        let Some(row) = row.fetch_optional(&mut connection).await? else { return Ok(None) };
        let claimed = ClaimedJob { job: Job::read(&row)?, generation: row.try_get("generation")? };
        if claimed.job.attempts > 1 {
            let terminate = sqlx::AssertSqlSafe(format!(
                "SELECT pg_terminate_backend(pid) {REBUILDING}
                     AND EXISTS (SELECT FROM generations WHERE status = 'building' AND job = $2)"
            ));
            sqlx::query(terminate)
                .bind(crate::generations::lock_name(&self.schema))
                .bind(claimed.job.number)
                .execute(&mut connection)
                .await?;
        }
        Ok(Some(claimed))
    }

    /// Says that a runner still works on a job, and where it is. Returns whether an admin wants it to end; none if the job
    /// isn't this runner's any more.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn beat_job(
        &self,
        number: i64,
        runner: &str,
        step: Option<JobStep>,
    ) -> Result<Option<bool>, ReadModelError> {
        let mut connection = self.acquire("beat_job").await?;
        let statement =
            "UPDATE jobs SET beat_at = now(), step = $3 WHERE number = $1 AND runner = $2 AND status = 'running'
                         RETURNING is_cancel_requested";
        let row = sqlx::query_scalar(statement).bind(number).bind(runner).bind(step.map(Json));
        Ok(row.fetch_optional(&mut connection).await?)
    }

    /// Ends a job, if it is still this runner's.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn end_job(&self, number: i64, runner: &str, end: &JobEnd) -> Result<(), ReadModelError> {
        let (status, outcome, error) = match end {
            JobEnd::Done(outcome) => (JobStatus::Done, Some(Json(outcome)), None),
            JobEnd::Failed(error) => (JobStatus::Failed, None, Some(storable_text(error))),
            JobEnd::Cancelled => (JobStatus::Cancelled, None, None),
        };
        let mut connection = self.acquire("end_job").await?;
        let statement = "UPDATE jobs SET status = $3, outcome = $4, error = $5, ended_at = now(), step = NULL
                         WHERE number = $1 AND runner = $2 AND status = 'running'";
        let ended = sqlx::query(statement).bind(number).bind(runner).bind(rows::enum_text(status));
        ended.bind(outcome).bind(error).execute(&mut connection).await?;
        Ok(())
    }

    /// Gives a job back, for another runner to begin anew.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn give_job_back(&self, number: i64, runner: &str) -> Result<(), ReadModelError> {
        let mut connection = self.acquire("give_job_back").await?;
        let statement = "UPDATE jobs SET status = 'waiting', step = NULL
                         WHERE number = $1 AND runner = $2 AND status = 'running'";
        sqlx::query(statement).bind(number).bind(runner).execute(&mut connection).await?;
        Ok(())
    }

    /// Has a job ended. None if it has ended, or there is none.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn cancel_job(&self, number: i64) -> Result<Option<Job>, ReadModelError> {
        let mut connection = self.acquire("cancel_job").await?;
        let statement = sqlx::AssertSqlSafe(format!(
            "UPDATE jobs SET is_cancel_requested = true,
                    status = CASE status WHEN 'waiting' THEN 'cancelled' ELSE status END,
                    ended_at = CASE status WHEN 'waiting' THEN now() END
             WHERE number = $1 AND status IN ('waiting', 'running') RETURNING {COLUMNS}"
        ));
        let row = sqlx::query(statement).bind(number).fetch_optional(&mut connection).await?;
        Ok(row.as_ref().map(Job::read).transpose()?)
    }

    /// Reads a job.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn job(&self, number: i64) -> Result<Option<Job>, ReadModelError> {
        Ok(self.jobs(number.saturating_add(1), 1).await?.into_iter().find(|job| job.number == number))
    }

    /// Reads the newest jobs before a number, the newest first.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn jobs(&self, before: i64, limit: i64) -> Result<Vec<Job>, ReadModelError> {
        let mut connection = self.acquire("jobs").await?;
        let statement =
            sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM jobs WHERE number < $1 ORDER BY number DESC LIMIT $2"));
        let rows = sqlx::query(statement).bind(before).bind(limit).fetch_all(&mut connection).await?;
        Ok(rows.iter().map(Job::read).collect::<Result<_, _>>()?)
    }
}
