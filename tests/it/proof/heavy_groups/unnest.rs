//! The floor: how fast Postgres takes the members' rows of the same groups in the same table, and does nothing else.

use std::time::{Duration, Instant};

use domain::state::State;
use service::config::Config;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres};
use uuid::Uuid;

use super::super::table::grouped;
use crate::harness::System;

/// How many rows a statement inserts. The projector's largest batches have 10,000.
const STATEMENTS: [usize; 3] = [1_000, 10_000, 50_000];

/// How fast the best size of a statement was.
pub(super) struct Floor {
    pub(super) rows_each_second: f64,
    /// Each size with its speed, in words.
    pub(super) sizes: String,
}

/// A member's row.
struct MemberRow {
    conversation: Uuid,
    user: String,
    ordinal: i32,
    position: i64,
    partition: i32,
}

/// Inserts the members of a state, in the order of its log, into a schema of their own.
pub(super) async fn measure(config: &Config, state: &State) -> Floor {
    let schema = format!("{}floor", config.database_schema);
    let system = System::attach(Config { database_schema: schema.clone(), ..config.clone() }, "");
    system.read_model().migrate().await.unwrap();
    let mut rows: Vec<MemberRow> = state
        .members
        .iter()
        .map(|((conversation, user), member)| MemberRow {
            conversation: conversation.0,
            user: user.to_string(),
            ordinal: member.ordinal,
            position: member.position.offset,
            partition: member.position.partition,
        })
        .collect();
    rows.sort_by_key(|row| (row.position, row.partition, row.ordinal));
    let mut measured = Vec::new();
    for size in STATEMENTS {
        sqlx::query("TRUNCATE members").execute(&system.sql).await.unwrap();
        let mut took = Duration::ZERO;
        for chunk in rows.chunks(size) {
            // Encodes the arrays, before the clock runs.
            let insert = insert(chunk);
            let began = Instant::now();
            insert.execute(&system.sql).await.unwrap();
            took += began.elapsed();
        }
        measured.push((size, rows.len() as f64 / took.as_secs_f64()));
    }
    let drop = format!("DROP SCHEMA \"{schema}\" CASCADE");
    sqlx::query(AssertSqlSafe(drop)).execute(&system.sql).await.unwrap();
    let in_words =
        |(size, rate): &(usize, f64)| format!("{} in statements of {}", grouped(*rate as usize), grouped(*size));
    let sizes: Vec<String> = measured.iter().map(in_words).collect();
    let rows_each_second = measured.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    Floor { rows_each_second, sizes: sizes.join(", ") }
}

fn insert(rows: &[MemberRow]) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(
        "INSERT INTO members (conversation_id, user_id, ordinal, last_read_seq, last_read_at, position, recent_at,
                              partition, changed)
         SELECT conversation_id, user_id, ordinal, 0, NULL, position, NULL, partition, NULL
         FROM unnest($1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::int[])
             AS member (conversation_id, user_id, ordinal, position, partition)",
    )
    .bind(rows.iter().map(|row| row.conversation).collect::<Vec<Uuid>>())
    .bind(rows.iter().map(|row| row.user.clone()).collect::<Vec<String>>())
    .bind(rows.iter().map(|row| row.ordinal).collect::<Vec<i32>>())
    .bind(rows.iter().map(|row| row.position).collect::<Vec<i64>>())
    .bind(rows.iter().map(|row| row.partition).collect::<Vec<i32>>())
}
