//! Reading conversations and messages as clients see them. Every method returns its value together with the offsets
//! that the value includes, and must read both in one transaction.

use std::collections::HashMap;
use std::ops::Range;

use crate::pool::PooledConnection;
use domain::view::{ConversationView, MessageView, ParticipantView, ReactionView};
use domain::{ConversationId, MessageId, Position, PositionVector, Timestamp, UserId, limits};
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::connection::ReadModel;
use crate::error::ReadModelError;
use crate::rows::{self, MessageRow};

/// A value, and the offsets that it includes, from one state of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot<T> {
    /// What the caller asked for.
    pub value: T,
    /// The next offset of each partition: the value includes every event below, and none from there on.
    pub offsets: PositionVector,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// At most as many items as the caller asked for.
    pub items: Vec<T>,
    /// Whether the list has more items after this page.
    pub more: bool,
}

/// A conversation with a page of its participants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationPage {
    /// The conversation, with the participants of this page.
    pub view: ConversationView,
    /// The ordinal of the first participant on the next page, if there is one.
    pub next: Option<i32>,
}

impl<T> Page<T> {
    /// A page of `limit` items. The caller has tried to load one more, which shows whether the list goes on.
    fn new(mut items: Vec<T>, limit: i64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(0);
        let more = items.len() > limit;
        items.truncate(limit);
        Self { items, more }
    }
}

impl ReadModel {
    /// Lists a user's conversations, the most recently active first. A page starts after the conversation with the time
    /// and id `after`.
    pub async fn conversations(
        &self,
        user: &UserId,
        limit: i64,
        after: Option<(Timestamp, ConversationId)>,
    ) -> Result<Snapshot<Page<ConversationView>>, ReadModelError> {
        let (mut transaction, offsets) = self.snapshot("conversations").await?;
        let rows = sqlx::query(
            "(SELECT conversation_id, recent_at AS updated_at FROM members
              WHERE user_id = $1 AND recent_at IS NOT NULL
                AND (recent_at, conversation_id) < (coalesce($2::timestamptz, 'infinity'), $3)
              ORDER BY recent_at DESC, conversation_id DESC LIMIT $4)
             UNION ALL
             (SELECT conversation_id, updated_at FROM members JOIN conversations ON conversations.id = conversation_id
              WHERE user_id = $1 AND recent_at IS NULL
                AND (updated_at, conversation_id) < (coalesce($2::timestamptz, 'infinity'), $3)
              ORDER BY updated_at DESC, conversation_id DESC LIMIT $4)
             ORDER BY updated_at DESC, conversation_id DESC LIMIT $4",
        )
        .bind(user.as_str())
        .bind(after.map(|(at, _)| at.to_date_time()))
        .bind(after.map_or(Uuid::max(), |(_, id)| id.0))
        .bind(limit + 1)
        .fetch_all(&mut transaction)
        .await?;
        let ids = rows.iter().map(|row| row.try_get("conversation_id")).collect::<Result<Vec<Uuid>, _>>()?;
        let page = Page::new(ids, limit);
        let participants = 0..i32::try_from(limits::PARTICIPANTS_IN_VIEW).unwrap_or(i32::MAX);
        let items = conversation_views(&mut transaction, user, &page.items, participants).await?;
        transaction.commit().await?;
        Ok(Snapshot { value: Page { items, more: page.more }, offsets })
    }

    /// Reads a conversation as a user sees it, with at most `limit` participants from the ordinal `from` on. None if no
    /// such conversation exists, or the user isn't in it.
    pub async fn conversation(
        &self,
        id: ConversationId,
        user: &UserId,
        limit: i32,
        from: i32,
    ) -> Result<Snapshot<Option<ConversationPage>>, ReadModelError> {
        let (mut transaction, offsets) = self.snapshot("conversation").await?;
        let to = from.saturating_add(limit);
        let views = conversation_views(&mut transaction, user, &[id.0], from..to).await?;
        transaction.commit().await?;
        let value = views.into_iter().next().map(|view| {
            let next = (i64::from(to) < view.participant_count).then_some(to);
            ConversationPage { view, next }
        });
        Ok(Snapshot { value, offsets })
    }

    /// Lists a conversation's messages, the newest first: all, or those before a `seq`.
    pub async fn messages(
        &self,
        conversation: ConversationId,
        limit: i64,
        before: Option<i64>,
    ) -> Result<Snapshot<Page<MessageView>>, ReadModelError> {
        let (mut transaction, offsets) = self.snapshot("messages").await?;
        let rows = sqlx::query(
            "SELECT messages.*, partition FROM messages JOIN conversations ON conversations.id = conversation_id
             WHERE conversation_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3",
        )
        .bind(conversation.0)
        .bind(before.unwrap_or(i64::MAX))
        .bind(limit + 1)
        .fetch_all(&mut transaction)
        .await?;
        let mut page = Page::new(message_views(&rows)?, limit);
        add_reactions(&mut transaction, &mut page.items).await?;
        transaction.commit().await?;
        Ok(Snapshot { value: page, offsets })
    }

    /// Reads a message; none if no such message exists.
    pub async fn message(&self, id: MessageId) -> Result<Snapshot<Option<MessageView>>, ReadModelError> {
        let (mut transaction, offsets) = self.snapshot("message").await?;
        let rows = sqlx::query(
            "SELECT messages.*, partition FROM messages JOIN conversations ON conversations.id = conversation_id
             WHERE messages.id = $1 LIMIT 1",
        )
        .bind(id.0)
        .fetch_all(&mut transaction)
        .await?;
        let mut views = message_views(&rows)?;
        add_reactions(&mut transaction, &mut views).await?;
        transaction.commit().await?;
        Ok(Snapshot { value: views.into_iter().next(), offsets })
    }
}

/// Reads messages from rows that also hold their partition. Without their reactions: see [`add_reactions`].
pub(crate) fn message_views(rows: &[PgRow]) -> Result<Vec<MessageView>, sqlx::Error> {
    let view = |row: &PgRow| {
        let conversation_id = ConversationId(row.try_get("conversation_id")?);
        let partition = row.try_get("partition")?;
        let found = MessageRow::read(row)?;
        Ok(MessageView {
            id: found.id,
            conversation_id,
            seq: Some(found.seq),
            position: Some(Position { partition, offset: found.offset }),
            sender_id: found.sender_id,
            content: found.content,
            message_type: found.message_type,
            attachments: found.attachments,
            mentions: found.mentions,
            reply_to_id: found.reply_to_id,
            reactions: Vec::new(),
            created_at: found.created_at,
            edited_at: found.edited_at,
            deleted_at: found.deleted_at,
        })
    };
    rows.iter().map(view).collect()
}

/// Adds the reactions to messages: each emoji that at least one user gives, with the first few of its users.
pub(crate) async fn add_reactions(
    connection: &mut PooledConnection,
    views: &mut [MessageView],
) -> Result<(), sqlx::Error> {
    if views.is_empty() {
        return Ok(());
    }
    let (conversations, ids): (Vec<Uuid>, Vec<Uuid>) =
        views.iter().map(|view| (view.conversation_id.0, view.id.0)).unzip();
    let rows = sqlx::query(
        "SELECT message_id, emoji, label, jsonb_array_length(user_ids)::bigint AS count,
                jsonb_path_query_array(user_ids, '$[0 to $last]', jsonb_build_object('last', $3::bigint - 1))
                    AS first_users
         FROM unnest($1::uuid[], $2::uuid[]) AS requested (conversation_id, message_id)
         JOIN reactions USING (conversation_id, message_id)
         WHERE user_ids <> '[]' ORDER BY message_id, ordinal",
    )
    .bind(conversations)
    .bind(ids)
    .bind(i64::try_from(limits::REACTION_USERS_IN_VIEW).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    let mut by_message: HashMap<Uuid, Vec<ReactionView>> = HashMap::new();
    for row in rows {
        let reaction = ReactionView {
            emoji: row.try_get("emoji")?,
            label: row.try_get("label")?,
            count: row.try_get("count")?,
            user_ids: row.try_get::<Json<_>, _>("first_users")?.0,
        };
        by_message.entry(row.try_get("message_id")?).or_default().push(reaction);
    }
    for view in views {
        view.reactions = by_message.remove(&view.id.0).unwrap_or_default();
    }
    Ok(())
}

/// Reads conversations as a user sees them, in the order of `ids`. Skips those that the user isn't in. `ordinals`
/// chooses the participants that the views list.
pub(crate) async fn conversation_views(
    connection: &mut PooledConnection,
    user: &UserId,
    ids: &[Uuid],
    ordinals: Range<i32>,
) -> Result<Vec<ConversationView>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    // A user's own messages never count as unread: sending one moves the user's read mark past it.
    let rows = sqlx::query(
        "SELECT conversations.*, last_seq - last_read_seq - (
             SELECT count(*) FROM messages
             WHERE messages.conversation_id = conversations.id AND deleted_at IS NOT NULL AND seq > last_read_seq
         ) AS unread
         FROM unnest($1::uuid[]) WITH ORDINALITY AS requested (id, request_order)
         JOIN conversations USING (id)
         JOIN members ON conversation_id = conversations.id AND user_id = $2
         ORDER BY request_order",
    )
    .bind(ids)
    .bind(user.as_str())
    .fetch_all(&mut *connection)
    .await?;
    let mut participants = participants(&mut *connection, ids, ordinals).await?;
    let mut newest = newest_messages(connection, ids).await?;
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        let id: Uuid = row.try_get("id")?;
        views.push(ConversationView {
            id: ConversationId(id),
            kind: rows::enum_value(&row, "kind")?,
            title: row.try_get("title")?,
            participant_count: row.try_get("participant_count")?,
            participants: participants.remove(&id).unwrap_or_default(),
            last_message: newest.remove(&id),
            unread_count: row.try_get("unread")?,
            created_at: rows::timestamp(&row, "created_at")?,
            updated_at: rows::timestamp(&row, "updated_at")?,
            position: Position { partition: row.try_get("partition")?, offset: row.try_get("changed")? },
        });
    }
    Ok(views)
}

/// Reads the participants with these ordinals, by conversation.
async fn participants(
    connection: &mut PooledConnection,
    ids: &[Uuid],
    ordinals: Range<i32>,
) -> Result<HashMap<Uuid, Vec<ParticipantView>>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT conversation_id, user_id, last_read_seq, last_read_at FROM members
         WHERE conversation_id = ANY($1) AND ordinal >= $2 AND ordinal < $3 ORDER BY conversation_id, ordinal",
    )
    .bind(ids)
    .bind(ordinals.start)
    .bind(ordinals.end)
    .fetch_all(connection)
    .await?;
    let mut participants: HashMap<Uuid, Vec<ParticipantView>> = HashMap::new();
    for row in rows {
        participants.entry(row.try_get("conversation_id")?).or_default().push(ParticipantView {
            user_id: rows::user(&row, "user_id")?,
            last_read_seq: row.try_get("last_read_seq")?,
            last_read_at: rows::optional_timestamp(&row, "last_read_at")?,
        });
    }
    Ok(participants)
}

/// Reads the newest message of each conversation that has one, by conversation.
async fn newest_messages(
    connection: &mut PooledConnection,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, MessageView>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT messages.*, partition FROM unnest($1::uuid[]) AS requested (conversation_id)
         JOIN conversations ON conversations.id = conversation_id
         JOIN messages ON messages.conversation_id = conversations.id AND seq = last_seq",
    )
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    let mut views = message_views(&rows)?;
    add_reactions(connection, &mut views).await?;
    Ok(views.into_iter().map(|view| (view.conversation_id.0, view)).collect())
}
