//! One conversation in a few numbers, for operators.

use domain::ConversationId;
use sqlx::Row;

use crate::connection::ReadModel;
use crate::error::ReadModelError;

/// What the read model knows of a conversation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConversationSummary {
    /// How many participants it has; 0 if there is no row for it.
    pub participants: i64,
    /// The offset of its first event that was folded.
    pub first_event: Option<i64>,
    /// The offset of the last one.
    pub last_event: Option<i64>,
}

impl ReadModel {
    /// Reads what the read model knows of a conversation. None if it has neither a row for it nor an event of it. Takes
    /// longer for a conversation with more events.
    pub async fn conversation_summary(
        &self,
        id: ConversationId,
    ) -> Result<Option<ConversationSummary>, ReadModelError> {
        let (mut transaction, _) = self.snapshot("conversation_summary").await?;
        let row = sqlx::query(
            "SELECT min(position) AS first, max(position) AS last,
                    (SELECT participant_count FROM conversations WHERE id = $1) AS participants
             FROM applied_events WHERE conversation_id = $1",
        )
        .bind(id.0)
        .fetch_one(&mut transaction)
        .await?;
        transaction.commit().await?;
        let participants: Option<i64> = row.try_get("participants")?;
        let (first_event, last_event): (Option<i64>, Option<i64>) = (row.try_get("first")?, row.try_get("last")?);
        let is_known = participants.is_some() || first_event.is_some();
        let summary = ConversationSummary { participants: participants.unwrap_or(0), first_event, last_event };
        Ok(is_known.then_some(summary))
    }
}
