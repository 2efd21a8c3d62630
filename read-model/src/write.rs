//! Writing the rows that a fold changed, with few statements, none of which writes more than a bounded number of rows.
//! The caller's transaction also moves the offsets; nothing here may commit by itself.

use std::collections::HashSet;

use crate::pool::PooledConnection;
use domain::state::{Changes, MemberKey, State};
use domain::{ConversationId, limits};
use sqlx::AssertSqlSafe;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::rows;

/// How many rows a statement writes at most. More than a usual batch has: only a conversation that is folded again needs
/// several statements for a table.
pub(crate) const MAX_ROWS_PER_STATEMENT: usize = 10_000;

domain::limit_rows! {
    Projector, "rows that a statement writes", Count MAX_ROWS_PER_STATEMENT, "the batch takes several statements", "Postgres, and the projector's memory";
}

/// Writes every row of `state` that `changes` names.
pub(crate) async fn write_rows(
    connection: &mut PooledConnection,
    state: &State,
    changes: &Changes,
) -> Result<(), sqlx::Error> {
    write_conversations(connection, state, changes).await?;
    write_members(connection, state, changes).await?;
    write_recency(connection, state, changes).await?;
    write_messages(connection, state, changes).await?;
    write_reactions(connection, state, changes).await?;
    write_applied(connection, changes).await
}

async fn write_conversations(
    connection: &mut PooledConnection,
    state: &State,
    changes: &Changes,
) -> Result<(), sqlx::Error> {
    let changed: Vec<_> =
        changes.conversations.iter().filter_map(|id| Some((id.0, state.conversations.get(id)?))).collect();
    for changed in changed.chunks(MAX_ROWS_PER_STATEMENT) {
        sqlx::query(
            "INSERT INTO conversations (id, partition, kind, title, participant_count, created_at, updated_at, last_seq,
                                        last_message_id, changed)
             SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[],
                                  $7::timestamptz[], $8::bigint[], $9::uuid[], $10::bigint[])
             ON CONFLICT (id) DO UPDATE SET
                 updated_at = excluded.updated_at, last_seq = excluded.last_seq,
                 last_message_id = excluded.last_message_id, changed = excluded.changed",
        )
        .bind(changed.iter().map(|(id, _)| *id).collect::<Vec<Uuid>>())
        .bind(changed.iter().map(|(_, it)| it.position.partition).collect::<Vec<i32>>())
        .bind(changed.iter().map(|(_, it)| rows::enum_text(it.kind)).collect::<Vec<String>>())
        .bind(changed.iter().map(|(_, it)| it.title.as_deref()).collect::<Vec<Option<&str>>>())
        .bind(changed.iter().map(|(_, it)| it.participant_count).collect::<Vec<i64>>())
        .bind(changed.iter().map(|(_, it)| it.created_at.to_date_time()).collect::<Vec<OffsetDateTime>>())
        .bind(changed.iter().map(|(_, it)| it.updated_at.to_date_time()).collect::<Vec<OffsetDateTime>>())
        .bind(changed.iter().map(|(_, it)| it.last_seq).collect::<Vec<i64>>())
        .bind(changed.iter().map(|(_, it)| it.last_message.map(|id| id.0)).collect::<Vec<Option<Uuid>>>())
        .bind(changed.iter().map(|(_, it)| it.position.offset).collect::<Vec<i64>>())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// The last activity of a small conversation, and the offset of its last change: each of its members' rows holds a
/// copy. None for a large conversation, where each message would rewrite too many rows.
pub(crate) fn recency(state: &State, id: ConversationId) -> Option<(OffsetDateTime, i64)> {
    let conversation = state.conversations.get(&id)?;
    let is_small =
        usize::try_from(conversation.participant_count).is_ok_and(|count| count <= limits::SMALL_CONVERSATION_MAX);
    is_small.then(|| (conversation.updated_at.to_date_time(), conversation.position.offset))
}

const INSERT_MEMBERS: &str = "
    INSERT INTO members (conversation_id, user_id, ordinal, last_read_seq, last_read_at, position, recent_at, partition,
                         changed)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::timestamptz[], $6::bigint[],
                         $7::timestamptz[], $8::int[], $9::bigint[])";
const UPDATE_ON_CONFLICT: &str = "
    ON CONFLICT (conversation_id, user_id) DO UPDATE SET
        last_read_seq = excluded.last_read_seq, last_read_at = excluded.last_read_at, position = excluded.position,
        recent_at = excluded.recent_at, changed = excluded.changed";

async fn write_members(connection: &mut PooledConnection, state: &State, changes: &Changes) -> Result<(), sqlx::Error> {
    let created = created(changes);
    let member = |key: &MemberKey| state.members.get(key).map(|member| (key.clone(), member));
    // A new conversation has no members' rows yet. Postgres inserts a quarter faster when it needn't search for each row.
    let (new, known): (Vec<_>, Vec<_>) =
        changes.members.iter().filter_map(member).partition(|((conversation, _), _)| created.contains(conversation));
    for (members, on_conflict) in [(new, ""), (known, UPDATE_ON_CONFLICT)] {
        for members in members.chunks(MAX_ROWS_PER_STATEMENT) {
            sqlx::query(AssertSqlSafe(format!("{INSERT_MEMBERS}{on_conflict}")))
                .bind(members.iter().map(|(key, _)| key.0.0).collect::<Vec<Uuid>>())
                .bind(members.iter().map(|(key, _)| key.1.as_str()).collect::<Vec<&str>>())
                .bind(members.iter().map(|(_, it)| it.ordinal).collect::<Vec<i32>>())
                .bind(members.iter().map(|(_, it)| it.last_read_seq).collect::<Vec<i64>>())
                .bind(members.iter().map(|(_, it)| it.last_read_at.map(|at| at.to_date_time())).collect::<Vec<_>>())
                .bind(members.iter().map(|(_, it)| it.position.offset).collect::<Vec<i64>>())
                .bind(members.iter().map(|(key, _)| recency(state, key.0).map(|it| it.0)).collect::<Vec<_>>())
                .bind(members.iter().map(|(_, it)| it.position.partition).collect::<Vec<i32>>())
                .bind(members.iter().map(|(key, _)| recency(state, key.0).map(|it| it.1)).collect::<Vec<_>>())
                .execute(&mut *connection)
                .await?;
        }
    }
    Ok(())
}

/// The conversations that a fold created.
fn created(changes: &Changes) -> HashSet<ConversationId> {
    changes.created.iter().map(|(id, _)| *id).collect()
}

/// Copies the recency of changed small conversations to their members' rows. A user's list, and what changed for the
/// user, then are each one range of an index.
async fn write_recency(connection: &mut PooledConnection, state: &State, changes: &Changes) -> Result<(), sqlx::Error> {
    // `write_members` has written the members of new conversations with their recency.
    let created = created(changes);
    let changed = changes.conversations.iter().filter(|id| !created.contains(id));
    let (ids, recencies): (Vec<Uuid>, Vec<(OffsetDateTime, i64)>) =
        changed.filter_map(|id| Some((id.0, recency(state, *id)?))).unzip();
    let (times, offsets): (Vec<OffsetDateTime>, Vec<i64>) = recencies.into_iter().unzip();
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        // Skips the rows that have it already: `write_members` has written those of the actors.
        "UPDATE members SET recent_at = recent.updated_at, changed = recent.changed
         FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[]) AS recent (conversation_id, updated_at, changed)
         WHERE members.conversation_id = recent.conversation_id AND members.changed <> recent.changed",
    )
    .bind(ids)
    .bind(times)
    .bind(offsets)
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_messages(
    connection: &mut PooledConnection,
    state: &State,
    changes: &Changes,
) -> Result<(), sqlx::Error> {
    let changed: Vec<_> = changes.messages.iter().filter_map(|key| Some((*key, state.messages.get(key)?))).collect();
    for changed in changed.chunks(MAX_ROWS_PER_STATEMENT) {
        sqlx::query(
            "INSERT INTO messages (conversation_id, seq, id, sender_id, content, message_type, attachments, mentions,
                                   reply_to_id, created_at, edited_at, deleted_at, position)
             SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::jsonb[],
                                  $8::jsonb[], $9::uuid[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[],
                                  $13::bigint[])
             ON CONFLICT (conversation_id, seq) DO UPDATE SET
                 content = excluded.content, attachments = excluded.attachments, mentions = excluded.mentions,
                 edited_at = excluded.edited_at, deleted_at = excluded.deleted_at, position = excluded.position",
        )
        .bind(changed.iter().map(|(key, _)| key.0.0).collect::<Vec<Uuid>>())
        .bind(changed.iter().map(|(_, it)| it.seq).collect::<Vec<i64>>())
        .bind(changed.iter().map(|(key, _)| key.1.0).collect::<Vec<Uuid>>())
        .bind(changed.iter().map(|(_, it)| it.sender_id.as_str()).collect::<Vec<&str>>())
        .bind(changed.iter().map(|(_, it)| it.content.as_deref()).collect::<Vec<Option<&str>>>())
        .bind(changed.iter().map(|(_, it)| rows::enum_text(it.message_type)).collect::<Vec<String>>())
        .bind(changed.iter().map(|(_, it)| Json(&it.attachments)).collect::<Vec<_>>())
        .bind(changed.iter().map(|(_, it)| Json(&it.mentions)).collect::<Vec<_>>())
        .bind(changed.iter().map(|(_, it)| it.reply_to_id.map(|id| id.0)).collect::<Vec<Option<Uuid>>>())
        .bind(changed.iter().map(|(_, it)| it.created_at.to_date_time()).collect::<Vec<OffsetDateTime>>())
        .bind(changed.iter().map(|(_, it)| it.edited_at.map(|at| at.to_date_time())).collect::<Vec<_>>())
        .bind(changed.iter().map(|(_, it)| it.deleted_at.map(|at| at.to_date_time())).collect::<Vec<_>>())
        .bind(changed.iter().map(|(_, it)| it.position.offset).collect::<Vec<i64>>())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn write_reactions(
    connection: &mut PooledConnection,
    state: &State,
    changes: &Changes,
) -> Result<(), sqlx::Error> {
    let changed: Vec<_> = changes.messages.iter().filter_map(|key| Some((*key, state.messages.get(key)?))).collect();
    let deleted = changed.iter().filter(|(_, message)| message.deleted_at.is_some());
    let (conversations, ids): (Vec<Uuid>, Vec<Uuid>) = deleted.map(|(key, _)| (key.0.0, key.1.0)).unzip();
    for (conversations, ids) in conversations.chunks(MAX_ROWS_PER_STATEMENT).zip(ids.chunks(MAX_ROWS_PER_STATEMENT)) {
        sqlx::query(
            "DELETE FROM reactions USING unnest($1::uuid[], $2::uuid[]) AS deleted (conversation_id, message_id)
             WHERE reactions.conversation_id = deleted.conversation_id AND reactions.message_id = deleted.message_id",
        )
        .bind(conversations)
        .bind(ids)
        .execute(&mut *connection)
        .await?;
    }
    let reactions: Vec<_> = changed
        .iter()
        .flat_map(|(key, message)| (0_i32..).zip(&message.reactions).map(move |(ordinal, it)| (key, ordinal, it)))
        .collect();
    for reactions in reactions.chunks(MAX_ROWS_PER_STATEMENT) {
        sqlx::query(
            "INSERT INTO reactions (conversation_id, message_id, ordinal, emoji, label, user_ids)
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::jsonb[])
             ON CONFLICT (conversation_id, message_id, ordinal) DO UPDATE SET
                 label = excluded.label, user_ids = excluded.user_ids
             WHERE (reactions.label, reactions.user_ids) IS DISTINCT FROM (excluded.label, excluded.user_ids)",
        )
        .bind(reactions.iter().map(|(key, _, _)| key.0.0).collect::<Vec<Uuid>>())
        .bind(reactions.iter().map(|(key, _, _)| key.1.0).collect::<Vec<Uuid>>())
        .bind(reactions.iter().map(|(_, ordinal, _)| *ordinal).collect::<Vec<i32>>())
        .bind(reactions.iter().map(|(_, _, it)| it.emoji.as_str()).collect::<Vec<&str>>())
        .bind(reactions.iter().map(|(_, _, it)| it.label.as_deref()).collect::<Vec<Option<&str>>>())
        .bind(reactions.iter().map(|(_, _, it)| Json(&it.user_ids)).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Records which events are folded, with their idempotency keys. A duplicate is an error: the fold
/// drops an event that is recorded already.
async fn write_applied(connection: &mut PooledConnection, changes: &Changes) -> Result<(), sqlx::Error> {
    let applied = &changes.applied;
    for applied in applied.chunks(MAX_ROWS_PER_STATEMENT) {
        sqlx::query(
            "INSERT INTO applied_events (conversation_id, event_id, actor_id, idempotency_key, partition, position)
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::int[], $6::bigint[])",
        )
        .bind(applied.iter().map(|it| it.conversation_id.0).collect::<Vec<Uuid>>())
        .bind(applied.iter().map(|it| it.event_id.0).collect::<Vec<Uuid>>())
        .bind(applied.iter().map(|it| it.key.as_ref().map(|key| key.0.as_str())).collect::<Vec<Option<&str>>>())
        .bind(applied.iter().map(|it| it.key.as_ref().map(|key| key.1.as_str())).collect::<Vec<Option<&str>>>())
        .bind(applied.iter().map(|it| it.position.partition).collect::<Vec<i32>>())
        .bind(applied.iter().map(|it| it.position.offset).collect::<Vec<i64>>())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
