//! Dead letters: records that could not be folded, kept by where they are on the log.

use domain::state::{Changes, State};
use domain::{ConversationId, MessageId, OffsetAdvance, Position, Timestamp, UserId};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::commit::{CommitError, advance};
use crate::connection::{ReadModel, ReadModelError, WRITING, begin};
use crate::parking::storable;
use crate::rows;
use crate::write::write_rows;

/// What is to be done about a dead letter, or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterStatus {
    /// Nothing happens until somebody decides.
    Parked,
    /// A projector is to try it again.
    #[serde(rename = "wanted")]
    RetryRequested,
    /// It was folded, and the caches have to be told.
    #[serde(rename = "folded_untold")]
    FoldedPendingInvalidation,
    /// It was folded.
    Folded,
    /// Somebody decided that nothing is to be done about it.
    Discarded,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it is.
    pub position: Position,
    /// What is wrong with it; once it was folded, what was.
    pub reason: String,
    /// When it was parked.
    pub parked_at: Timestamp,
    /// What is to be done about it.
    pub status: DeadLetterStatus,
    /// When that was decided.
    pub changed_at: Timestamp,
    /// Of which conversation it turned out to be, once it was folded.
    pub conversation_id: Option<ConversationId>,
    /// Why it was discarded.
    pub note: Option<String>,
}

/// What readers may have cached of a conversation: all of its messages and participants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConversationContents {
    /// The messages.
    pub messages: Vec<MessageId>,
    /// The participants.
    pub users: Vec<UserId>,
}

/// A conversation that was folded again from the log.
#[derive(Debug)]
pub struct RefoldedConversation<'a> {
    /// Which.
    pub conversation: ConversationId,
    /// All of it, and nothing else.
    pub state: &'a State,
    /// The same as changes: everything is new.
    pub changes: &'a Changes,
    /// Where its events are: those among them that were dead letters no longer are.
    pub events: &'a [Position],
    /// The partition, at the offset up to which it was folded.
    pub at: OffsetAdvance,
    /// Who folds: it must still have the lease.
    pub owner: &'a str,
}

impl ReadModel {
    /// Dead letters of a topic in the order of the log; without `all`, those about which something is to be done.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn dead_letters(&self, topic_id: Uuid, all: bool) -> Result<Vec<DeadLetter>, ReadModelError> {
        let (pool, _timer) = self.pool("dead_letters");
        let rows = sqlx::query(
            "SELECT * FROM dead_letters WHERE topic_id = $1 AND ($2 OR status NOT IN ('folded', 'discarded'))
             ORDER BY partition, position",
        )
        .bind(topic_id)
        .bind(all)
        .fetch_all(pool)
        .await?;
        Ok(rows.iter().map(letter).collect::<Result<_, _>>()?)
    }

    /// The dead letter at a position, if there is one.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn dead_letter(&self, topic_id: Uuid, at: Position) -> Result<Option<DeadLetter>, ReadModelError> {
        let (pool, _timer) = self.pool("dead_letter");
        let row = sqlx::query("SELECT * FROM dead_letters WHERE topic_id = $1 AND partition = $2 AND position = $3")
            .bind(topic_id)
            .bind(at.partition)
            .bind(at.offset)
            .fetch_optional(pool)
            .await?;
        Ok(row.as_ref().map(letter).transpose()?)
    }

    /// How many there are on these partitions about which something is to be done.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn count_dead_letters(&self, topic_id: Uuid, partitions: &[i32]) -> Result<i64, ReadModelError> {
        let (pool, _timer) = self.pool("count_dead_letters");
        let row = sqlx::query(
            "SELECT count(*) AS open FROM dead_letters
             WHERE topic_id = $1 AND partition = ANY($2) AND status NOT IN ('folded', 'discarded')",
        )
        .bind(topic_id)
        .bind(partitions)
        .fetch_one(pool)
        .await?;
        Ok(row.try_get("open")?)
    }

    /// The first dead letter on these partitions that a projector has to do something about.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn next_dead_letter(
        &self,
        topic_id: Uuid,
        partitions: &[i32],
    ) -> Result<Option<DeadLetter>, ReadModelError> {
        let (pool, _timer) = self.pool("next_dead_letter");
        let row = sqlx::query(
            "SELECT * FROM dead_letters
             WHERE topic_id = $1 AND partition = ANY($2) AND status IN ('wanted', 'folded_untold')
             ORDER BY partition, position LIMIT 1",
        )
        .bind(topic_id)
        .bind(partitions)
        .fetch_optional(pool)
        .await?;
        Ok(row.as_ref().map(letter).transpose()?)
    }

    /// Decides about the dead letter at a position; false where there is none of which that can be said. One that is
    /// discarded needs a note that says why. One that stays parked may have another reason.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn decide_dead_letter(
        &self,
        topic_id: Uuid,
        at: Position,
        status: DeadLetterStatus,
        text: Option<&str>,
    ) -> Result<bool, ReadModelError> {
        let from: &[&str] = match status {
            DeadLetterStatus::Parked | DeadLetterStatus::FoldedPendingInvalidation => &["wanted"],
            DeadLetterStatus::RetryRequested => &["parked", "wanted", "discarded"],
            DeadLetterStatus::Folded => &["folded_untold"],
            DeadLetterStatus::Discarded => &["parked"],
        };
        let discarded = status == DeadLetterStatus::Discarded;
        let (pool, _timer) = self.pool("decide_dead_letter");
        let mut transaction = begin(pool, WRITING).await?;
        // Unlike rows that are folded, a decision isn't on the log.
        sqlx::query("SET LOCAL synchronous_commit = on").execute(&mut *transaction).await?;
        let decided = sqlx::query(
            "UPDATE dead_letters SET status = $4, changed_at = now(), note = CASE WHEN $6 THEN $5 END,
                 reason = CASE WHEN $6 THEN reason ELSE coalesce($5, reason) END
             WHERE topic_id = $1 AND partition = $2 AND position = $3 AND status = ANY($7)",
        )
        .bind(topic_id)
        .bind(at.partition)
        .bind(at.offset)
        .bind(rows::to_word(status))
        .bind(text.map(storable))
        .bind(discarded)
        .bind(from)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(decided.rows_affected() > 0)
    }

    /// The offset of the first event that was folded of a conversation, if any was.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn first_event(&self, conversation: ConversationId) -> Result<Option<i64>, ReadModelError> {
        let (pool, _timer) = self.pool("first_event");
        let row = sqlx::query("SELECT min(position) AS first FROM applied_events WHERE conversation_id = $1")
            .bind(conversation.0)
            .fetch_one(pool)
            .await?;
        Ok(row.try_get("first")?)
    }

    /// Puts a conversation that was folded again in the place of what there was of it.
    ///
    /// # Errors
    /// [`CommitError::Fenced`] when the read model is elsewhere, or somebody else has the lease.
    pub async fn replace_conversation(
        &self,
        it: &RefoldedConversation<'_>,
        topic_id: Uuid,
        generation: i64,
    ) -> Result<(), CommitError> {
        let (pool, _timer) = self.pool("replace");
        let mut transaction = begin(pool, WRITING).await?;
        if !advance(&mut transaction, &[it.at], topic_id, generation).await? {
            return Err(CommitError::Fenced);
        }
        // The offset stays where it is: another owner who has read the old rows would not notice. It waits here.
        let leased = sqlx::query("SELECT 1 FROM leases WHERE partition = $1 AND owner = $2 FOR SHARE")
            .bind(it.at.partition)
            .bind(it.owner)
            .fetch_optional(&mut *transaction)
            .await?;
        if leased.is_none() {
            return Err(CommitError::Fenced);
        }
        for delete in [
            "DELETE FROM conversations WHERE id = $1",
            "DELETE FROM members WHERE conversation_id = $1",
            "DELETE FROM messages WHERE conversation_id = $1",
            "DELETE FROM reactions WHERE conversation_id = $1",
            "DELETE FROM applied_events WHERE conversation_id = $1",
        ] {
            sqlx::query(delete).bind(it.conversation.0).execute(&mut *transaction).await?;
        }
        write_rows(&mut transaction, it.state, it.changes).await?;
        sqlx::query(
            "UPDATE dead_letters SET status = 'folded_untold', changed_at = now(), conversation_id = $4, note = NULL
             WHERE topic_id = $1 AND partition = $2 AND position = ANY($3) AND status <> 'folded'",
        )
        .bind(topic_id)
        .bind(it.at.partition)
        .bind(it.events.iter().map(|position| position.offset).collect::<Vec<_>>())
        .bind(it.conversation.0)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Everything in a conversation that readers may have cached.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn conversation_contents(
        &self,
        conversation: ConversationId,
    ) -> Result<ConversationContents, ReadModelError> {
        let (pool, _timer) = self.pool("contents");
        let messages = sqlx::query("SELECT id FROM messages WHERE conversation_id = $1");
        let messages = messages.bind(conversation.0).fetch_all(pool).await?;
        let users = sqlx::query("SELECT user_id FROM members WHERE conversation_id = $1");
        let users = users.bind(conversation.0).fetch_all(pool).await?;
        Ok(ConversationContents {
            messages: messages.iter().map(|row| row.try_get("id").map(MessageId)).collect::<Result<_, _>>()?,
            users: users.iter().map(|row| rows::user(row, "user_id")).collect::<Result<_, _>>()?,
        })
    }
}

fn letter(row: &PgRow) -> Result<DeadLetter, sqlx::Error> {
    Ok(DeadLetter {
        position: Position { partition: row.try_get("partition")?, offset: row.try_get("position")? },
        reason: row.try_get("reason")?,
        parked_at: rows::timestamp(row, "parked_at")?,
        status: rows::word(row, "status")?,
        changed_at: rows::timestamp(row, "changed_at")?,
        conversation_id: row.try_get::<Option<Uuid>, _>("conversation_id")?.map(ConversationId),
        note: row.try_get("note")?,
    })
}
