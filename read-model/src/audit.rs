//! The audit: what admins did, and what came of it. It isn't folded from the log, so a rebuild keeps it, and only a backup
//! of Postgres can bring it back.
//!
//! An action has a row before it begins, and another one with its outcome. Nobody can change or delete a row: Postgres
//! refuses that. An action without an outcome was under way when its process
//! ended, or Postgres failed.

use domain::{Timestamp, UserId};
use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::PgRow;
use utoipa::ToSchema;

use crate::connection::{READ_WRITE, ReadModel};
use crate::error::ReadModelError;
use crate::parking::storable_text;
use crate::rows;

/// An action that is about to begin.
#[derive(Debug, Clone, Copy)]
pub struct AuditedAction<'a> {
    /// The admin.
    pub actor: &'a UserId,
    /// What they do, such as `discard-dead-letter`.
    pub action: &'static str,
    /// To what, such as `3:42`.
    pub target: &'a str,
    /// Why, if they said so.
    pub reason: Option<&'a str>,
    /// The `X-Request-Id` of what they sent.
    pub request_id: &'a str,
}

/// The number of an action whose outcome isn't written yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an action needs an outcome"]
pub struct AuditNumber(i64);

/// An action of an admin, with its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Increases with time.
    pub number: i64,
    /// When the action began.
    pub at: Timestamp,
    /// The admin.
    pub actor: String,
    /// What they did, such as `discard-dead-letter`.
    pub action: String,
    /// To what, such as `3:42`.
    pub target: String,
    /// Why, if they said so.
    #[schema(required)]
    pub reason: Option<String>,
    /// The id of their request. The server's log has it, too.
    pub request_id: String,
    /// What came of it. Null if that isn't known: the action is under way, or its process ended in the middle.
    #[schema(required)]
    pub outcome: Option<String>,
}

impl AuditEntry {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            number: row.try_get("number")?,
            at: rows::timestamp(row, "at")?,
            actor: row.try_get("actor")?,
            action: row.try_get("action")?,
            target: row.try_get("target")?,
            reason: row.try_get("reason")?,
            request_id: row.try_get("request_id")?,
            outcome: row.try_get("outcome")?,
        })
    }
}

impl ReadModel {
    /// Writes that an action begins. It may begin only if this succeeds. None if the admin has begun `actions_max` actions
    /// within a minute.
    ///
    /// # Errors
    /// When Postgres doesn't take the row for good.
    pub async fn begin_audited(
        &self,
        action: AuditedAction<'_>,
        actions_max: i64,
    ) -> Result<Option<AuditNumber>, ReadModelError> {
        let AuditedAction { actor, action, target, reason, request_id } = action;
        let mut transaction = self.begin("begin_audited", READ_WRITE).await?;
        // Nothing can bring the row back that a crash loses.
        sqlx::query("SET LOCAL synchronous_commit = on").execute(&mut transaction).await?;
        let row = sqlx::query(
            "INSERT INTO audit (actor, action, target, reason, request_id) SELECT $1, $2, $3, $4, $5
             WHERE (SELECT count(*) FROM audit WHERE actor = $1 AND outcome_of IS NULL
                        AND at > now() - interval '1 minute') < $6
             RETURNING number",
        );
        let row = row.bind(actor.as_str()).bind(action).bind(storable_text(target)).bind(reason.map(storable_text));
        let row = row.bind(request_id).bind(actions_max).fetch_optional(&mut transaction).await?;
        transaction.commit().await?;
        Ok(row.map(|row| row.try_get("number")).transpose()?.map(AuditNumber))
    }

    /// Writes what came of an action.
    ///
    /// # Errors
    /// When Postgres doesn't take the row. The action then has no outcome, although it is over.
    pub async fn note_outcome(&self, AuditNumber(number): AuditNumber, outcome: &str) -> Result<(), ReadModelError> {
        let mut transaction = self.begin("note_outcome", READ_WRITE).await?;
        sqlx::query("SET LOCAL synchronous_commit = on").execute(&mut transaction).await?;
        sqlx::query(
            "INSERT INTO audit (actor, action, target, reason, request_id, outcome_of, outcome)
             SELECT actor, action, target, reason, request_id, number, $2 FROM audit WHERE number = $1",
        )
        .bind(number)
        .bind(storable_text(outcome))
        .execute(&mut transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Reads the newest actions before a number, the newest first.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn audit(&self, before: i64, limit: i64) -> Result<Vec<AuditEntry>, ReadModelError> {
        self.audit_page("number < $1 ORDER BY number DESC LIMIT $2", before, limit).await
    }

    /// Reads the oldest actions after a number, the oldest first.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn audit_after(&self, after: i64, limit: i64) -> Result<Vec<AuditEntry>, ReadModelError> {
        self.audit_page("number > $1 ORDER BY number LIMIT $2", after, limit).await
    }

    async fn audit_page(&self, page: &str, from: i64, limit: i64) -> Result<Vec<AuditEntry>, ReadModelError> {
        let mut connection = self.acquire("audit").await?;
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT action.*, (SELECT outcome FROM audit AS after WHERE after.outcome_of = action.number
                               ORDER BY number LIMIT 1) AS outcome
             FROM (SELECT number, at, actor, action, target, reason, request_id FROM audit
                   WHERE outcome_of IS NULL AND {page}) AS action"
        )));
        let rows = rows.bind(from).bind(limit).fetch_all(&mut connection).await?;
        Ok(rows.iter().map(AuditEntry::read).collect::<Result<_, _>>()?)
    }
}
