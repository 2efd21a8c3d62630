//! The read model's rows, with times and words in the API's form.

use serde_json::Value;
use sqlx::{Postgres, Transaction};

use super::http::Response;
use super::system::{System, eventually};

impl System {
    /// Waits until the read model includes a command's event.
    pub(crate) async fn wait_until_projected(&self, done: &Response) {
        let (partition, offset) = done.position().split_once(':').unwrap();
        self.wait_until_included(partition.parse().unwrap(), offset.parse().unwrap()).await;
    }

    async fn wait_until_included(&self, partition: i32, offset: i64) {
        let partition = partition.to_string();
        eventually("the event is projected", async || {
            let row = self.row("SELECT next_offset FROM partitions WHERE partition = $1::integer", &partition).await;
            row["next_offset"].as_i64().filter(|next| *next > offset)
        })
        .await;
    }

    /// Waits until the read model includes every record on the topic.
    pub(crate) async fn wait_until_caught_up(&self) {
        for record in self.records().await {
            self.wait_until_included(record.partition, record.offset).await;
        }
    }

    /// Waits until a projector owns each partition. On a busy machine the first commands of a new system might
    /// otherwise wait longer for a projector than commands do.
    pub(crate) async fn wait_until_projecting(&self) {
        self.wait_until_projecting_by(1).await;
    }

    /// Waits until this many projectors share the partitions: nobody projects a partition while it changes hands.
    pub(crate) async fn wait_until_projecting_by(&self, projectors: usize) {
        let partitions = usize::try_from(self.config.kafka_partitions).unwrap();
        let query = "SELECT count(*) AS held, count(DISTINCT owner) AS owners FROM leases
                     WHERE lease_until > now() AND owner <> $1";
        eventually("a projector owns every partition", async || {
            let leases = self.row(query, "").await;
            (leases["held"] == partitions && leases["owners"].as_u64() >= Some(projectors.min(partitions) as u64))
                .then_some(())
        })
        .await;
        if projectors > 1 {
            // A projector starts to read a partition only some time after it has acquired the lease.
            let query = "SELECT jsonb_object_agg(partition, owner) AS owners, min(lease_until)::text AS until
                         FROM leases WHERE $1 = ''";
            let mut before = self.row(query, "").await;
            eventually("the projectors renew every lease", async || {
                let now = self.row(query, "").await;
                if now["owners"] != before["owners"] {
                    before = now;
                    return None;
                }
                (now["until"].as_str() > before["until"].as_str()).then_some(())
            })
            .await;
        }
    }

    /// Stops every projector from committing until the returned transaction ends. A projector that waits for 1 s
    /// logs that it timed out, and tries again.
    pub(crate) async fn pause_projection(&self) -> Transaction<'static, Postgres> {
        let mut transaction = self.sql.begin().await.unwrap();
        sqlx::query("SELECT 1 FROM partitions FOR UPDATE").execute(&mut *transaction).await.unwrap();
        transaction
    }

    /// Stops every projector from committing one partition until the returned transaction ends. The others go on.
    pub(crate) async fn pause_partition(&self, partition: i32) -> Transaction<'static, Postgres> {
        let mut transaction = self.sql.begin().await.unwrap();
        let lock = sqlx::query("SELECT 1 FROM partitions WHERE partition = $1 FOR UPDATE").bind(partition);
        lock.execute(&mut *transaction).await.unwrap();
        transaction
    }

    /// A conversation's row.
    pub(crate) async fn conversation_row(&self, id: &str) -> Value {
        let (created_at, updated_at) = (time("created_at"), time("updated_at"));
        let query = format!(
            "SELECT id, kind, title, participant_count, {created_at}, {updated_at}, last_seq, last_message_id,
                    partition || ':' || changed AS position
             FROM conversations WHERE id = $1::uuid"
        );
        self.row(&query, id).await
    }

    /// A conversation's participants in order, with their read marks.
    pub(crate) async fn member_rows(&self, conversation: &str) -> Value {
        let last_read_at = time("last_read_at");
        let query = format!(
            "SELECT jsonb_agg(to_jsonb(member)) AS members FROM (
                 SELECT user_id, last_read_seq, {last_read_at} FROM members
                 WHERE conversation_id = $1::uuid ORDER BY ordinal
             ) AS member"
        );
        self.row(&query, conversation).await["members"].take()
    }

    /// A message's row.
    pub(crate) async fn message_row(&self, id: &str) -> Value {
        let (created_at, edited_at, deleted_at) = (time("created_at"), time("edited_at"), time("deleted_at"));
        let query = format!(
            "SELECT conversation_id, seq, id, sender_id, content, message_type, attachments, mentions, reply_to_id,
                    {created_at}, {edited_at}, {deleted_at}, position
             FROM messages WHERE id = $1::uuid"
        );
        self.row(&query, id).await
    }

    /// A message's reactions in order.
    pub(crate) async fn reaction_rows(&self, message: &str) -> Value {
        let query = "SELECT jsonb_agg(jsonb_build_object('emoji', emoji, 'label', label, 'user_ids', user_ids)
                                      ORDER BY ordinal) AS reactions
                     FROM reactions WHERE message_id = $1::uuid";
        self.row(query, message).await["reactions"].take()
    }
}

fn time(column: &str) -> String {
    format!(r#"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS {column}"#)
}
