//! The rows in Postgres, compared with the expected ones without holding them in memory.

use domain::{ConversationId, MessageId};
use futures_util::TryStreamExt;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::expected::{Expected, Message, hash};
use crate::harness::System;

/// Asserts that each table has the expected rows, and no others.
pub(super) async fn assert_equal(system: &System, expected: &Expected) {
    let query = "SELECT id, conversation_id, seq, sender_id, content,
                        (extract(epoch FROM created_at) * 1000)::bigint AS created_ms,
                        (extract(epoch FROM edited_at) * 1000)::bigint AS edited_ms,
                        (extract(epoch FROM deleted_at) * 1000)::bigint AS deleted_ms FROM messages";
    let messages = for_each(system, query, |row| {
        let id = MessageId(row.get("id"));
        let message = Message {
            conversation: ConversationId(row.get("conversation_id")),
            seq: row.get("seq"),
            sender: row.get::<&str, _>("sender_id").parse().unwrap(),
            content: row.get::<Option<&str>, _>("content").map(hash),
            created_ms: row.get("created_ms"),
            edited_ms: row.get("edited_ms"),
            deleted_ms: row.get("deleted_ms"),
        };
        assert_eq!(Some(&message), expected.messages.get(&id), "{id}");
    });
    assert_eq!(messages.await, expected.messages.len(), "messages are missing");

    let conversations = for_each(system, "SELECT id, last_seq FROM conversations", |row| {
        let id = ConversationId(row.get("id"));
        let expected = expected.conversations.get(&id).map(|conversation| conversation.last_seq);
        assert_eq!(Some(row.get::<i64, _>("last_seq")), expected, "{id}");
    });
    assert_eq!(conversations.await, expected.conversations.len(), "conversations are missing");

    let members = for_each(system, "SELECT conversation_id, user_id, last_read_seq FROM members", |row| {
        let (id, user) = (ConversationId(row.get("conversation_id")), row.get::<&str, _>("user_id"));
        let read_mark = expected.conversations[&id].read_marks.get(&user.parse().unwrap());
        assert_eq!(Some(&row.get("last_read_seq")), read_mark, "{user} in {id}");
    });
    let expected_members: usize = expected.conversations.values().map(|it| it.read_marks.len()).sum();
    assert_eq!(members.await, expected_members, "members are missing");

    let reactions = for_each(system, "SELECT message_id, emoji, user_ids FROM reactions", |row| {
        let key = (MessageId(row.get::<Uuid, _>("message_id")), row.get::<String, _>("emoji"));
        let users = row.get::<Json<_>, _>("user_ids").0;
        assert_eq!(Some(&users), expected.reactions.get(&key), "{key:?}");
    });
    assert_eq!(reactions.await, expected.reactions.len(), "reactions are missing");
}

/// Calls `check` with each row of a query, one after the other. Returns how many there are.
async fn for_each(system: &System, query: &'static str, mut check: impl FnMut(&PgRow)) -> usize {
    let mut rows = sqlx::query(query).fetch(&system.sql);
    let mut count = 0;
    while let Some(row) = rows.try_next().await.unwrap() {
        check(&row);
        count += 1;
    }
    count
}

/// Deletes the topic and the schema: they hold gigabytes. A proof that fails leaves them for its investigation.
pub(super) async fn delete(system: &System) {
    let drop = format!("DROP SCHEMA \"{}\" CASCADE", system.config.database_schema);
    sqlx::query(AssertSqlSafe(drop)).execute(&system.sql).await.unwrap();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &system.config.kafka_brokers).create().unwrap();
    admin.delete_topics(&[&system.config.kafka_topic], &AdminOptions::new()).await.unwrap();
}
