//! Dead letters: the records that the projector couldn't fold, by their position on the log. The record itself stays on
//! the log; Postgres stores only why it is a dead letter, and what happens to it.
//!
//! A dead letter is *open* until it is folded or discarded. Its status changes like this, and in no other way:
//!
//! | From | To | Who changes it, and why |
//! |---|---|---|
//! | – | `Parked` | The projector can't fold the record ([`ReadModel::commit`]). |
//! | `Parked`, `RetryRequested`, `Discarded` | `RetryRequested` | An operator requests a retry. |
//! | `RetryRequested` | `Parked` | The projector still can't fold the record, and states the new reason. |
//! | any but `Folded` | `FoldedPendingInvalidation` | The projector has folded the conversation again, with the record. |
//! | `FoldedPendingInvalidation` | `Folded` | The projector has invalidated the cached views of the conversation. |
//! | `Parked` | `Discarded` | An operator decides that nothing is to be done, and notes why. |

use crate::pool::PooledConnection;
use domain::state::{Changes, State};
use domain::{ConversationId, OffsetAdvance, Position, Timestamp};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::commit::{CommitError, advance_offsets};
use crate::connection::{READ_WRITE, ReadModel};
use crate::error::ReadModelError;
use crate::parking::{DeadLetterStatus, storable_text};
use crate::projection::Projection;
use crate::repairs::{VisibleRows, record_repair};
use crate::rows;
use crate::write::{MAX_ROWS_PER_STATEMENT, write_rows};

/// A record that the projector couldn't fold, and what has happened to it since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record's position on the log.
    pub position: Position,
    /// Why the projector couldn't fold it at the last attempt.
    pub reason: String,
    /// When a projector first parked it.
    pub parked_at: Timestamp,
    /// What happens to it next.
    pub status: DeadLetterStatus,
    /// When the status last changed.
    pub changed_at: Timestamp,
    /// The conversation of the event, once it is folded.
    pub conversation_id: Option<ConversationId>,
    /// Why an operator discarded it.
    pub note: Option<String>,
}

impl DeadLetter {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            position: Position { partition: row.try_get("partition")?, offset: row.try_get("position")? },
            reason: row.try_get("reason")?,
            parked_at: rows::timestamp(row, "parked_at")?,
            status: rows::enum_value(row, "status")?,
            changed_at: rows::timestamp(row, "changed_at")?,
            conversation_id: row.try_get::<Option<Uuid>, _>("conversation_id")?.map(ConversationId),
            note: row.try_get("note")?,
        })
    }
}

/// A conversation that a projector has folded again from the log.
#[derive(Debug)]
pub struct RefoldedConversation<'a> {
    /// The conversation's id.
    pub conversation: ConversationId,
    /// The whole conversation, and nothing else.
    pub state: &'a State,
    /// The changes from an empty state to `state`.
    pub changes: &'a Changes,
    /// The positions of its events. Dead letters among them become folded.
    pub events: &'a [Position],
    /// The partition, and the next offset up to which the conversation is folded, as `from` and as `to`.
    pub offset: OffsetAdvance,
    /// The projector that folds. It must still own the partition's lease.
    pub owner: &'a str,
}

/// What there is to do on some partitions besides folding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upkeep {
    /// How many dead letters are open.
    pub open_dead_letters: i64,
    /// Whether an operator wants conversations to be made anew.
    pub has_requests: bool,
    /// The number of the last repair, on any partition; 0 if there is none.
    pub last_repair: i64,
}

impl ReadModel {
    /// Lists the dead letters of a topic in the order of the log: all of them, or only the open ones. At most `limit`, after
    /// a position if there is one.
    pub async fn dead_letters(
        &self,
        topic_id: Uuid,
        all: bool,
        after: Option<Position>,
        limit: i64,
    ) -> Result<Vec<DeadLetter>, ReadModelError> {
        let mut connection = self.acquire("dead_letters").await?;
        let after = after.unwrap_or(Position { partition: -1, offset: -1 });
        let rows = sqlx::query(
            "SELECT * FROM dead_letters WHERE topic_id = $1 AND ($2 OR status NOT IN ('folded', 'discarded'))
                 AND (partition, position) > ($3, $4)
             ORDER BY partition, position LIMIT $5",
        )
        .bind(topic_id)
        .bind(all)
        .bind(after.partition)
        .bind(after.offset)
        .bind(limit)
        .fetch_all(&mut connection)
        .await?;
        Ok(rows.iter().map(DeadLetter::read).collect::<Result<_, _>>()?)
    }

    /// Reads the dead letter at a position, if the record there is one.
    pub async fn dead_letter(&self, topic_id: Uuid, position: Position) -> Result<Option<DeadLetter>, ReadModelError> {
        let mut connection = self.acquire("dead_letter").await?;
        let row = sqlx::query("SELECT * FROM dead_letters WHERE topic_id = $1 AND partition = $2 AND position = $3")
            .bind(topic_id)
            .bind(position.partition)
            .bind(position.offset)
            .fetch_optional(&mut connection)
            .await?;
        Ok(row.as_ref().map(DeadLetter::read).transpose()?)
    }

    /// Reads what there is to do on these partitions besides folding.
    pub async fn upkeep(&self, topic_id: Uuid, partitions: &[i32]) -> Result<Upkeep, ReadModelError> {
        let mut connection = self.acquire("upkeep").await?;
        let row = sqlx::query(
            "SELECT count(*) AS open, EXISTS (
                 SELECT FROM conversation_rebuilds WHERE partition = ANY($2) AND status <> 'failed') AS has_requests,
                 (SELECT max(number) FROM repairs) AS last_repair
             FROM dead_letters
             WHERE topic_id = $1 AND partition = ANY($2) AND status NOT IN ('folded', 'discarded')",
        )
        .bind(topic_id)
        .bind(partitions)
        .fetch_one(&mut connection)
        .await?;
        Ok(Upkeep {
            open_dead_letters: row.try_get("open")?,
            has_requests: row.try_get("has_requests")?,
            last_repair: row.try_get::<Option<i64>, _>("last_repair")?.unwrap_or(0),
        })
    }

    /// Reads the first dead letter on these partitions that the projector has to retry, or whose cached views it has to
    /// invalidate.
    pub async fn next_dead_letter(
        &self,
        topic_id: Uuid,
        partitions: &[i32],
    ) -> Result<Option<DeadLetter>, ReadModelError> {
        let mut connection = self.acquire("next_dead_letter").await?;
        let row = sqlx::query(
            "SELECT * FROM dead_letters
             WHERE topic_id = $1 AND partition = ANY($2) AND status IN ('wanted', 'folded_untold')
             ORDER BY partition, position LIMIT 1",
        )
        .bind(topic_id)
        .bind(partitions)
        .fetch_optional(&mut connection)
        .await?;
        Ok(row.as_ref().map(DeadLetter::read).transpose()?)
    }

    /// Changes the status of the dead letter at a position. `text` is the note for `Discarded`, which needs one, and
    /// otherwise the new reason, if there is one. False if no dead letter at the position has a status that can change
    /// so: the table in the module's documentation lists the changes.
    pub async fn set_dead_letter_status(
        &self,
        topic_id: Uuid,
        position: Position,
        status: DeadLetterStatus,
        text: Option<&str>,
    ) -> Result<bool, ReadModelError> {
        let from: &[&str] = match status {
            DeadLetterStatus::Parked | DeadLetterStatus::FoldedPendingInvalidation => &["wanted"],
            DeadLetterStatus::RetryRequested => &["parked", "wanted", "discarded"],
            DeadLetterStatus::Folded => &["folded_untold"],
            DeadLetterStatus::Discarded => &["parked"],
        };
        let text_is_note = status == DeadLetterStatus::Discarded;
        let mut transaction = self.begin("decide_dead_letter", READ_WRITE).await?;
        // Unlike folded rows, a status isn't on the log: Postgres must not lose it in a crash.
        sqlx::query("SET LOCAL synchronous_commit = on").execute(&mut transaction).await?;
        let updated = sqlx::query(
            "UPDATE dead_letters SET status = $4, changed_at = now(), note = CASE WHEN $6 THEN $5 END,
                 reason = CASE WHEN $6 THEN reason ELSE coalesce($5, reason) END
             WHERE topic_id = $1 AND partition = $2 AND position = $3 AND status = ANY($7)",
        )
        .bind(topic_id)
        .bind(position.partition)
        .bind(position.offset)
        .bind(rows::enum_text(status))
        .bind(text.map(storable_text))
        .bind(text_is_note)
        .bind(from)
        .execute(&mut transaction)
        .await?;
        transaction.commit().await?;
        Ok(updated.rows_affected() > 0)
    }

    /// Reads the offset of a conversation's first folded event; none if no event of it is folded.
    pub async fn first_event(&self, conversation: ConversationId) -> Result<Option<i64>, ReadModelError> {
        let mut connection = self.acquire("first_event").await?;
        let row = sqlx::query("SELECT min(position) AS first FROM applied_events WHERE conversation_id = $1")
            .bind(conversation.0)
            .fetch_one(&mut connection)
            .await?;
        Ok(row.try_get("first")?)
    }

    /// Replaces the rows of a conversation with those of its new fold, and sets the dead letters among its events to
    /// `FoldedPendingInvalidation`, and a request to make it anew to `Replaced`.
    ///
    /// # Errors
    /// [`CommitError::Held`] when somebody holds the partition's row; [`CommitError::Fenced`] when the partition is at
    /// another offset or holds another projection, or when the projector no longer owns the lease.
    pub async fn replace_conversation(
        &self,
        refolded: &RefoldedConversation<'_>,
        projection: Projection,
    ) -> Result<(), CommitError> {
        let mut transaction = self.begin("replace", READ_WRITE).await?;
        if let Err(error) = advance_offsets(&mut transaction, &[refolded.offset], projection).await {
            transaction.rollback().await?;
            return Err(error);
        }
        // The offset doesn't move, so the offsets alone can't fence off a new owner that has loaded the old rows. The
        // row lock makes a new owner wait here before it takes the lease.
        let leased = sqlx::query("SELECT 1 FROM leases WHERE partition = $1 AND owner = $2 FOR SHARE")
            .bind(refolded.offset.partition)
            .bind(refolded.owner)
            .fetch_optional(&mut transaction)
            .await?;
        if leased.is_none() {
            return Err(CommitError::Fenced);
        }
        let before = VisibleRows::read(&mut transaction, refolded.conversation).await?;
        delete_conversation(&mut transaction, refolded.conversation).await?;
        write_rows(&mut transaction, refolded.state, refolded.changes).await?;
        let after = VisibleRows::read(&mut transaction, refolded.conversation).await?;
        sqlx::query(
            "UPDATE dead_letters SET status = 'folded_untold', changed_at = now(), conversation_id = $4, note = NULL
             WHERE topic_id = $1 AND partition = $2 AND position = ANY($3) AND status <> 'folded'",
        )
        .bind(projection.topic_id)
        .bind(refolded.offset.partition)
        .bind(refolded.events.iter().map(|position| position.offset).collect::<Vec<_>>())
        .bind(refolded.conversation.0)
        .execute(&mut transaction)
        .await?;
        sqlx::query("UPDATE conversation_rebuilds SET status = 'replaced' WHERE conversation_id = $1")
            .bind(refolded.conversation.0)
            .execute(&mut transaction)
            .await?;
        record_repair(&mut transaction, refolded.conversation, &before, &after).await?;
        Ok(transaction.commit().await?)
    }
}

/// Deletes every row of a conversation, with statements that delete a bounded number of rows each.
async fn delete_conversation(connection: &mut PooledConnection, id: ConversationId) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM conversations WHERE id = $1").bind(id.0).execute(&mut *connection).await?;
    for delete in [
        "DELETE FROM members WHERE conversation_id = $1 AND user_id IN (
             SELECT user_id FROM members WHERE conversation_id = $1 LIMIT $2)",
        "DELETE FROM messages WHERE conversation_id = $1 AND seq IN (
             SELECT seq FROM messages WHERE conversation_id = $1 LIMIT $2)",
        "DELETE FROM reactions WHERE conversation_id = $1 AND message_id IN (
             SELECT message_id FROM reactions WHERE conversation_id = $1 LIMIT $2)",
        "DELETE FROM applied_events WHERE conversation_id = $1 AND event_id IN (
             SELECT event_id FROM applied_events WHERE conversation_id = $1 LIMIT $2)",
    ] {
        let mut deleted = 1;
        while deleted > 0 {
            let rows = sqlx::query(delete).bind(id.0).bind(MAX_ROWS_PER_STATEMENT as i64);
            deleted = rows.execute(&mut *connection).await?.rows_affected();
        }
    }
    Ok(())
}
