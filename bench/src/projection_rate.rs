//! A projector that folds a full topic, and its rows put into an equal table by hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use domain::{Event, EventData};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::Services;
use crate::child::Child;
use crate::events::{Events, Shape};
use crate::raw;
use crate::report::{Faults, Progress, Rates};

/// Rows of a batch: as many as the projector's own batches have.
const BATCH: usize = 2_000;
/// How often the projector's progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long a projector may stand still.
const STILL: Duration = Duration::from_secs(30);

/// Fills the topic, lets a projector fold it into an empty schema, and then inserts the messages' rows again.
pub(crate) async fn measure(
    services: &Services,
    name: &str,
    shape: Shape,
    count: u32,
    faults: &Arc<Faults>,
) -> anyhow::Result<Rates> {
    let events = Events::new(shape);
    let mut all = events.begun()?;
    for number in 0..u64::from(count) {
        all.push(events.sent(number)?);
    }
    let rows = Rows::batches(&all);
    tracing::info!(events = all.len(), "filling a topic");
    let total = i64::try_from(all.len())?;
    let (kafka, topic, seen) = (services.kafka_brokers.clone(), name.to_owned(), faults.clone());
    tokio::task::spawn_blocking(move || raw::fill(&kafka, &topic, &all, &seen)).await??;
    let mut postgres = PgConnection::connect(&services.database_url).await.context("DATABASE_URL")?;
    let mut child = Child::start(services, name, "projector")?;
    let folded = fold(&mut child, &mut postgres, name, total).await?;
    child.stop().await?;
    let table = format!("SELECT count(*) FROM \"{name}\".messages");
    let messages: i64 = sqlx::query_scalar(AssertSqlSafe(table)).fetch_one(&mut postgres).await?;
    faults.add("messages that were not folded", u64::from(count).saturating_sub(u64::try_from(messages)?));
    let inserted = insert(&mut postgres, name, rows, count).await?;
    postgres.close().await?;
    Ok(Rates { folded, inserted })
}

/// Events a second, from the first commit that is seen to the last.
async fn fold(child: &mut Child, postgres: &mut PgConnection, name: &str, total: i64) -> anyhow::Result<f64> {
    let progress = Progress::new("A projector", u64::try_from(total)?)?;
    let offsets = format!("SELECT coalesce(sum(next_offset), 0)::bigint FROM \"{name}\".partitions");
    let (mut first, mut last): (Option<(Instant, i64)>, _) = (None, (Instant::now(), 0));
    while last.1 < total {
        tokio::time::sleep(LOOK_EVERY).await;
        child.check()?;
        // Until the projector has made it, there is no table.
        let asked = sqlx::query_scalar(AssertSqlSafe(offsets.as_str())).fetch_one(&mut *postgres).await;
        let done: i64 = asked.unwrap_or(0);
        if done > last.1 {
            last = (Instant::now(), done);
            first = first.or(Some(last));
            progress.show(u64::try_from(done)?);
        }
        anyhow::ensure!(last.0.elapsed() < STILL, "the projector stands still at {done} of {total}");
    }
    let (began, before) = first.context("the topic is empty")?;
    Ok((total - before) as f64 / last.0.duration_since(began).as_secs_f64())
}

/// The columns of some messages' rows.
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
    /// The rows that the fold makes of these events, in batches.
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
            if batches.last().is_some_and(|batch| batch.seq.len() == BATCH) {
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

/// Rows a second, into a table like that of the messages, a transaction a batch.
async fn insert(postgres: &mut PgConnection, name: &str, batches: Vec<Rows>, count: u32) -> anyhow::Result<f64> {
    let copy = format!("CREATE TABLE \"{name}\".copy (LIKE \"{name}\".messages INCLUDING ALL)");
    sqlx::query(AssertSqlSafe(copy)).execute(&mut *postgres).await?;
    let insert = format!(
        "INSERT INTO \"{name}\".copy (conversation_id, seq, id, sender_id, content, created_at, position, message_type,
                                      attachments, mentions)
         SELECT *, 'TEXT', $8, $8 FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[],
                                              $6::timestamptz[], $7::bigint[])"
    );
    let progress = Progress::new("Postgres alone", u64::from(count))?;
    let (began, mut done) = (Instant::now(), 0);
    for batch in batches {
        let rows = sqlx::query(AssertSqlSafe(insert.as_str()))
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
        done += rows.rows_affected();
        progress.show(done);
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

/// Drops schemas with everything in them.
pub(crate) async fn drop_schemas(url: &str, names: &[&str]) -> anyhow::Result<()> {
    let mut postgres = PgConnection::connect(url).await.context("DATABASE_URL")?;
    for name in names {
        sqlx::query(AssertSqlSafe(format!("DROP SCHEMA IF EXISTS \"{name}\" CASCADE"))).execute(&mut postgres).await?;
    }
    Ok(postgres.close().await?)
}
