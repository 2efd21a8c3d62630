//! Parks records that could not be folded, in the transaction of the batch that they came in.

use domain::Position;
use sqlx::PgConnection;
use uuid::Uuid;

/// The most characters of a reason that are kept.
const REASON_CHARACTERS: usize = 500;

/// A record that could not be folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedRecord {
    /// Where it is.
    pub position: Position,
    /// What is wrong with it.
    pub reason: String,
}

/// Parks records; one that is there already stays as it is.
pub(crate) async fn park(
    connection: &mut PgConnection,
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
    .bind(parked.iter().map(|it| storable(&it.reason)).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// What Postgres takes as a text: without NULs, and not too long.
pub(crate) fn storable(text: &str) -> String {
    text.chars().filter(|character| *character != '\0').take(REASON_CHARACTERS).collect()
}
