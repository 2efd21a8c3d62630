//! Repairs: which rows were made anew and are other ones than before. See [`domain::repair`].
//!
//! A transaction that makes rows anew records the repair, so a snapshot has both or neither. Cached views may be older
//! for a while: nobody may claim that an answer from the cache includes a repair before it is *told*.

use domain::repair::{Repair, RepairScope, ToldRepairs};
use domain::{ConversationId, UserId};
use sqlx::Row;
use uuid::Uuid;

use crate::connection::ReadModel;
use crate::derived_rows::DerivedTable;
use crate::error::ReadModelError;
use crate::pool::PooledConnection;

/// How many repairs are remembered.
const REMEMBERED_MAX: i64 = 10_000;
/// How many repairs the processes are told of one by one.
const TOLD_MAX: i64 = 100;

domain::limit_rows! {
    Services, "repairs of rows that are remembered, one for each conversation", Count REMEMBERED_MAX, "every client whose token is older starts anew", "Postgres, and the time of a sync";
    Services, "of them, those that realtime nodes are told of one by one", Count TOLD_MAX, "a node that has missed others closes all sockets, which come back and sync", "Redis, and every process that reads them";
}

/// The statement that records repairs in a table. `scopes` selects pairs of a conversation and a user.
pub(crate) fn record_statement(table: &str, scopes: &str, is_told: bool) -> String {
    // With the lock, the numbers are in the order of the commits: a snapshot that has one has all lower ones.
    format!(
        "INSERT INTO {table} (number, conversation_id, user_id, is_told)
         SELECT coalesce((SELECT max(number) FROM {table}), 0) + row_number() OVER (), conversation, member, {is_told}
         FROM ({scopes}) AS scopes (conversation, member)"
    )
}

/// The statement that locks a table of repairs until the transaction ends. Transactions do it last.
pub(crate) fn lock_statement(table: &str) -> String {
    format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
}

/// The statements that forget the oldest repairs. The oldest that stays then stands for them, and concerns everybody.
pub(crate) fn forget_statements(table: &str) -> [String; 2] {
    let oldest = format!("(SELECT max(number) FROM {table}) - {REMEMBERED_MAX}");
    [
        format!("DELETE FROM {table} WHERE number < {oldest}"),
        format!("UPDATE {table} SET conversation_id = NULL, user_id = NULL WHERE number = {oldest}"),
    ]
}

/// The scopes of a repair that concerns everybody.
pub(crate) const EVERYBODY: &str = "SELECT NULL::uuid, NULL::text";

/// What users can see of a conversation, before its rows are made anew or afterwards.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct VisibleRows {
    /// The number of rows of each table, and a sum of their hashes.
    digests: Vec<(i64, Option<String>)>,
    members: Vec<String>,
}

impl VisibleRows {
    pub(crate) async fn read(
        connection: &mut PooledConnection,
        conversation: ConversationId,
    ) -> Result<Self, sqlx::Error> {
        let mut digests = Vec::new();
        for table in DerivedTable::ALL.into_iter().filter(|table| table.is_visible()) {
            let (name, columns) = (table.name(), table.columns());
            let statement = format!(
                "SELECT count(*) AS rows, sum(hash_record_extended(ROW({}), 1))::text AS hashes
                 FROM {name} WHERE {} = $1",
                columns.join(", "),
                columns[0]
            );
            let row = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(conversation.0);
            let row = row.fetch_one(&mut *connection).await?;
            digests.push((row.try_get("rows")?, row.try_get("hashes")?));
        }
        let members = sqlx::query_scalar("SELECT user_id FROM members WHERE conversation_id = $1 ORDER BY user_id");
        Ok(Self { digests, members: members.bind(conversation.0).fetch_all(connection).await? })
    }

    /// The users who are in the conversation only before or only afterwards.
    fn changed_members(&self, after: &Self) -> Vec<String> {
        let without = |one: &Self, other: &Self| {
            let other = other.members.clone();
            one.members.clone().into_iter().filter(move |user| other.binary_search(user).is_err())
        };
        without(self, after).chain(without(after, self)).collect()
    }
}

/// Records that a conversation's rows were made anew, if users can see a difference. The caches don't know yet.
pub(crate) async fn record_repair(
    connection: &mut PooledConnection,
    conversation: ConversationId,
    before: &VisibleRows,
    after: &VisibleRows,
) -> Result<(), sqlx::Error> {
    if before == after {
        return Ok(());
    }
    sqlx::query(sqlx::AssertSqlSafe(lock_statement("repairs"))).execute(&mut *connection).await?;
    let scopes = "SELECT $1::uuid, NULL::text UNION ALL SELECT $1, unnest($2::text[])";
    let record = sqlx::query(sqlx::AssertSqlSafe(record_statement("repairs", scopes, false)));
    record.bind(conversation.0).bind(before.changed_members(after)).execute(&mut *connection).await?;
    for forget in forget_statements("repairs") {
        sqlx::query(sqlx::AssertSqlSafe(forget)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The repairs after one, as a snapshot has them.
pub(crate) struct LaterRepairs {
    /// The number of the last one.
    pub(crate) last: i64,
    /// The number of the last one that concerns a user.
    pub(crate) of_user: Option<i64>,
}

impl LaterRepairs {
    pub(crate) async fn read(
        connection: &mut PooledConnection,
        user: &UserId,
        number: i64,
    ) -> Result<Self, sqlx::Error> {
        let row = sqlx::query(
            "SELECT max(number) AS last, max(number) FILTER (
                 WHERE user_id = $1 OR (user_id IS NULL AND (conversation_id IS NULL OR EXISTS (
                     SELECT FROM members
                     WHERE members.conversation_id = repairs.conversation_id AND members.user_id = $1)))) AS of_user
             FROM repairs WHERE number > $2",
        );
        let row = row.bind(user.as_str()).bind(number).fetch_one(connection).await?;
        Ok(Self { last: row.try_get::<Option<i64>, _>("last")?.unwrap_or(number), of_user: row.try_get("of_user")? })
    }
}

impl ReadModel {
    /// Notes that every cache knows that a conversation's rows were made anew.
    pub async fn note_repair_told(&self, conversation: ConversationId) -> Result<(), ReadModelError> {
        let mut connection = self.acquire("note_repair_told").await?;
        sqlx::query("UPDATE repairs SET is_told = true WHERE conversation_id = $1 AND NOT is_told")
            .bind(conversation.0)
            .execute(&mut connection)
            .await?;
        Ok(())
    }

    /// Reads the repairs that every cache knows, and the generation that includes them.
    pub async fn told_repairs(&self) -> Result<Option<(i64, ToldRepairs)>, ReadModelError> {
        let mut connection = self.acquire("told_repairs").await?;
        // One statement, so that the generation is one that includes the repairs.
        let rows = sqlx::query(
            "WITH told AS (
                 SELECT coalesce(min(number) FILTER (WHERE NOT is_told) - 1, max(number)) AS last FROM repairs)
             SELECT projection.generation, last, number, conversation_id, user_id
             FROM projection, told LEFT JOIN LATERAL (
                 SELECT * FROM repairs WHERE number <= last ORDER BY number DESC LIMIT $1) AS latest ON true
             WHERE last IS NOT NULL ORDER BY number",
        )
        .bind(TOLD_MAX)
        .fetch_all(&mut connection)
        .await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let (generation, number) = (first.try_get("generation")?, first.try_get("last")?);
        let mut latest = Vec::new();
        for row in &rows {
            let Some(number) = row.try_get::<Option<i64>, _>("number")? else { continue };
            let (conversation, user): (Option<Uuid>, Option<String>) =
                (row.try_get("conversation_id")?, row.try_get("user_id")?);
            let scope = match (conversation, user.map(|user| user.parse())) {
                (_, Some(Ok(user))) => RepairScope::User(user),
                (Some(conversation), None) => RepairScope::Conversation(ConversationId(conversation)),
                (None, None) | (_, Some(Err(_))) => RepairScope::Everybody,
            };
            latest.push(Repair { number, scope });
        }
        Ok(Some((generation, ToldRepairs { number, latest })))
    }
}
