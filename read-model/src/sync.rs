//! What changed for a user since a cursor, page by page, in the order of the log.
//!
//! Each conversation, message and read mark is listed once, with its current value, at the position of its last change.
//! A client can therefore apply one page after the other: something that changes in the meantime moves to a later
//! position, and a later page lists it again. A page must never skip a change.
//!
//! An example: message `m` was sent at `3:42` and edited at `3:50`. A client that knows everything below offset 40 gets
//! `m` once, with the edited text, at `3:50`.
//!
//! Large conversations don't copy their last change to their members' rows (see `write`), so queries here look at the
//! small ones by an index, and at each large one by itself.

use std::collections::HashMap;

use domain::sync_cursor::{PartialEvent, SyncCursor};
use domain::view::{ConversationView, MessageView, ReadMarkView};
use domain::{ConversationId, MessageId, Position, UserId, limits};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::connection::{ReadModel, ReadModelError, SNAPSHOT, begin};
use crate::projection;
use crate::queries::{self, Snapshot};
use crate::rows;

/// The current value of something that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "kind", content = "value", rename_all = "camelCase")]
pub enum Change {
    /// A conversation that has changed, or in which something has changed.
    Conversation(ConversationView),
    /// A new or changed message.
    Message(MessageView),
    /// A participant's read mark that has moved.
    ReadMark(ReadMarkView),
}

/// Something that changed, with the position of its last change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Changed)]
pub struct PositionedChange {
    /// The position of the last change.
    pub position: Position,
    /// The current value.
    #[serde(flatten)]
    pub change: Change,
}

/// A page of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncPage {
    /// The changes: partition by partition, each in the order of the log.
    pub items: Vec<PositionedChange>,
    /// The cursor from which the next page starts.
    pub next: SyncCursor,
    /// Whether there are more changes after this page.
    pub more: bool,
}

// The kinds of things that one event can change, in the order of a page. `PartialEvent::kinds` counts them.
const CONVERSATION: i32 = 0;
const MESSAGE: i32 = 1;
const READ_MARK: i32 = 2;

/// The user's conversations on a partition that changed from an offset on: the small ones, then the large ones.
const CHANGED_CONVERSATIONS: &str = "SELECT conversation_id, changed FROM members
    WHERE user_id = $1 AND partition = $2 AND changed >= $3
    UNION ALL
    SELECT conversations.id, conversations.changed
    FROM members JOIN conversations ON conversations.id = members.conversation_id
    WHERE user_id = $1 AND recent_at IS NULL AND conversations.partition = $2 AND conversations.changed >= $3";

/// A reference to something that changed, before its value is loaded.
struct ChangeRef {
    /// [`CONVERSATION`], [`MESSAGE`] or [`READ_MARK`].
    kind: i32,
    /// The position of the last change.
    position: Position,
    conversation: Uuid,
    /// The message's id, for a message.
    message: Option<Uuid>,
    /// The whole value, for a read mark.
    read_mark: Option<ReadMarkView>,
}

impl ChangeRef {
    fn read(row: &PgRow, partition: i32) -> Result<Self, sqlx::Error> {
        let kind = row.try_get("kind")?;
        let position = Position { partition, offset: row.try_get("position")? };
        let conversation = row.try_get("conversation_id")?;
        let read_mark = if kind == READ_MARK {
            Some(ReadMarkView {
                conversation_id: ConversationId(conversation),
                user_id: rows::user(row, "user_id")?,
                last_read_seq: row.try_get("last_read_seq")?,
                last_read_at: rows::optional_timestamp(row, "last_read_at")?,
                position,
            })
        } else {
            None
        };
        Ok(Self { kind, position, conversation, message: row.try_get("message_id")?, read_mark })
    }
}

impl ReadModel {
    /// Lists what changed for a user since a cursor: a page of at most `limit` changes.
    pub async fn changes(
        &self,
        user: &UserId,
        since: &SyncCursor,
        limit: usize,
    ) -> Result<Snapshot<SyncPage>, ReadModelError> {
        let (pool, _timer) = self.pool("changes");
        let mut transaction = begin(pool, SNAPSHOT).await?;
        let offsets = projection::offsets(&mut transaction).await?;
        let mut next = SyncCursor::new(offsets.clone());
        let mut changes: Vec<ChangeRef> = Vec::new();
        let mut more = false;
        for partition in changed_partitions(&mut transaction, user, since).await? {
            let remaining = limit - changes.len();
            let mut found = changes_on_partition(&mut transaction, user, partition, since, remaining + 1).await?;
            if let Some(first_omitted) = found.get(remaining) {
                next = cursor_before(first_omitted, since, next);
                more = true;
                found.truncate(remaining);
            }
            changes.extend(found);
            if more {
                break;
            }
        }
        let items = load_values(&mut transaction, user, changes).await?;
        transaction.commit().await?;
        Ok(Snapshot { value: SyncPage { items, next, more }, offsets })
    }
}

/// The cursor after a page that ends just before `omitted`. Earlier partitions are complete, as in `complete`, the
/// cursor after everything. Later partitions stay as in `since`.
fn cursor_before(omitted: &ChangeRef, since: &SyncCursor, complete: SyncCursor) -> SyncCursor {
    let mut cursor = complete;
    let Position { partition, offset } = omitted.position;
    for (index, next) in (0..).zip(&mut cursor.includes.0) {
        if index > partition {
            *next = since.includes.next(index);
        } else if index == partition {
            *next = offset;
        }
    }
    // The omitted change and one on this page may come from the same event, which the client then has in part.
    let kinds = u8::try_from(omitted.kind).unwrap_or(0);
    cursor.partial = (kinds > 0).then_some(PartialEvent { partition, kinds });
    cursor
}

/// Lists the partitions on which anything changed for the user, in order.
async fn changed_partitions(
    connection: &mut PgConnection,
    user: &UserId,
    since: &SyncCursor,
) -> Result<Vec<i32>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT partition FROM unnest($2::bigint[]) WITH ORDINALITY AS since (next, number),
             LATERAL (SELECT number::int - 1 AS partition) AS numbered
         WHERE EXISTS (
             SELECT FROM members
             WHERE user_id = $1 AND members.partition = numbered.partition AND members.changed >= next)
           OR EXISTS (
             SELECT FROM members JOIN conversations ON conversations.id = members.conversation_id
             WHERE user_id = $1 AND recent_at IS NULL
               AND conversations.partition = numbered.partition AND conversations.changed >= next)
         ORDER BY partition",
    )
    .bind(user.as_str())
    .bind(&since.includes.0)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| row.try_get("partition")).collect()
}

/// Lists what changed for the user on a partition since a cursor, in the order of the log: at most `limit` changes.
async fn changes_on_partition(
    connection: &mut PgConnection,
    user: &UserId,
    partition: i32,
    since: &SyncCursor,
    limit: usize,
) -> Result<Vec<ChangeRef>, sqlx::Error> {
    let query = format!(
        "WITH changed AS ({CHANGED_CONVERSATIONS})
         SELECT * FROM (
             SELECT {CONVERSATION} AS kind, changed AS position, conversation_id, NULL::uuid AS message_id,
                    NULL::text AS user_id, NULL::bigint AS last_read_seq, NULL::timestamptz AS last_read_at
             FROM changed
             UNION ALL
             SELECT {MESSAGE}, message.position, conversation_id, message.id, NULL, NULL, NULL
             FROM changed CROSS JOIN LATERAL (
                 SELECT id, position FROM messages
                 WHERE messages.conversation_id = changed.conversation_id AND position >= $3
                 ORDER BY position LIMIT $5 + 1) AS message
             UNION ALL
             SELECT {READ_MARK}, position, conversation_id, NULL, user_id, last_read_seq, last_read_at
             FROM changed JOIN members USING (conversation_id) WHERE position >= $3 AND last_read_seq > 0
         ) AS change
         WHERE (position, kind) >= ($3, $4) ORDER BY position, kind LIMIT $5"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(user.as_str())
        .bind(partition)
        .bind(since.includes.next(partition))
        .bind(i32::from(since.kinds(partition)))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| ChangeRef::read(row, partition)).collect()
}

/// Loads the current values of what changed.
async fn load_values(
    connection: &mut PgConnection,
    user: &UserId,
    changes: Vec<ChangeRef>,
) -> Result<Vec<PositionedChange>, sqlx::Error> {
    let of_kind = |kind| changes.iter().filter(move |change| change.kind == kind);
    let ids: Vec<Uuid> = of_kind(CONVERSATION).map(|change| change.conversation).collect();
    let participants = 0..i32::try_from(limits::PARTICIPANTS_IN_VIEW).unwrap_or(i32::MAX);
    let views = queries::conversation_views(&mut *connection, user, &ids, participants).await?;
    let mut conversations: HashMap<Uuid, ConversationView> = views.into_iter().map(|view| (view.id.0, view)).collect();
    let keys: Vec<(Uuid, Uuid)> =
        of_kind(MESSAGE).filter_map(|change| Some((change.conversation, change.message?))).collect();
    let mut messages = load_messages(connection, &keys).await?;
    let load_value = |changed: ChangeRef| {
        let change = match (changed.read_mark, changed.message) {
            (Some(read_mark), _) => Change::ReadMark(read_mark),
            (None, Some(id)) => Change::Message(messages.remove(&(changed.conversation, id))?),
            (None, None) => Change::Conversation(conversations.remove(&changed.conversation)?),
        };
        Some(PositionedChange { position: changed.position, change })
    };
    Ok(changes.into_iter().filter_map(load_value).collect())
}

/// Loads messages by conversation and id.
async fn load_messages(
    connection: &mut PgConnection,
    keys: &[(Uuid, Uuid)],
) -> Result<HashMap<(Uuid, Uuid), MessageView>, sqlx::Error> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<Uuid> = keys.iter().map(|(_, message)| *message).collect();
    // By the message's id alone, as `load` does. Ids are unique only within a conversation, so the caller picks by
    // both.
    let rows = sqlx::query(
        "SELECT messages.*, partition FROM messages JOIN conversations ON conversations.id = conversation_id
         WHERE messages.id = ANY($1)",
    )
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    let mut views = queries::message_views(&rows)?;
    queries::add_reactions(connection, &mut views).await?;
    let keyed = |view: MessageView| {
        let MessageId(id) = view.id;
        ((view.conversation_id.0, id), view)
    };
    Ok(views.into_iter().map(keyed).collect())
}
