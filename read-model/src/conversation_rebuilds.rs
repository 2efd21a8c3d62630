//! Requests to make the rows of single conversations anew. The projector that owns the partition fulfils them: nobody else
//! knows which batches run.

use domain::{ConversationId, Timestamp};
use sqlx::Row;
use uuid::Uuid;

use crate::connection::ReadModel;
use crate::error::ReadModelError;
use crate::parking::storable_text;
use crate::rows;

/// What has become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConversationRebuildStatus {
    /// A projector is to do it.
    Requested,
    /// The rows are new. The projector has yet to invalidate the cached views of the conversation.
    Replaced,
    /// It could not be done.
    Failed,
}

/// A request that isn't fulfilled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationRebuild {
    /// Whose rows are to be made anew.
    pub conversation: ConversationId,
    /// The partition of its events.
    pub partition: i32,
    /// What has become of it.
    pub status: ConversationRebuildStatus,
    /// Why it failed.
    pub reason: Option<String>,
    /// When an operator last requested it.
    pub requested_at: Timestamp,
}

impl ConversationRebuild {
    fn read(row: &sqlx::postgres::PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            conversation: ConversationId(row.try_get::<Uuid, _>("conversation_id")?),
            partition: row.try_get("partition")?,
            status: rows::enum_value(row, "status")?,
            reason: row.try_get("reason")?,
            requested_at: rows::timestamp(row, "requested_at")?,
        })
    }
}

impl ReadModel {
    /// Requests that the rows of a conversation are made anew. `partition` is that of its events.
    pub async fn request_conversation_rebuild(
        &self,
        conversation: ConversationId,
        partition: i32,
    ) -> Result<(), ReadModelError> {
        let mut connection = self.acquire("request_conversation_rebuild").await?;
        sqlx::query(
            "INSERT INTO conversation_rebuilds (conversation_id, partition) VALUES ($1, $2)
             ON CONFLICT (conversation_id) DO UPDATE SET status = 'requested', reason = NULL, requested_at = now()",
        )
        .bind(conversation.0)
        .bind(partition)
        .execute(&mut connection)
        .await?;
        Ok(())
    }

    /// Reads the request for a conversation; none if there is none, or it is fulfilled.
    pub async fn conversation_rebuild(
        &self,
        conversation: ConversationId,
    ) -> Result<Option<ConversationRebuild>, ReadModelError> {
        let mut connection = self.acquire("conversation_rebuild").await?;
        let row = sqlx::query("SELECT * FROM conversation_rebuilds WHERE conversation_id = $1")
            .bind(conversation.0)
            .fetch_optional(&mut connection)
            .await?;
        Ok(row.as_ref().map(ConversationRebuild::read).transpose()?)
    }

    /// Reads the first request on these partitions that the projector has to go on with.
    pub async fn next_conversation_rebuild(
        &self,
        partitions: &[i32],
    ) -> Result<Option<ConversationRebuild>, ReadModelError> {
        let mut connection = self.acquire("next_conversation_rebuild").await?;
        let row = sqlx::query(
            "SELECT * FROM conversation_rebuilds WHERE partition = ANY($1) AND status <> 'failed'
             ORDER BY requested_at LIMIT 1",
        )
        .bind(partitions)
        .fetch_optional(&mut connection)
        .await?;
        Ok(row.as_ref().map(ConversationRebuild::read).transpose()?)
    }

    /// Notes that a request could not be fulfilled.
    pub async fn fail_conversation_rebuild(
        &self,
        conversation: ConversationId,
        reason: &str,
    ) -> Result<(), ReadModelError> {
        let mut connection = self.acquire("fail_conversation_rebuild").await?;
        sqlx::query("UPDATE conversation_rebuilds SET status = 'failed', reason = $2 WHERE conversation_id = $1")
            .bind(conversation.0)
            .bind(storable_text(reason))
            .execute(&mut connection)
            .await?;
        Ok(())
    }

    /// Notes that a request is fulfilled, and that the caches know.
    pub async fn finish_conversation_rebuild(&self, conversation: ConversationId) -> Result<(), ReadModelError> {
        let mut connection = self.acquire("finish_conversation_rebuild").await?;
        sqlx::query("DELETE FROM conversation_rebuilds WHERE conversation_id = $1 AND status = 'replaced'")
            .bind(conversation.0)
            .execute(&mut connection)
            .await?;
        Ok(())
    }
}
