//! Which idempotency keys the folded events used, and when processes last used keys without reserving them in Redis.
//!
//! The read model knows only folded events: a key that is absent here may still be on the log. This module must never
//! claim that a key is unused.

use std::time::Duration;

use domain::{ConversationId, IdempotencyKey, Position, UserId};
use sqlx::Row;
use sqlx::postgres::PgRow;
use time::OffsetDateTime;

use crate::connection::ReadModel;
use crate::error::ReadModelError;

/// The announcement of a process that can't reach Redis and uses idempotency keys without reserving them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedisOutage {
    /// When a process last announced it, by Postgres's clock.
    pub at: OffsetDateTime,
    /// How long ago that was.
    pub age: Duration,
}

/// What decides, besides the key itself, whether a key is unused that the read model doesn't know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyConditions {
    /// The generation of the projection: the read model of a new one knows no key at first. None before a projector
    /// first ran.
    pub generation: Option<i64>,
    /// The last announced outage of Redis, if there ever was one.
    pub outage: Option<RedisOutage>,
}

impl KeyConditions {
    fn of(row: &PgRow) -> Result<Self, sqlx::Error> {
        let (at, now): (Option<OffsetDateTime>, OffsetDateTime) = (row.try_get("noted_at")?, row.try_get("now")?);
        let outage = at.map(|at| RedisOutage { at, age: Duration::try_from(now - at).unwrap_or(Duration::ZERO) });
        Ok(Self { generation: row.try_get("generation")?, outage })
    }
}

/// What the read model knows of an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUse {
    /// The position of the event that used the key first; none if no folded event used it.
    pub first: Option<Position>,
    /// What decides whether it is unused then.
    pub conditions: KeyConditions,
}

impl ReadModel {
    /// Looks up the first use of a key, and what decides whether an unknown one is unused, in one query.
    pub async fn key_use(
        &self,
        conversation: ConversationId,
        actor: &UserId,
        key: &IdempotencyKey,
    ) -> Result<KeyUse, ReadModelError> {
        let row = self
            .read_live(|| async {
                let mut connection = self.acquire("key_use").await?;
                let row = sqlx::query(
                    "SELECT partition, position, noted_at, generation, clock_timestamp() AS now,
                            (SELECT min(generation) FROM partitions) AS found_generation
                     FROM (SELECT) AS one LEFT JOIN unreserved ON true LEFT JOIN projection ON true
                     LEFT JOIN applied_events ON conversation_id = $1 AND actor_id = $2 AND idempotency_key = $3",
                )
                .bind(conversation.0)
                .bind(actor.as_str())
                .bind(key.as_str())
                .fetch_one(&mut connection)
                .await?;
                connection.ensure_live(row.try_get("found_generation")?)?;
                Ok(row)
            })
            .await?;
        let (partition, offset): (Option<i32>, Option<i64>) = (row.try_get("partition")?, row.try_get("position")?);
        let first = partition.zip(offset).map(|(partition, offset)| Position { partition, offset });
        Ok(KeyUse { first, conditions: KeyConditions::of(&row)? })
    }

    /// Reads what decides whether a key is unused that the read model doesn't know.
    pub async fn key_conditions(&self) -> Result<KeyConditions, ReadModelError> {
        let mut connection = self.acquire("unreserved").await?;
        let query = sqlx::query(
            "SELECT noted_at, generation, clock_timestamp() AS now
             FROM (SELECT) AS one LEFT JOIN unreserved ON true LEFT JOIN projection ON true",
        );
        Ok(KeyConditions::of(&query.fetch_one(&mut connection).await?)?)
    }

    /// Announces to all processes that this one uses keys without reserving them from now on.
    pub async fn announce_redis_outage(&self) -> Result<(), ReadModelError> {
        let mut connection = self.acquire("note_unreserved").await?;
        sqlx::query(
            "INSERT INTO unreserved (noted_at) VALUES (clock_timestamp())
             ON CONFLICT (singleton) DO UPDATE SET noted_at = greatest(unreserved.noted_at, excluded.noted_at)",
        )
        .execute(&mut connection)
        .await?;
        Ok(())
    }
}
