//! The floor of the projector: writes the rows of messages into the same tables, in batches as large as its own.
//!
//! `POST /prepare` makes the rows, so that the time of `POST /insert` and `POST /copy` is that of the writing alone.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::post;
use serde::Deserialize;
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::options::FloorOptions;
use super::rows::{self, Rows};
use crate::workload::{Population, content};

/// Rows in a batch: as many as the projector takes at once.
const BATCH_ROWS: usize = 2_000;

/// How many rows to make, for which population.
#[derive(Deserialize)]
struct Amount {
    rows: u64,
    conversations: u32,
    members: u32,
}

struct Insert {
    postgres: PgConnection,
    batches: Vec<Rows>,
}

type Shared = Arc<Mutex<Insert>>;

/// The floor of the projector.
pub(super) async fn router(options: &FloorOptions) -> anyhow::Result<Router> {
    let postgres = rows::connect(&options.services.database_url, &options.schema).await?;
    let routes =
        Router::new().route("/prepare", post(prepare)).route("/insert", post(insert)).route("/copy", post(copy));
    Ok(routes.with_state(Arc::new(Mutex::new(Insert { postgres, batches: Vec::new() }))))
}

async fn prepare(State(shared): State<Shared>, Query(amount): Query<Amount>) -> Result<(), (StatusCode, String)> {
    let mut insert = shared.lock().await;
    insert.batches = batches(&amount);
    let emptied = sqlx::query("TRUNCATE messages, applied_events").execute(&mut insert.postgres).await;
    emptied.map(drop).map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

async fn insert(State(shared): State<Shared>) -> Result<(), (StatusCode, String)> {
    write(shared, false).await.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

async fn copy(State(shared): State<Shared>) -> Result<(), (StatusCode, String)> {
    write(shared, true).await.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// Writes each batch in a transaction.
async fn write(shared: Shared, by_copy: bool) -> anyhow::Result<()> {
    let mut insert = shared.lock().await;
    for batch in std::mem::take(&mut insert.batches) {
        let mut transaction = insert.postgres.begin().await?;
        if by_copy {
            batch.copy(&mut transaction).await?;
        } else {
            batch.insert(&mut transaction).await?;
        }
        transaction.commit().await?;
    }
    Ok(())
}

/// The rows of messages, as the fold makes them of the events of the same population.
fn batches(amount: &Amount) -> Vec<Rows> {
    let population = Population { conversations: amount.conversations, members: amount.members, connected: 0 };
    let conversations: Vec<Uuid> = (0..amount.conversations).map(|_| Uuid::now_v7()).collect();
    let mut seqs: HashMap<Uuid, i64> = HashMap::new();
    let mut batches = vec![Rows::default()];
    for number in 0..amount.rows {
        if batches.last().is_some_and(|batch| batch.len() == BATCH_ROWS) {
            batches.push(Rows::default());
        }
        let Some(batch) = batches.last_mut() else { continue };
        let user = population.sender(number);
        let conversation = conversations[population.conversation_of(user) as usize];
        let seq = seqs.entry(conversation).or_default();
        *seq += 1;
        batch.conversation_id.push(conversation);
        batch.seq.push(*seq);
        batch.id.push(Uuid::now_v7());
        batch.event_id.push(Uuid::now_v7());
        batch.sender_id.push(format!("user-{user}"));
        batch.content.push(content(number));
        batch.created_at.push(OffsetDateTime::now_utc());
        batch.partition.push(0);
        batch.position.push(*seq);
    }
    batches
}
