//! The walk of a sync through a user's conversations. Each statement reads a bounded number of rows by an index, however
//! many conversations the user has and however many changed, so every page costs about the same.
//!
//! The small conversations come first, partition by partition. The members' rows of a small one hold a copy of its last
//! change (see `write`), so the changed ones are a range of an index. Then come the large ones, changed or not: the walk
//! examines each. A section goes from the highest conversation id down, and an id never changes. Within a conversation,
//! the walk goes in the order of the log: what changes meanwhile moves ahead of it.

use crate::pool::PooledConnection;
use domain::sync_cursor::{WalkPosition, WalkSection};
use domain::view::ReadMarkView;
use domain::{ConversationId, Position, PositionVector, UserId};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::rows;

/// How many conversations one statement looks at.
const CHUNK: i64 = 50;
/// How many conversations a page examines before it ends without being full.
const EXAMINED_MAX: i64 = 500;

domain::limit_rows! {
    Queries, "conversations that a page of a sync examines", Count EXAMINED_MAX, "the page ends early, and `more` is true", "the other users' syncs";
}

// The kinds of things that one event can change, in the order of a page. `WalkPosition::kinds` counts them.
pub(crate) const CONVERSATION: i32 = 0;
pub(crate) const MESSAGE: i32 = 1;
const READ_MARK: i32 = 2;

/// A reference to something that changed, before its value is loaded.
pub(crate) struct ChangeRef {
    /// [`CONVERSATION`], [`MESSAGE`] or [`READ_MARK`].
    pub(crate) kind: i32,
    /// The position of the last change.
    pub(crate) position: Position,
    pub(crate) conversation: Uuid,
    /// The message's id, for a message.
    pub(crate) message: Option<Uuid>,
    /// The whole value, for a read mark.
    pub(crate) read_mark: Option<ReadMarkView>,
}

impl ChangeRef {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let kind = row.try_get("kind")?;
        let position = Position { partition: row.try_get("partition")?, offset: row.try_get("position")? };
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

    /// The order of a page. Two different changes are never equal in it.
    pub(crate) fn order(&self) -> (Position, i32) {
        (self.position, self.kind)
    }

    fn walk_position(&self, section: WalkSection) -> WalkPosition {
        let kinds = u8::try_from(self.kind).unwrap_or(0);
        WalkPosition { section, conversation: self.conversation, offset: self.position.offset, kinds }
    }
}

/// What a page of a walk found.
#[derive(Default)]
pub(crate) struct WalkPage {
    /// At most as many changes as the caller asked for.
    pub(crate) changes: Vec<ChangeRef>,
    pub(crate) end: WalkEnd,
}

/// Where a page of a walk ends.
#[derive(Default)]
pub(crate) enum WalkEnd {
    /// Behind the last conversation.
    #[default]
    Complete,
    /// Before a change that doesn't fit on the page.
    Full(WalkPosition),
    /// Before a conversation that the page didn't examine.
    Unexamined(WalkPosition),
}

/// A walk of one user.
pub(crate) struct Walk<'a> {
    pub(crate) user: &'a UserId,
    /// The walk goes through what has changed from these offsets on.
    pub(crate) since: &'a PositionVector,
}

/// Some conversations of a section.
struct Chunk {
    /// Those that have changed, with their partitions.
    changed: Vec<(Uuid, i32)>,
    examined: i64,
    /// The highest conversation id after these, if the section goes on.
    next: Option<Uuid>,
}

impl Chunk {
    /// A chunk of these conversations: id, partition and whether it has changed. The last one has the lowest id.
    fn new(conversations: Vec<(Uuid, i32, bool)>) -> Self {
        let examined = i64::try_from(conversations.len()).unwrap_or(i64::MAX);
        let last = conversations.last().filter(|_| examined == CHUNK);
        let next = last.and_then(|(id, ..)| id.as_u128().checked_sub(1)).map(Uuid::from_u128);
        let changed = conversations.into_iter().filter(|(.., is_changed)| *is_changed);
        Self { changed: changed.map(|(id, partition, _)| (id, partition)).collect(), examined, next }
    }
}

impl Walk<'_> {
    /// Walks on from a position: at most `limit` changes.
    pub(crate) async fn page(
        &self,
        connection: &mut PooledConnection,
        from: WalkPosition,
        limit: usize,
    ) -> Result<WalkPage, sqlx::Error> {
        let mut page = WalkPage::default();
        let mut examined = 0;
        for section in self.sections(connection, from.section).await? {
            let mut at = if section == from.section { from } else { WalkPosition::start(section) };
            loop {
                if examined >= EXAMINED_MAX {
                    page.end = WalkEnd::Unexamined(at);
                    return Ok(page);
                }
                let chunk = match section {
                    WalkSection::Small(partition) => self.small(connection, partition, at.conversation).await?,
                    WalkSection::Large => self.large(connection, at.conversation).await?,
                };
                examined += chunk.examined;
                let remaining = limit - page.changes.len();
                let mut changes = self.changes(connection, &chunk.changed, at, remaining + 1).await?;
                let omitted = changes.get(remaining).map(|change| change.walk_position(section));
                changes.truncate(remaining);
                page.changes.extend(changes);
                if let Some(omitted) = omitted {
                    page.end = WalkEnd::Full(omitted);
                    return Ok(page);
                }
                let Some(next) = chunk.next else { break };
                at = WalkPosition::at(section, next);
            }
        }
        Ok(page)
    }

    /// Lists the sections from one on. Leaves partitions out on which no small conversation has changed.
    async fn sections(
        &self,
        connection: &mut PooledConnection,
        from: WalkSection,
    ) -> Result<Vec<WalkSection>, sqlx::Error> {
        let mut sections = Vec::new();
        if let WalkSection::Small(first) = from {
            let rows = sqlx::query(
                "SELECT partition FROM unnest($2::bigint[]) WITH ORDINALITY AS since (next, number),
                     LATERAL (SELECT number::int - 1 AS partition) AS numbered
                 WHERE partition >= $3 AND EXISTS (
                     SELECT FROM members
                     WHERE user_id = $1 AND members.partition = numbered.partition AND members.changed >= next)
                 ORDER BY partition",
            )
            .bind(self.user.as_str())
            .bind(&self.since.0)
            .bind(first)
            .fetch_all(connection)
            .await?;
            for row in rows {
                sections.push(WalkSection::Small(row.try_get("partition")?));
            }
        }
        sections.push(WalkSection::Large);
        Ok(sections)
    }

    /// Lists the user's small conversations on a partition that have changed, from an id down.
    async fn small(&self, connection: &mut PooledConnection, partition: i32, from: Uuid) -> Result<Chunk, sqlx::Error> {
        // Materialized, or Postgres might read all members of all conversations by the primary key, which has the ids
        // in order.
        let rows = sqlx::query(
            "WITH changed AS MATERIALIZED (
                 SELECT conversation_id FROM members WHERE user_id = $1 AND partition = $2 AND changed >= $3)
             SELECT conversation_id FROM changed WHERE conversation_id <= $4 ORDER BY conversation_id DESC LIMIT $5",
        )
        .bind(self.user.as_str())
        .bind(partition)
        .bind(self.since.next(partition))
        .bind(from)
        .bind(CHUNK)
        .fetch_all(connection)
        .await?;
        let conversation = |row: &PgRow| Ok((row.try_get("conversation_id")?, partition, true));
        Ok(Chunk::new(rows.iter().map(conversation).collect::<Result<_, sqlx::Error>>()?))
    }

    /// Lists the user's large conversations from an id down, changed or not.
    async fn large(&self, connection: &mut PooledConnection, from: Uuid) -> Result<Chunk, sqlx::Error> {
        // `recent_at` is null in the rows of large conversations. Ordering by it makes the order that of the index
        // `members_recent`.
        let rows = sqlx::query(
            "SELECT id, partition, changed >= coalesce(($2::bigint[])[partition + 1], 0) AS is_changed
             FROM (SELECT conversation_id FROM members
                   WHERE user_id = $1 AND recent_at IS NULL AND conversation_id <= $3
                   ORDER BY recent_at DESC, conversation_id DESC LIMIT $4) AS large
             JOIN conversations ON id = conversation_id ORDER BY id DESC",
        )
        .bind(self.user.as_str())
        .bind(&self.since.0)
        .bind(from)
        .bind(CHUNK)
        .fetch_all(connection)
        .await?;
        let conversation =
            |row: &PgRow| Ok((row.try_get("id")?, row.try_get("partition")?, row.try_get("is_changed")?));
        Ok(Chunk::new(rows.iter().map(conversation).collect::<Result<_, sqlx::Error>>()?))
    }

    /// Lists what changed in these conversations, from a position on: at most `limit` changes.
    async fn changes(
        &self,
        connection: &mut PooledConnection,
        conversations: &[(Uuid, i32)],
        from: WalkPosition,
        limit: usize,
    ) -> Result<Vec<ChangeRef>, sqlx::Error> {
        if conversations.is_empty() {
            return Ok(Vec::new());
        }
        let lowest = |(id, partition): &(Uuid, i32)| {
            let since = (self.since.next(*partition), 0);
            if *id == from.conversation { since.max((from.offset, i32::from(from.kinds))) } else { since }
        };
        let (offsets, kinds): (Vec<i64>, Vec<i32>) = conversations.iter().map(lowest).unzip();
        let (ids, partitions): (Vec<Uuid>, Vec<i32>) = conversations.iter().copied().unzip();
        // Postgres goes through the sorted conversations one by one, and stops at the limit (an incremental sort).
        let query = format!(
            "SELECT change.*, conversation_id, partition
             FROM (SELECT * FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::int[])
                       AS requested (conversation_id, partition, lowest, lowest_kind)
                   ORDER BY conversation_id DESC) AS requested
             CROSS JOIN LATERAL (
                 (SELECT {CONVERSATION} AS kind, changed AS position, NULL::uuid AS message_id, NULL::text AS user_id,
                         NULL::bigint AS last_read_seq, NULL::timestamptz AS last_read_at
                  FROM conversations WHERE id = conversation_id AND (changed, {CONVERSATION}) >= (lowest, lowest_kind))
                 UNION ALL
                 (SELECT {MESSAGE}, position, id, NULL, NULL, NULL FROM messages
                  WHERE messages.conversation_id = requested.conversation_id AND position >= lowest
                    AND (position, {MESSAGE}) >= (lowest, lowest_kind)
                  ORDER BY position LIMIT $5)
                 UNION ALL
                 (SELECT {READ_MARK}, position, NULL, user_id, last_read_seq, last_read_at FROM members
                  WHERE members.conversation_id = requested.conversation_id AND position >= lowest
                    AND last_read_seq > 0
                  ORDER BY position LIMIT $5)
             ) AS change
             ORDER BY conversation_id DESC, position, kind LIMIT $5"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(ids)
            .bind(partitions)
            .bind(offsets)
            .bind(kinds)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(connection)
            .await?;
        rows.iter().map(ChangeRef::read).collect()
    }
}
