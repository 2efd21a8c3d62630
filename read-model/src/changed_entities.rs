//! What changed on a partition since an offset, for the invalidation of cached views: in pages, each of which costs a
//! bounded number of rows, however much has changed and however large the conversations are.

use domain::{ConversationId, MessageId, UserId};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::connection::ReadModel;
use crate::error::ReadModelError;
use crate::rows;

/// How many conversations a page lists at most. The next pages list their messages and participants.
const CONVERSATIONS_PER_PAGE: i64 = 100;
/// How many messages or participants a page lists at most.
const ROWS_PER_PAGE: i64 = 1_000;

/// Where a page of changes begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangesCursor {
    partition: i32,
    /// The offset from which on changes count.
    since: i64,
    /// The next conversations to list are those that last changed at this offset or later.
    conversations_from: i64,
    stage: Stage,
}

/// What a page lists.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Conversations,
    Messages(PageStart),
    Participants(PageStart),
}

/// Where a page begins among the messages or participants of some conversations.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PageStart {
    conversations: Vec<Uuid>,
    /// The index of the conversation that comes next.
    index: usize,
    /// The offset of its next message, or the ordinal of its next participant.
    from: i64,
}

impl PageStart {
    fn remaining(&self) -> &[Uuid] {
        self.conversations.get(self.index..).unwrap_or_default()
    }

    /// Where the page after a full one begins; none after the last page. A row names its conversation by the number
    /// among the remaining ones, from 1, and its own offset or ordinal in `column`.
    fn after(&self, page: &[PgRow], column: &str) -> Result<Option<Self>, sqlx::Error> {
        let is_full = i64::try_from(page.len()).is_ok_and(|count| count == ROWS_PER_PAGE);
        let Some(last) = page.last().filter(|_| is_full) else { return Ok(None) };
        let number: i64 = last.try_get("number")?;
        let index = self.index + usize::try_from(number - 1).unwrap_or(0);
        Ok(Some(Self { conversations: self.conversations.clone(), index, from: last.try_get::<i64, _>(column)? + 1 }))
    }
}

impl ChangesCursor {
    /// Begins with everything that changed on a partition at an offset or later.
    pub fn since(partition: i32, since: i64) -> Self {
        Self { partition, since, conversations_from: since, stage: Stage::Conversations }
    }

    /// Everything in one conversation on a partition, whenever it changed.
    pub fn of_conversation(partition: i32, conversation: ConversationId) -> Self {
        let start = PageStart { conversations: vec![conversation.0], index: 0, from: 0 };
        Self { partition, since: 0, conversations_from: i64::MAX, stage: Stage::Messages(start) }
    }

    fn at(&self, stage: Stage) -> Self {
        Self { stage, ..self.clone() }
    }
}

/// A page of what changed on a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangedEntities {
    /// Conversations that have changed, or something in them.
    pub conversations: Vec<ConversationId>,
    /// Messages that have changed.
    pub messages: Vec<MessageId>,
    /// Participants of conversations that have changed.
    pub users: Vec<UserId>,
    /// Where the next page begins, if there is one.
    pub next: Option<ChangesCursor>,
}

impl ReadModel {
    /// Lists what changed on a partition: a page.
    ///
    /// All pages together list everything that had changed when the first page was read. A conversation that changes in
    /// the meantime may come again.
    pub async fn changed_entities(&self, cursor: &ChangesCursor) -> Result<ChangedEntities, ReadModelError> {
        match &cursor.stage {
            Stage::Conversations => self.changed_conversations(cursor).await,
            Stage::Messages(start) => self.changed_messages(cursor, start).await,
            Stage::Participants(start) => self.participants_of_changed(cursor, start).await,
        }
    }

    async fn changed_conversations(&self, cursor: &ChangesCursor) -> Result<ChangedEntities, ReadModelError> {
        let mut connection = self.acquire("changed_conversations").await?;
        let rows = sqlx::query(
            "SELECT id, changed FROM conversations WHERE partition = $1 AND changed >= $2 ORDER BY changed LIMIT $3",
        )
        .bind(cursor.partition)
        .bind(cursor.conversations_from)
        .bind(CONVERSATIONS_PER_PAGE)
        .fetch_all(&mut connection)
        .await?;
        let Some(last) = rows.last() else { return Ok(ChangedEntities::default()) };
        let conversations_from = last.try_get::<i64, _>("changed")? + 1;
        let ids = rows.iter().map(|row| row.try_get("id")).collect::<Result<Vec<Uuid>, _>>()?;
        let conversations = ids.iter().copied().map(ConversationId).collect();
        let start = PageStart { conversations: ids, index: 0, from: cursor.since };
        let next = ChangesCursor { conversations_from, ..cursor.at(Stage::Messages(start)) };
        Ok(ChangedEntities { conversations, next: Some(next), ..ChangedEntities::default() })
    }

    async fn changed_messages(
        &self,
        cursor: &ChangesCursor,
        start: &PageStart,
    ) -> Result<ChangedEntities, ReadModelError> {
        let mut connection = self.acquire("changed_messages").await?;
        let rows = sqlx::query(
            "SELECT number, message.id, message.position
             FROM unnest($1::uuid[]) WITH ORDINALITY AS changed (id, number) CROSS JOIN LATERAL (
                 SELECT messages.id, position FROM messages
                 WHERE conversation_id = changed.id AND position >= CASE WHEN number = 1 THEN $2 ELSE $3 END
                 ORDER BY position LIMIT $4) AS message
             ORDER BY number, position LIMIT $4",
        )
        .bind(start.remaining())
        .bind(start.from)
        .bind(cursor.since)
        .bind(ROWS_PER_PAGE)
        .fetch_all(&mut connection)
        .await?;
        let stage = match start.after(&rows, "position")? {
            Some(start) => Stage::Messages(start),
            None => Stage::Participants(PageStart { conversations: start.conversations.clone(), index: 0, from: 0 }),
        };
        let messages = rows.iter().map(|row| row.try_get("id").map(MessageId)).collect::<Result<_, _>>()?;
        Ok(ChangedEntities { messages, next: Some(cursor.at(stage)), ..ChangedEntities::default() })
    }

    async fn participants_of_changed(
        &self,
        cursor: &ChangesCursor,
        start: &PageStart,
    ) -> Result<ChangedEntities, ReadModelError> {
        let mut connection = self.acquire("participants_of_changed").await?;
        let rows = sqlx::query(
            "SELECT number, member.user_id, member.ordinal::bigint AS ordinal
             FROM unnest($1::uuid[]) WITH ORDINALITY AS changed (id, number) CROSS JOIN LATERAL (
                 SELECT user_id, ordinal FROM members
                 WHERE conversation_id = changed.id AND ordinal >= CASE WHEN number = 1 THEN $2 ELSE 0 END
                 ORDER BY ordinal LIMIT $3) AS member
             ORDER BY number, ordinal LIMIT $3",
        )
        .bind(start.remaining())
        .bind(start.from)
        .bind(ROWS_PER_PAGE)
        .fetch_all(&mut connection)
        .await?;
        let stage = start.after(&rows, "ordinal")?.map_or(Stage::Conversations, Stage::Participants);
        let users = rows.iter().map(|row| rows::user(row, "user_id")).collect::<Result<_, _>>()?;
        Ok(ChangedEntities { users, next: Some(cursor.at(stage)), ..ChangedEntities::default() })
    }
}
