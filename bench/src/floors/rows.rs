//! The rows that the projector writes for each message, and the two fastest ways to write them.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use sqlx::types::Json;
use sqlx::{ConnectOptions, PgConnection};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// New messages, by column.
#[derive(Default, Clone)]
pub(super) struct Rows {
    pub(super) conversation_id: Vec<Uuid>,
    pub(super) seq: Vec<i64>,
    pub(super) id: Vec<Uuid>,
    pub(super) event_id: Vec<Uuid>,
    pub(super) sender_id: Vec<String>,
    pub(super) content: Vec<String>,
    pub(super) created_at: Vec<OffsetDateTime>,
    pub(super) partition: Vec<i32>,
    pub(super) position: Vec<i64>,
}

/// A connection to a schema with the tables of the read model, with the projector's settings.
///
/// # Errors
/// When Postgres doesn't answer.
pub(super) async fn connect(url: &str, schema: &str) -> anyhow::Result<PgConnection> {
    let options = PgConnectOptions::from_str(url)?.options([("search_path", schema), ("synchronous_commit", "off")]);
    Ok(options.connect().await?)
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.id.len()
    }

    /// Inserts the rows with a statement for each table.
    pub(super) async fn insert(&self, postgres: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO messages (conversation_id, seq, id, sender_id, content, created_at, position, message_type,
                                   attachments, mentions)
             SELECT *, 'TEXT', $8, $8 FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[],
                                                  $6::timestamptz[], $7::bigint[])",
        )
        .bind(&self.conversation_id)
        .bind(&self.seq)
        .bind(&self.id)
        .bind(&self.sender_id)
        .bind(&self.content)
        .bind(&self.created_at)
        .bind(&self.position)
        .bind(Json(Vec::<()>::new()))
        .execute(&mut *postgres)
        .await?;
        sqlx::query(
            "INSERT INTO applied_events (conversation_id, event_id, partition, position)
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::bigint[])",
        )
        .bind(&self.conversation_id)
        .bind(&self.event_id)
        .bind(&self.partition)
        .bind(&self.position)
        .execute(postgres)
        .await?;
        Ok(())
    }

    /// Writes the rows with a `COPY` for each table.
    pub(super) async fn copy(&self, postgres: &mut PgConnection) -> anyhow::Result<()> {
        let (mut messages, mut applied) = (String::new(), String::new());
        for row in 0..self.len() {
            let (conversation, position) = (self.conversation_id[row], self.position[row]);
            let created_at = self.created_at[row].format(&Rfc3339)?;
            let fields = [&self.sender_id[row], &self.content[row], &created_at];
            messages += &format!("{conversation}\t{}\t{}\t", self.seq[row], self.id[row]);
            for field in fields {
                messages += &format!("{field}\t");
            }
            messages += &format!("{position}\tTEXT\t[]\t[]\n");
            applied += &format!("{conversation}\t{}\t{}\t{position}\n", self.event_id[row], self.partition[row]);
        }
        let tables = [
            (
                "COPY messages (conversation_id, seq, id, sender_id, content, created_at, position, message_type,
                                attachments, mentions) FROM STDIN",
                messages,
            ),
            ("COPY applied_events (conversation_id, event_id, partition, position) FROM STDIN", applied),
        ];
        for (statement, text) in tables {
            let mut copy = postgres.copy_in_raw(statement).await?;
            copy.send(text.into_bytes()).await?;
            copy.finish().await?;
        }
        Ok(())
    }
}
