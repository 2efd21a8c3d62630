//! Parking: storing as dead letters the records that the projector can't fold, in the transaction of their batch. A
//! batch must never lose such a record, and never wait for it.

use crate::pool::PooledConnection;
use domain::Position;
use uuid::Uuid;

/// The largest number of characters that are stored of a reason or a note.
const MAX_TEXT_CHARACTERS: usize = 500;

domain::limit_rows! {
    Projector, "characters of a dead letter's reason, or of an operator's note on it", Count MAX_TEXT_CHARACTERS, "the text is cut", "the table of dead letters";
}

/// The state of a dead letter. In JSON and in Postgres, two of them have older names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterStatus {
    /// Nothing happens until an operator decides.
    Parked,
    /// An operator has requested a retry. The projector that owns the partition makes it.
    #[serde(rename = "wanted")]
    RetryRequested,
    /// The projector has folded it, and has yet to invalidate the cached views of its conversation.
    #[serde(rename = "folded_untold")]
    FoldedPendingInvalidation,
    /// The projector has folded it. Permanent until a rebuild.
    Folded,
    /// An operator has decided that nothing is to be done. A retry can still be requested.
    Discarded,
}

/// A record that the projector can't fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedRecord {
    /// Its position on the log.
    pub position: Position,
    /// Why the projector can't fold it.
    pub reason: String,
}

/// Parks records. A record that is parked already stays as it is.
pub(crate) async fn park(
    connection: &mut PooledConnection,
    topic_id: Uuid,
    parked: &[ParkedRecord],
) -> Result<(), sqlx::Error> {
    if parked.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO dead_letters (topic_id, partition, position, reason)
         SELECT $1, * FROM unnest($2::int[], $3::bigint[], $4::text[]) ON CONFLICT DO NOTHING",
    )
    .bind(topic_id)
    .bind(parked.iter().map(|it| it.position.partition).collect::<Vec<_>>())
    .bind(parked.iter().map(|it| it.position.offset).collect::<Vec<_>>())
    .bind(parked.iter().map(|it| storable_text(&it.reason)).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// The part of a text that Postgres can store: without NUL characters, and cut at [`MAX_TEXT_CHARACTERS`].
pub(crate) fn storable_text(text: &str) -> String {
    text.chars().filter(|character| *character != '\0').take(MAX_TEXT_CHARACTERS).collect()
}
