//! The small reads of commands and realtime: facts about messages, participants and memberships.

use domain::facts::MessageFacts;
use domain::{ConversationId, MessageId, PositionVector, UserId};
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::postgres::PgRow;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::connection::ReadModel;
use crate::error::ReadModelError;
use crate::queries::Snapshot;
use crate::rows;

/// A conversation that a user is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    /// The conversation's id.
    pub conversation_id: ConversationId,
    /// How many participants it has.
    pub participant_count: i64,
}

impl ReadModel {
    /// Reads what a command needs to know about a message; none if no such message exists.
    pub async fn message_facts(&self, id: MessageId) -> Result<Snapshot<Option<MessageFacts>>, ReadModelError> {
        // One statement sees one snapshot. It reads the offsets first, because `reset` locks the tables in this order.
        let (row, offsets) = self
            .row_and_offsets(
                "message_facts",
                "SELECT offsets, generation, messages.id, conversation_id, sender_id,
                        attachments <> '[]' AS has_attachments, deleted_at,
                        ARRAY(SELECT emoji FROM reactions
                              WHERE reactions.conversation_id = messages.conversation_id AND message_id = messages.id
                              ORDER BY ordinal) AS emoji
                 FROM (SELECT array_agg(next_offset ORDER BY partition) AS offsets, min(generation) AS generation
                       FROM partitions) AS progress
                 LEFT JOIN messages ON messages.id = $1 LIMIT 1",
                id.0,
            )
            .await?;
        let facts = row.try_get::<Option<Uuid>, _>("id")?.map(|_| {
            Ok::<_, sqlx::Error>(MessageFacts {
                id,
                conversation_id: ConversationId(row.try_get("conversation_id")?),
                sender_id: rows::user(&row, "sender_id")?,
                has_attachments: row.try_get("has_attachments")?,
                deleted_at: rows::optional_timestamp(&row, "deleted_at")?,
                emoji: row.try_get("emoji")?,
            })
        });
        Ok(Snapshot { value: facts.transpose()?, offsets })
    }

    /// Lists the participants of a conversation in their order; none if no such conversation exists.
    pub async fn participants(&self, id: ConversationId) -> Result<Snapshot<Option<Vec<UserId>>>, ReadModelError> {
        let (row, offsets) = self
            .row_and_offsets(
                "participants",
                "SELECT offsets, generation,
                        ARRAY(SELECT user_id FROM members WHERE conversation_id = $1 ORDER BY ordinal) AS users
                 FROM (SELECT array_agg(next_offset ORDER BY partition) AS offsets, min(generation) AS generation
                       FROM partitions) AS progress",
                id.0,
            )
            .await?;
        let users = rows::users(&row, "users")?;
        Ok(Snapshot { value: (!users.is_empty()).then_some(users), offsets })
    }

    /// Runs a statement with one parameter, whose row also has the offsets that it includes, and their generation.
    async fn row_and_offsets(
        &self,
        operation: &'static str,
        statement: &'static str,
        id: Uuid,
    ) -> Result<(PgRow, PositionVector), ReadModelError> {
        self.read_live(|| async {
            let mut connection = self.acquire(operation).await?;
            let row = sqlx::query(statement).bind(id).fetch_one(&mut connection).await?;
            connection.ensure_live(row.try_get("generation")?)?;
            let offsets = row.try_get::<Option<Vec<i64>>, _>("offsets")?;
            // There are none before a projector first ran.
            Ok((row, PositionVector(offsets.unwrap_or_default())))
        })
        .await
    }

    /// Lists the conversations that a user is in, in no particular order.
    pub async fn memberships(&self, user: &UserId) -> Result<Snapshot<Vec<Membership>>, ReadModelError> {
        let (mut transaction, offsets) = self.snapshot("memberships").await?;
        let rows = sqlx::query(
            "SELECT conversation_id, participant_count FROM members
             JOIN conversations ON conversations.id = conversation_id WHERE user_id = $1",
        )
        .bind(user.as_str())
        .fetch_all(&mut transaction)
        .await?;
        transaction.commit().await?;
        let membership = |row: &sqlx::postgres::PgRow| {
            Ok::<_, sqlx::Error>(Membership {
                conversation_id: ConversationId(row.try_get("conversation_id")?),
                participant_count: row.try_get("participant_count")?,
            })
        };
        let value = rows.iter().map(membership).collect::<Result<Vec<_>, _>>()?;
        Ok(Snapshot { value, offsets })
    }

    /// Which of these people share a conversation with a user. For each of them, Postgres stops at the first one.
    pub async fn acquaintances(&self, user: &UserId, people: &[UserId]) -> Result<Vec<UserId>, ReadModelError> {
        let mut connection = self.acquire("acquaintances").await?;
        let people: Vec<&str> = people.iter().map(UserId::as_str).collect();
        let rows = sqlx::query(
            "SELECT user_id FROM unnest($2::text[]) AS people (user_id)
             WHERE EXISTS (SELECT FROM members AS theirs
                 JOIN members AS mine ON mine.conversation_id = theirs.conversation_id AND mine.user_id = $1
                 WHERE theirs.user_id = people.user_id)",
        )
        .bind(user.as_str())
        .bind(people)
        .fetch_all(&mut connection)
        .await?;
        Ok(rows.iter().map(|row| rows::user(row, "user_id")).collect::<Result<_, _>>()?)
    }

    /// Lists the participants of those of these conversations that are small. When a small conversation changes, so
    /// does the list of conversations of each of its participants.
    pub async fn members_of_small(&self, conversations: &[ConversationId]) -> Result<Vec<UserId>, ReadModelError> {
        if conversations.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.acquire("members_of").await?;
        let ids: Vec<Uuid> = conversations.iter().map(|id| id.0).collect();
        let rows = sqlx::query(
            "SELECT DISTINCT user_id FROM members WHERE conversation_id = ANY($1) AND recent_at IS NOT NULL",
        )
        .bind(ids)
        .fetch_all(&mut connection)
        .await?;
        Ok(rows.iter().map(|row| rows::user(row, "user_id")).collect::<Result<_, _>>()?)
    }
}
