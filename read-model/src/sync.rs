//! What changed for a user since a cursor, page by page.
//!
//! A sync is a *walk* through the user's conversations (`sync_walk`). Each page lists conversations, messages and read
//! marks with their current values, at the positions of their last changes, from a snapshot of its own. A page must never
//! skip a change.
//!
//! An example: message `m` was sent at `3:42` and edited at `3:50`. A client that knows everything below offset 40 gets
//! `m` once, with the edited text, at `3:50`.
//!
//! What changes during a walk can be in a conversation that the walk has passed. So a walk ends with the cursor of its
//! *first* snapshot, and the page on which it ends begins the next walk from there, in its own snapshot:
//!
//! 1. Page 1 begins a walk since offset 40. Its snapshot includes offset 99, and the cursor carries that to the last page.
//! 2. Page 2 ends the walk. Its snapshot includes offset 120. It also walks through everything since 100.
//! 3. If that fits on the page, the client has everything of this snapshot: the cursor includes offset 120, and there
//!    are no more pages. Otherwise the client has everything below 100, and is in the middle of the second walk.

use std::collections::HashMap;

use crate::pool::PooledConnection;
use domain::sync_cursor::{SyncCursor, SyncWalk, WalkPosition, WalkSection};
use domain::view::{ConversationView, MessageView, ReadMarkView};
use domain::{MessageId, Position, PositionVector, UserId, limits};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::connection::ReadModel;
use crate::error::ReadModelError;
use crate::queries::{self, Snapshot};
use crate::repairs::LaterRepairs;
use crate::sync_walk::{CONVERSATION, ChangeRef, MESSAGE, Walk, WalkEnd};

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

/// What a sync finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncOutcome {
    /// A page of changes.
    Page(SyncPage),
    /// Rows that the user can see were made anew since the cursor: positions don't say what changed. This is the number
    /// of the last such repair.
    Repaired(i64),
}

/// A page of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncPage {
    /// The changes: each once, partition by partition, in the order of the log.
    pub items: Vec<PositionedChange>,
    /// The cursor from which the next page starts.
    pub next: SyncCursor,
    /// Whether there are more changes after this page.
    pub more: bool,
}

impl ReadModel {
    /// Lists what changed for a user since a cursor: a page of at most `limit` changes.
    pub async fn changes(
        &self,
        user: &UserId,
        since: &SyncCursor,
        limit: usize,
    ) -> Result<Snapshot<SyncOutcome>, ReadModelError> {
        let (mut transaction, offsets) = self.snapshot("changes").await?;
        let repairs = LaterRepairs::read(&mut transaction, user, since.repairs).await?;
        if let Some(number) = repairs.of_user {
            transaction.commit().await?;
            return Ok(Snapshot { value: SyncOutcome::Repaired(number), offsets });
        }
        let (mut changes, next, more) = walk_on(&mut transaction, user, since, &offsets, limit).await?;
        let next = SyncCursor { repairs: repairs.last, ..next };
        changes.sort_unstable_by_key(ChangeRef::order);
        // A second walk lists again what the first one has just listed. Both read this snapshot.
        changes.dedup_by_key(|change| change.order());
        let items = load_values(&mut transaction, user, changes).await?;
        transaction.commit().await?;
        Ok(Snapshot { value: SyncOutcome::Page(SyncPage { items, next, more }), offsets })
    }
}

/// Continues the cursor's walk in a snapshot with these offsets. If the walk ends, begins the next one. Returns what
/// changed, the cursor of the next page, and whether there is one.
async fn walk_on(
    connection: &mut PooledConnection,
    user: &UserId,
    since: &SyncCursor,
    offsets: &PositionVector,
    limit: usize,
) -> Result<(Vec<ChangeRef>, SyncCursor, bool), sqlx::Error> {
    let start = WalkPosition::start(WalkSection::Small(0));
    let walk = since.walk.clone().unwrap_or_else(|| SyncWalk { until: offsets.clone(), next: start });
    let first = Walk { user, since: &since.includes }.page(connection, walk.next, limit).await?;
    let mut changes = first.changes;
    if let WalkEnd::Full(next) | WalkEnd::Unexamined(next) = first.end {
        let walk = Some(SyncWalk { next, ..walk });
        return Ok((changes, SyncCursor { walk, ..since.clone() }, true));
    }
    if walk.until == *offsets {
        return Ok((changes, SyncCursor::new(walk.until, since.repairs), false));
    }
    let remaining = limit - changes.len();
    let second = Walk { user, since: &walk.until }.page(connection, start, remaining).await?;
    // A walk through so many large conversations never fits on one page. If each such page began another walk, a client
    // would never be done while others write.
    let is_idle = second.changes.is_empty();
    changes.extend(second.changes);
    match second.end {
        WalkEnd::Complete => Ok((changes, SyncCursor::new(offsets.clone(), since.repairs), false)),
        WalkEnd::Unexamined(_) if is_idle => Ok((changes, SyncCursor::new(walk.until, since.repairs), false)),
        WalkEnd::Full(next) | WalkEnd::Unexamined(next) => {
            let second = Some(SyncWalk { until: offsets.clone(), next });
            Ok((changes, SyncCursor { includes: walk.until, repairs: since.repairs, walk: second }, true))
        }
    }
}

/// Loads the current values of what changed.
async fn load_values(
    connection: &mut PooledConnection,
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
    connection: &mut PooledConnection,
    keys: &[(Uuid, Uuid)],
) -> Result<HashMap<(Uuid, Uuid), MessageView>, sqlx::Error> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let (conversations, ids): (Vec<Uuid>, Vec<Uuid>) = keys.iter().copied().unzip();
    // One look-up for each message. For a list of ids, Postgres may prefer to read a small table as a whole.
    let rows = sqlx::query(
        "SELECT messages.*, partition FROM unnest($1::uuid[], $2::uuid[]) AS requested (conversation_id, message_id)
         JOIN messages ON messages.id = message_id AND messages.conversation_id = requested.conversation_id
         JOIN conversations ON conversations.id = messages.conversation_id",
    )
    .bind(conversations)
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
