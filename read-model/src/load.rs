//! Loading the state that the fold of a batch needs: one query for each table, however large the batch. It must load
//! everything that the batch can touch; the fold takes a missing row for one that doesn't exist.

use std::collections::HashMap;

use crate::pool::PooledConnection;
use domain::state::{Conversation, Member, Message, MessageKey, Reaction, State, Touched};
use domain::{ConversationId, EventId, MessageId, Position, UserId};
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::connection::ReadModel;
use crate::error::ReadModelError;
use crate::rows::{self, MessageRow};

impl ReadModel {
    /// Loads everything that a batch can touch, as far as it exists.
    pub async fn load(&self, touched: &Touched) -> Result<State, ReadModelError> {
        let mut state = State::default();
        if touched.conversations.is_empty() {
            return Ok(state);
        }
        let mut connection = self.acquire("load").await?;
        load_conversations(&mut connection, touched, &mut state).await?;
        load_applied(&mut connection, touched, &mut state).await?;
        // Without a conversation there are no participants or messages either.
        if !state.conversations.is_empty() {
            load_members(&mut connection, touched, &mut state).await?;
            load_messages(&mut connection, touched, &mut state).await?;
        }
        Ok(state)
    }
}

async fn load_conversations(
    connection: &mut PooledConnection,
    touched: &Touched,
    state: &mut State,
) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = touched.conversations.iter().map(|id| id.0).collect();
    let rows = sqlx::query("SELECT * FROM conversations WHERE id = ANY($1)").bind(ids).fetch_all(connection).await?;
    for row in rows {
        let (id, conversation) = conversation(&row)?;
        state.conversations.insert(id, conversation);
    }
    Ok(())
}

pub(crate) fn conversation(row: &PgRow) -> Result<(ConversationId, Conversation), sqlx::Error> {
    let conversation = Conversation {
        kind: rows::enum_value(row, "kind")?,
        title: row.try_get("title")?,
        participant_count: row.try_get("participant_count")?,
        created_at: rows::timestamp(row, "created_at")?,
        updated_at: rows::timestamp(row, "updated_at")?,
        last_seq: row.try_get("last_seq")?,
        last_message: row.try_get::<Option<Uuid>, _>("last_message_id")?.map(MessageId),
        position: Position { partition: row.try_get("partition")?, offset: row.try_get("changed")? },
    };
    Ok((ConversationId(row.try_get("id")?), conversation))
}

async fn load_members(
    connection: &mut PooledConnection,
    touched: &Touched,
    state: &mut State,
) -> Result<(), sqlx::Error> {
    let (conversations, users): (Vec<Uuid>, Vec<&str>) =
        touched.members.iter().map(|(conversation, user)| (conversation.0, user.as_str())).unzip();
    let rows = sqlx::query(
        "SELECT members.* FROM unnest($1::uuid[], $2::text[]) AS touched (conversation_id, user_id)
         JOIN members USING (conversation_id, user_id)",
    )
    .bind(conversations)
    .bind(users)
    .fetch_all(connection)
    .await?;
    for row in rows {
        let key = (ConversationId(row.try_get("conversation_id")?), rows::user(&row, "user_id")?);
        state.members.insert(key, member(&row)?);
    }
    Ok(())
}

pub(crate) fn member(row: &PgRow) -> Result<Member, sqlx::Error> {
    Ok(Member {
        ordinal: row.try_get("ordinal")?,
        last_read_seq: row.try_get("last_read_seq")?,
        last_read_at: rows::optional_timestamp(row, "last_read_at")?,
        position: Position { partition: row.try_get("partition")?, offset: row.try_get("position")? },
    })
}

async fn load_messages(
    connection: &mut PooledConnection,
    touched: &Touched,
    state: &mut State,
) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = touched.messages.iter().map(|(_, message)| message.0).collect();
    // By the message's id alone: given the conversation as well, a planner without statistics reads whole
    // conversations.
    let rows = sqlx::query("SELECT * FROM messages WHERE id = ANY($1)").bind(ids).fetch_all(&mut *connection).await?;
    for row in rows {
        let conversation_id = ConversationId(row.try_get("conversation_id")?);
        let message_row = MessageRow::read(&row)?;
        let key = (conversation_id, message_row.id);
        if !touched.messages.contains(&key) {
            // For the fold, a message's key is its conversation and its id. This message is in another conversation.
            continue;
        }
        let partition =
            state.conversations.get(&conversation_id).map_or(0, |conversation| conversation.position.partition);
        state.messages.insert(key, message(message_row, partition));
    }
    let keys: Vec<MessageKey> = state.messages.keys().copied().collect();
    if keys.is_empty() {
        return Ok(());
    }
    let (conversations, ids): (Vec<Uuid>, Vec<Uuid>) = keys.iter().map(|key| (key.0.0, key.1.0)).unzip();
    let rows = sqlx::query(
        "SELECT reactions.* FROM unnest($1::uuid[], $2::uuid[]) AS touched (conversation_id, message_id)
         JOIN reactions USING (conversation_id, message_id) ORDER BY conversation_id, message_id, ordinal",
    )
    .bind(conversations)
    .bind(ids)
    .fetch_all(connection)
    .await?;
    add_reactions(&rows, &mut state.messages)
}

pub(crate) fn message(row: MessageRow, partition: i32) -> Message {
    Message {
        seq: row.seq,
        sender_id: row.sender_id,
        content: row.content,
        message_type: row.message_type,
        attachments: row.attachments,
        mentions: row.mentions,
        reply_to_id: row.reply_to_id,
        reactions: Vec::new(),
        created_at: row.created_at,
        edited_at: row.edited_at,
        deleted_at: row.deleted_at,
        position: Position { partition, offset: row.offset },
    }
}

/// Adds reactions to their messages, in the order of the rows.
pub(crate) fn add_reactions(rows: &[PgRow], messages: &mut HashMap<MessageKey, Message>) -> Result<(), sqlx::Error> {
    for row in rows {
        let key = (ConversationId(row.try_get("conversation_id")?), MessageId(row.try_get("message_id")?));
        let reaction = Reaction {
            emoji: row.try_get("emoji")?,
            label: row.try_get("label")?,
            user_ids: row.try_get::<Json<Vec<UserId>>, _>("user_ids")?.0,
        };
        if let Some(message) = messages.get_mut(&key) {
            message.reactions.push(reaction);
        }
    }
    Ok(())
}

/// Loads which events of the batch are folded already, and which of its idempotency keys folded events have used.
async fn load_applied(
    connection: &mut PooledConnection,
    touched: &Touched,
    state: &mut State,
) -> Result<(), sqlx::Error> {
    let (conversations, events): (Vec<Uuid>, Vec<Uuid>) =
        touched.events.iter().map(|(conversation, event)| (conversation.0, event.0)).unzip();
    let rows = sqlx::query(
        "SELECT conversation_id, event_id FROM unnest($1::uuid[], $2::uuid[]) AS touched (conversation_id, event_id)
         JOIN applied_events USING (conversation_id, event_id)",
    )
    .bind(conversations)
    .bind(events)
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        let (conversation, event) = (row.try_get("conversation_id")?, row.try_get("event_id")?);
        state.applied.insert((ConversationId(conversation), EventId(event)));
    }
    if touched.keys.is_empty() {
        return Ok(());
    }
    let conversations: Vec<Uuid> = touched.keys.iter().map(|key| key.0.0).collect();
    let actors: Vec<&str> = touched.keys.iter().map(|key| key.1.as_str()).collect();
    let keys: Vec<&str> = touched.keys.iter().map(|key| key.2.as_str()).collect();
    let rows = sqlx::query(
        "SELECT conversation_id, actor_id, idempotency_key
         FROM unnest($1::uuid[], $2::text[], $3::text[]) AS touched (conversation_id, actor_id, idempotency_key)
         JOIN applied_events USING (conversation_id, actor_id, idempotency_key)",
    )
    .bind(conversations)
    .bind(actors)
    .bind(keys)
    .fetch_all(connection)
    .await?;
    for row in rows {
        let key: &str = row.try_get("idempotency_key")?;
        let key = key.parse().map_err(|error: domain::ids::IdError| sqlx::Error::Decode(Box::new(error)))?;
        state.keys.insert((ConversationId(row.try_get("conversation_id")?), rows::user(&row, "actor_id")?, key));
    }
    Ok(())
}
