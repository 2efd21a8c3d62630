//! What changed for a user since a location on the log, in the order of the log.
//!
//! Each thing comes once, as it is now, at the position of its last change. So pages can be applied one after the
//! other: what changes while they are read moves on and comes later.

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

/// Something that changed, as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "kind", content = "value", rename_all = "camelCase")]
pub enum Change {
    /// A conversation, or something in it.
    Conversation(ConversationView),
    /// A message.
    Message(MessageView),
    /// A participant's read mark.
    ReadMark(ReadMarkView),
}

/// A change, and the position at which it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Changed {
    /// The position of the last change.
    pub position: Position,
    /// What it is now.
    #[serde(flatten)]
    pub change: Change,
}

/// A page of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncPage {
    /// The changes, in the order of each partition.
    pub items: Vec<Changed>,
    /// Where the next page begins.
    pub next: SyncCursor,
    /// Whether there is more than this page.
    pub more: bool,
}

/// The kinds of things that one event can change, in the order in which they are given.
const CONVERSATION: i32 = 0;
const MESSAGE: i32 = 1;
const READ_MARK: i32 = 2;

/// The user's conversations on a partition that changed from an offset on. Of small ones it is a range of an index;
/// of large ones each is looked at.
const CHANGED: &str = "SELECT conversation_id, changed FROM members
    WHERE user_id = $1 AND partition = $2 AND changed >= $3
    UNION ALL
    SELECT conversations.id, conversations.changed
    FROM members JOIN conversations ON conversations.id = members.conversation_id
    WHERE user_id = $1 AND recent_at IS NULL AND conversations.partition = $2 AND conversations.changed >= $3";

/// Where something stands that changed.
struct ChangeLocation {
    kind: i32,
    position: Position,
    conversation: Uuid,
    message: Option<Uuid>,
    /// The read mark, where it is one.
    mark: Option<ReadMarkView>,
}

impl ReadModel {
    /// What changed for a user since a location, at most `limit` things of it.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn changes(
        &self,
        user: &UserId,
        since: &SyncCursor,
        limit: usize,
    ) -> Result<Snapshot<SyncPage>, ReadModelError> {
        let (pool, _timer) = self.pool("changes");
        let mut transaction = begin(pool, SNAPSHOT).await?;
        let offsets = projection::offsets(&mut transaction).await?;
        let mut next = SyncCursor::from(offsets.clone());
        let mut locations: Vec<ChangeLocation> = Vec::new();
        let mut more = false;
        for partition in changed_partitions(&mut transaction, user, since).await? {
            let from = (since.includes.next(partition), since.kinds(partition));
            let left = limit - locations.len();
            let mut found = changed_locations(&mut transaction, user, partition, from, left + 1).await?;
            if found.len() > left {
                let first_left_out = &found[left];
                next = stopped_at(since, next, first_left_out);
                more = true;
                found.truncate(left);
            }
            locations.extend(found);
            if more {
                break;
            }
        }
        let items = values(&mut transaction, user, locations).await?;
        transaction.commit().await?;
        Ok(Snapshot { value: SyncPage { items, next, more }, offsets })
    }
}

/// Where the next page begins when this one ends before a location: partitions after it are still where they were.
fn stopped_at(since: &SyncCursor, mut now: SyncCursor, location: &ChangeLocation) -> SyncCursor {
    let Position { partition, offset } = location.position;
    for (index, next) in (0..).zip(&mut now.includes.0) {
        if index > partition {
            *next = since.includes.next(index);
        } else if index == partition {
            *next = offset;
        }
    }
    let kinds = u8::try_from(location.kind).unwrap_or(0);
    now.partial = (kinds > 0).then_some(PartialEvent { partition, kinds });
    now
}

/// The partitions on which anything changed for the user, in order.
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

/// What changed for the user on a partition, from an offset and the kinds that are known of its event on.
async fn changed_locations(
    connection: &mut PgConnection,
    user: &UserId,
    partition: i32,
    (offset, kinds): (i64, u8),
    limit: usize,
) -> Result<Vec<ChangeLocation>, sqlx::Error> {
    let query = format!(
        "WITH changed AS ({CHANGED})
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
         ) AS location
         WHERE (position, kind) >= ($3, $4) ORDER BY position, kind LIMIT $5"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(user.as_str())
        .bind(partition)
        .bind(offset)
        .bind(i32::from(kinds))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| location(row, partition)).collect()
}

fn location(row: &PgRow, partition: i32) -> Result<ChangeLocation, sqlx::Error> {
    let kind = row.try_get("kind")?;
    let position = Position { partition, offset: row.try_get("position")? };
    let conversation = row.try_get("conversation_id")?;
    let mark = if kind == READ_MARK {
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
    Ok(ChangeLocation { kind, position, conversation, message: row.try_get("message_id")?, mark })
}

/// What stands at the locations, as it is now.
async fn values(
    connection: &mut PgConnection,
    user: &UserId,
    locations: Vec<ChangeLocation>,
) -> Result<Vec<Changed>, sqlx::Error> {
    let of_kind = |kind| locations.iter().filter(move |location| location.kind == kind);
    let ids: Vec<Uuid> = of_kind(CONVERSATION).map(|location| location.conversation).collect();
    let first = i32::try_from(limits::PARTICIPANTS_IN_VIEW).unwrap_or(i32::MAX);
    let views = queries::conversation_views(&mut *connection, user, &ids, 0, first).await?;
    let mut conversations: HashMap<Uuid, ConversationView> = views.into_iter().map(|view| (view.id.0, view)).collect();
    let keys: Vec<(Uuid, Uuid)> =
        of_kind(MESSAGE).filter_map(|location| Some((location.conversation, location.message?))).collect();
    let mut messages = messages(connection, &keys).await?;
    let value = |location: ChangeLocation| {
        let change = match (location.mark, location.message) {
            (Some(mark), _) => Change::ReadMark(mark),
            (None, Some(id)) => Change::Message(messages.remove(&(location.conversation, id))?),
            (None, None) => Change::Conversation(conversations.remove(&location.conversation)?),
        };
        Some(Changed { position: location.position, change })
    };
    Ok(locations.into_iter().filter_map(value).collect())
}

async fn messages(
    connection: &mut PgConnection,
    keys: &[(Uuid, Uuid)],
) -> Result<HashMap<(Uuid, Uuid), MessageView>, sqlx::Error> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<Uuid> = keys.iter().map(|(_, message)| *message).collect();
    // By id alone, as in loading a batch; the fold knows messages by conversation and id.
    let rows = sqlx::query(
        "SELECT messages.*, partition FROM messages JOIN conversations ON conversations.id = conversation_id
         WHERE messages.id = ANY($1)",
    )
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    let mut views = queries::message_views(&rows)?;
    queries::put_reactions(connection, &mut views).await?;
    let keyed = |view: MessageView| {
        let MessageId(id) = view.id;
        ((view.conversation_id.0, id), view)
    };
    Ok(views.into_iter().map(keyed).collect())
}
