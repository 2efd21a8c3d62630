//! What operators look at first: how far the read model is folded, its generations, its projectors and its dead letters.

use domain::{PositionVector, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::Row;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::connection::ReadModel;
use crate::error::ReadModelError;
use crate::health::{Leases, leases};
use crate::rows;

/// What a generation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GenerationStatus {
    /// Readers get its rows.
    Live,
    /// A rebuild makes it.
    Building,
    /// Another one has replaced it.
    Retired,
}

/// One making of the read model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GenerationState {
    /// The number: each rebuild takes the next one.
    pub generation: i64,
    /// What it is for.
    pub status: GenerationStatus,
    /// When its status last changed; null for the live one.
    #[schema(required)]
    pub changed_at: Option<Timestamp>,
}

/// The read model as a whole, from one state of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadModelOverview {
    /// The next offset of each partition; empty before a projector first ran.
    pub offsets: PositionVector,
    /// Its generations, the newest first; none before a projector first ran.
    pub generations: Vec<GenerationState>,
    /// Which partitions have a projector.
    pub leases: Leases,
    /// How many dead letters of the topic are neither folded nor discarded.
    pub open_dead_letters: i64,
}

impl ReadModel {
    /// Reads the read model as a whole. Its cost doesn't grow with the number of rows.
    pub async fn overview(&self, topic_id: Uuid) -> Result<ReadModelOverview, ReadModelError> {
        let (mut transaction, offsets) = self.snapshot("overview").await?;
        let generations = sqlx::query(
            "SELECT generation, 'live' AS status, NULL::timestamptz AS changed_at FROM projection
             UNION ALL SELECT generation, status, changed_at FROM generations ORDER BY generation DESC",
        );
        let generations = generations.fetch_all(&mut transaction).await?;
        let leases = leases(&mut transaction).await?;
        let open = sqlx::query(
            "SELECT count(*) AS open FROM dead_letters WHERE topic_id = $1 AND status NOT IN ('folded', 'discarded')",
        );
        let open_dead_letters = open.bind(topic_id).fetch_one(&mut transaction).await?.try_get("open")?;
        transaction.commit().await?;
        let generations = generations.iter().map(|row| {
            Ok::<_, sqlx::Error>(GenerationState {
                generation: row.try_get("generation")?,
                status: rows::enum_value(row, "status")?,
                changed_at: rows::optional_timestamp(row, "changed_at")?,
            })
        });
        Ok(ReadModelOverview {
            offsets,
            generations: generations.collect::<Result<_, _>>()?,
            leases,
            open_dead_letters,
        })
    }
}
