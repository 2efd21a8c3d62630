//! The rows that Postgres has of one conversation, from one snapshot.

use std::collections::BTreeMap;

use domain::{ConversationId, Position};
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::parked_records::ParkedRecords;
use super::stored::{begin_rows, read};
use super::table::{DerivedRow, DerivedTable};
use crate::connection::ReadModel;
use crate::error::ReadModelError;
use crate::rows;

/// How many rows of a conversation are read.
const CONVERSATION_ROWS_MAX: usize = 100_000;
/// How many dead letters of its partition are read.
const PARTITION_DEAD_LETTERS_MAX: usize = 10_000;

domain::limit_rows! {
    Memory, "rows of a conversation that the admin API compares with the log", Count CONVERSATION_ROWS_MAX, "409 `too_large`", "memory, and Postgres";
    Memory, "dead letters of its partition that it takes into account", Count PARTITION_DEAD_LETTERS_MAX, "409 `too_large`", "memory, and Postgres";
}

/// What Postgres has of one conversation.
#[derive(Debug)]
pub struct StoredConversation {
    /// The next offset of the conversation's partition: the rows include every event below.
    pub next_offset: i64,
    /// Its rows, of all tables.
    pub rows: Vec<DerivedRow>,
    /// The records of its partition that were parked.
    pub parked: ParkedRecords,
}

impl ReadModel {
    /// Reads the rows of a conversation whose events are on `partition` of a topic. None if there are too many.
    pub async fn stored_conversation(
        &self,
        conversation: ConversationId,
        topic_id: Uuid,
        partition: i32,
    ) -> Result<Option<StoredConversation>, ReadModelError> {
        let (folded, mut transaction) = begin_rows(self, "stored_conversation").await?;
        let next_offset = folded.map_or(0, |folded| folded.next.next(partition));
        let dead_letters = "SELECT position, status FROM dead_letters WHERE topic_id = $1 AND partition = $2 ORDER BY position LIMIT $3";
        let dead_letters = sqlx::query(dead_letters)
            .bind(topic_id)
            .bind(partition)
            .bind(limit(PARTITION_DEAD_LETTERS_MAX))
            .fetch_all(&mut transaction)
            .await?;
        let mut statuses = BTreeMap::new();
        for row in &dead_letters {
            let position = Position { partition, offset: row.try_get("position")? };
            statuses.insert(position, rows::enum_value(row, "status")?);
        }
        let (mut parked, mut found) = (ParkedRecords::new(statuses), Vec::<DerivedRow>::new());
        for table in DerivedTable::ALL {
            let values: Vec<String> = table.columns().iter().map(|column| format!("{column}::text")).collect();
            let (values, name, conversation_id) = (values.join(", "), table.name(), table.columns()[0]);
            let statement = format!("SELECT {values} FROM {name} WHERE {name}.{conversation_id} = $1 LIMIT $2");
            let query = sqlx::query(AssertSqlSafe(statement)).bind(conversation.0);
            let page = query.bind(limit(CONVERSATION_ROWS_MAX - found.len())).fetch_all(&mut transaction).await?;
            for row in &page {
                let row = read(table, row)?;
                parked.observe(&row);
                found.push(row);
            }
            if found.len() > CONVERSATION_ROWS_MAX {
                break;
            }
        }
        transaction.commit().await?;
        let is_complete = found.len() <= CONVERSATION_ROWS_MAX && dead_letters.len() <= PARTITION_DEAD_LETTERS_MAX;
        Ok(is_complete.then_some(StoredConversation { next_offset, rows: found, parked }))
    }
}

/// One more than allowed, which shows that there are too many.
fn limit(allowed: usize) -> i64 {
    i64::try_from(allowed).unwrap_or(i64::MAX).saturating_add(1)
}
