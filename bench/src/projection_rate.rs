//! Measures how fast a projector folds a full topic. The baseline inserts the same rows into an equal table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use domain::{Event, EventData};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::kafka_baseline;
use crate::messages_process::MessagesProcess;
use crate::options::Services;
use crate::report::{Failures, Progress, Rates};
use crate::workload::{Events, Population};

/// Rows in a batch: as many as the projector takes at once.
const BATCH_ROWS: usize = 2_000;
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How long the projector may make no progress.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Fills the topic, measures a projector that folds it into an empty schema, then measures inserts of the messages'
/// rows.
pub(crate) async fn measure(
    services: &Services,
    name: &str,
    population: Population,
    count: u32,
    failures: &Arc<Failures>,
) -> anyhow::Result<Rates> {
    let generator = Events::new(population);
    let mut events = generator.conversations_created()?;
    for number in 0..u64::from(count) {
        events.push(generator.message_sent(number)?);
    }
    let batches = Rows::batches(&events);
    tracing::info!(events = events.len(), "filling a topic");
    let total = i64::try_from(events.len())?;
    let (brokers, topic, fill_failures) = (services.kafka_brokers.clone(), name.to_owned(), failures.clone());
    tokio::task::spawn_blocking(move || kafka_baseline::fill(&brokers, &topic, &events, &fill_failures)).await??;
    let mut postgres = PgConnection::connect(&services.database_url).await.context("DATABASE_URL")?;
    let mut projector = MessagesProcess::start(services, name, "projector")?;
    let folded = measure_fold(&mut projector, &mut postgres, name, total).await?;
    projector.kill().await?;
    let count_messages = format!("SELECT count(*) FROM \"{name}\".messages");
    let messages: i64 = sqlx::query_scalar(AssertSqlSafe(count_messages)).fetch_one(&mut postgres).await?;
    failures.add("messages that were not folded", u64::from(count).saturating_sub(u64::try_from(messages)?));
    let inserted = measure_inserts(&mut postgres, name, batches, count).await?;
    postgres.close().await?;
    Ok(Rates { folded, inserted })
}

/// The number of events that are folded, at the time of an observed commit.
#[derive(Clone, Copy)]
struct Commit {
    at: Instant,
    folded: i64,
}

/// Returns the events a second from the first observed commit to the last.
async fn measure_fold(
    projector: &mut MessagesProcess,
    postgres: &mut PgConnection,
    name: &str,
    total: i64,
) -> anyhow::Result<f64> {
    let progress = Progress::new("A projector", u64::try_from(total)?)?;
    let sum_offsets = format!("SELECT coalesce(sum(next_offset), 0)::bigint FROM \"{name}\".partitions");
    let mut first: Option<Commit> = None;
    let mut last = Commit { at: Instant::now(), folded: 0 };
    while last.folded < total {
        tokio::time::sleep(POLL_INTERVAL).await;
        projector.ensure_running()?;
        // The query fails until the projector has created the table.
        let result = sqlx::query_scalar(AssertSqlSafe(sum_offsets.as_str())).fetch_one(&mut *postgres).await;
        let folded: i64 = result.unwrap_or(0);
        if folded > last.folded {
            last = Commit { at: Instant::now(), folded };
            first = first.or(Some(last));
            progress.update(u64::try_from(folded)?);
        }
        anyhow::ensure!(last.at.elapsed() < STALL_TIMEOUT, "the projector stalls at {folded} of {total} events");
    }
    let first = first.context("the topic is empty")?;
    Ok((total - first.folded) as f64 / last.at.duration_since(first.at).as_secs_f64())
}

/// Rows of the messages table, by column.
#[derive(Default)]
struct Rows {
    conversation_id: Vec<Uuid>,
    seq: Vec<i64>,
    id: Vec<Uuid>,
    sender_id: Vec<String>,
    content: Vec<String>,
    created_at: Vec<OffsetDateTime>,
    position: Vec<i64>,
}

impl Rows {
    /// The rows that the fold makes of events, in batches.
    fn batches(events: &[Event]) -> Vec<Self> {
        let sent = events.iter().filter_map(|event| match &event.data {
            EventData::MessageSent(sent) => Some((event, sent)),
            _ => None,
        });
        let mut seqs = std::collections::HashMap::new();
        let mut batches = vec![Self::default()];
        for (event, sent) in sent {
            let seq: &mut i64 = seqs.entry(event.conversation_id).or_default();
            *seq += 1;
            if batches.last().is_some_and(|batch| batch.seq.len() == BATCH_ROWS) {
                batches.push(Self::default());
            }
            let Some(batch) = batches.last_mut() else { continue };
            batch.conversation_id.push(event.conversation_id.0);
            batch.seq.push(*seq);
            batch.id.push(sent.message_id.0);
            batch.sender_id.push(event.actor_id.to_string());
            batch.content.push(sent.content.clone());
            batch.created_at.push(event.occurred_at.to_date_time());
            batch.position.push(*seq);
        }
        batches
    }
}

/// Inserts rows into a copy of the messages table, a transaction for each batch. Returns the rows a second.
async fn measure_inserts(
    postgres: &mut PgConnection,
    name: &str,
    batches: Vec<Rows>,
    count: u32,
) -> anyhow::Result<f64> {
    let create_copy = format!("CREATE TABLE \"{name}\".copy (LIKE \"{name}\".messages INCLUDING ALL)");
    sqlx::query(AssertSqlSafe(create_copy)).execute(&mut *postgres).await?;
    let insert = format!(
        "INSERT INTO \"{name}\".copy (conversation_id, seq, id, sender_id, content, created_at, position, message_type,
                                      attachments, mentions)
         SELECT *, 'TEXT', $8, $8 FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[],
                                              $6::timestamptz[], $7::bigint[])"
    );
    let progress = Progress::new("Postgres alone", u64::from(count))?;
    let started = Instant::now();
    let mut inserted = 0;
    for batch in batches {
        let result = sqlx::query(AssertSqlSafe(insert.as_str()))
            .bind(batch.conversation_id)
            .bind(batch.seq)
            .bind(batch.id)
            .bind(batch.sender_id)
            .bind(batch.content)
            .bind(batch.created_at)
            .bind(batch.position)
            .bind(Json(Vec::<()>::new()))
            .execute(&mut *postgres)
            .await?;
        inserted += result.rows_affected();
        progress.update(inserted);
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// Drops schemas with all their tables.
pub(crate) async fn drop_schemas(url: &str, names: &[&str]) -> anyhow::Result<()> {
    let mut postgres = PgConnection::connect(url).await.context("DATABASE_URL")?;
    for name in names {
        sqlx::query(AssertSqlSafe(format!("DROP SCHEMA IF EXISTS \"{name}\" CASCADE"))).execute(&mut postgres).await?;
    }
    Ok(postgres.close().await?)
}
