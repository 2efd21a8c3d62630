//! Which idempotency keys were used, as far as events are folded; and when some were used without a reservation in Redis.

use std::time::Duration;

use domain::{ConversationId, IdempotencyKey, Position, UserId};
use sqlx::Row;
use sqlx::postgres::PgRow;
use time::OffsetDateTime;

use crate::connection::{ReadModel, ReadModelError};

/// That a process used keys without reserving them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreserved {
    /// When that was last noted, by Postgres's clock.
    pub at: OffsetDateTime,
    /// How long ago that is.
    pub age: Duration,
}

impl Unreserved {
    fn of(row: &PgRow) -> Result<Option<Self>, sqlx::Error> {
        let (at, now): (Option<OffsetDateTime>, OffsetDateTime) = (row.try_get("noted_at")?, row.try_get("now")?);
        Ok(at.map(|at| Self { at, age: Duration::try_from(now - at).unwrap_or(Duration::ZERO) }))
    }
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUse {
    /// Where the event is that first used it; none when it is unused.
    pub first: Option<Position>,
    /// When keys were last used without a reservation, if ever.
    pub unreserved: Option<Unreserved>,
}

impl ReadModel {
    /// What is known of a key.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn key_use(
        &self,
        conversation: ConversationId,
        actor: &UserId,
        key: &IdempotencyKey,
    ) -> Result<KeyUse, ReadModelError> {
        let (pool, _timer) = self.pool("key_use");
        let row = sqlx::query(
            "SELECT partition, position, noted_at, clock_timestamp() AS now
             FROM (SELECT) AS one LEFT JOIN unreserved ON true LEFT JOIN applied_events
                 ON conversation_id = $1 AND actor_id = $2 AND idempotency_key = $3",
        )
        .bind(conversation.0)
        .bind(actor.as_str())
        .bind(key.as_str())
        .fetch_one(pool)
        .await?;
        let (partition, offset): (Option<i32>, Option<i64>) = (row.try_get("partition")?, row.try_get("position")?);
        let first = partition.zip(offset).map(|(partition, offset)| Position { partition, offset });
        Ok(KeyUse { first, unreserved: Unreserved::of(&row)? })
    }

    /// When keys were last used without a reservation, if ever.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn unreserved(&self) -> Result<Option<Unreserved>, ReadModelError> {
        let (pool, _timer) = self.pool("unreserved");
        let row = sqlx::query("SELECT noted_at, clock_timestamp() AS now FROM unreserved").fetch_optional(pool).await?;
        Ok(row.as_ref().map(Unreserved::of).transpose()?.flatten())
    }

    /// Notes that keys are used without a reservation from now on.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn note_unreserved(&self) -> Result<(), ReadModelError> {
        let (pool, _timer) = self.pool("note_unreserved");
        sqlx::query(
            "INSERT INTO unreserved (noted_at) VALUES (clock_timestamp())
             ON CONFLICT (singleton) DO UPDATE SET noted_at = greatest(unreserved.noted_at, excluded.noted_at)",
        )
        .execute(pool)
        .await?;
        Ok(())
    }
}
