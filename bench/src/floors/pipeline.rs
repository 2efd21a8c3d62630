//! The bare pipeline: the hops of a message, and nothing in them.
//!
//! `POST /api/messages` checks the token, runs one script in Redis, appends to Kafka with `acks=all`, and answers 201.
//! One consumer sends each record to its conversation's room. Another writes rows and offsets in one transaction, and
//! then sets a key of each changed conversation in Redis, in one pipeline.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRef, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use domain::UserId;
use futures_util::FutureExt;
use http::{HeaderValue, StatusCode, header};
use rdkafka::consumer::StreamConsumer;
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use redis::Script;
use redis::aio::ConnectionManager;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use service::auth::{Auth, Caller};
use socketioxide::SocketIo;
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use time::serde::rfc3339;
use uuid::Uuid;

use super::options::FloorOptions;
use super::rows::{self, Rows};
use super::{kafka, sockets};

/// Counts the command in its window and stores the new message, as an admission does.
static ADMIT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local count = redis.call('INCR', KEYS[1])
         if count == 1 then redis.call('PEXPIRE', KEYS[1], 60000) end
         redis.call('SET', KEYS[2], ARGV[1], 'EX', 60)
         return {count, redis.call('PTTL', KEYS[1])}",
    )
});
/// The pause between two batches: the longest of the projector.
const BATCH_INTERVAL: Duration = Duration::from_millis(250);
/// The largest batch, as the projector's.
const BATCH_RECORDS: usize = 2_000;

#[derive(Clone)]
struct Pipeline(Arc<Parts>);

struct Parts {
    auth: Auth,
    redis: ConnectionManager,
    prefix: String,
    producer: FutureProducer,
    topic: String,
}

impl FromRef<Pipeline> for Auth {
    fn from_ref(pipeline: &Pipeline) -> Self {
        pipeline.0.auth.clone()
    }
}

/// The body of a request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    conversation_id: &'a str,
    content: &'a str,
}

/// The value of a record, with the fields of an envelope.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    event_id: Uuid,
    version: u32,
    #[serde(with = "rfc3339")]
    occurred_at: OffsetDateTime,
    conversation_id: &'a str,
    actor_id: &'a str,
    r#type: &'a str,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    message_id: Uuid,
    content: &'a str,
}

/// The bare pipeline.
pub(super) async fn router(options: &FloorOptions, auth: Auth) -> anyhow::Result<Router> {
    let (layer, io) = sockets::layer(auth.clone());
    let brokers = &options.services.kafka_brokers;
    let redis = redis::Client::open(options.services.redis_url.as_str())?.get_connection_manager().await?;
    let postgres = rows::connect(&options.services.database_url, &options.schema).await?;
    let relayed =
        kafka::consumer_with(brokers, &options.topic, &[("fetch.min.bytes", "1"), ("fetch.wait.max.ms", "100")])?;
    let projected =
        kafka::consumer_with(brokers, &options.topic, &[("fetch.min.bytes", "100000"), ("fetch.wait.max.ms", "10")])?;
    tokio::spawn(relay(relayed, io));
    let projector = Projector { consumer: projected, postgres, redis: redis.clone(), prefix: options.prefix.clone() };
    tokio::spawn(async move {
        if let Err(error) = projector.run().await {
            tracing::error!(%error, "the floor's projector ended");
        }
    });
    let producer: FutureProducer = kafka::producer_config(brokers).create()?;
    let parts = Parts { auth, redis, prefix: options.prefix.clone(), producer, topic: options.topic.clone() };
    Ok(Router::new().route("/api/messages", post(send)).with_state(Pipeline(Arc::new(parts))).layer(layer))
}

async fn send(Caller(user): Caller, State(pipeline): State<Pipeline>, body: Bytes) -> Response {
    match append(&pipeline.0, &user, &body).await {
        Ok(record) => {
            let media_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
            (StatusCode::CREATED, media_type, record).into_response()
        }
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "a request failed");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

/// Admits a message and appends it. Returns the record.
async fn append(parts: &Parts, user: &UserId, body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let request: Request = serde_json::from_slice(body)?;
    let record = Record {
        event_id: Uuid::now_v7(),
        version: 1,
        occurred_at: OffsetDateTime::now_utc(),
        conversation_id: request.conversation_id,
        actor_id: user.as_str(),
        r#type: "MESSAGE_SENT",
        data: Data { message_id: Uuid::now_v7(), content: request.content },
    };
    let value = serde_json::to_vec(&record)?;
    let prefix = &parts.prefix;
    let mut call = ADMIT.prepare_invoke();
    call.key(format!("{prefix}:limit:{user}")).key(format!("{prefix}:message:{}", record.data.message_id)).arg(body);
    let (_, _): (u32, i64) = call.invoke_async(&mut parts.redis.clone()).await?;
    let queued =
        parts.producer.send_result(FutureRecord::to(&parts.topic).key(request.conversation_id).payload(&value));
    let delivery = queued.map_err(|(error, _)| error)?;
    delivery.await?.map_err(|(error, _)| error)?;
    Ok(value)
}

/// Sends each record to the sockets in its conversation's room.
async fn relay(consumer: StreamConsumer, io: SocketIo) {
    while let Ok(message) = consumer.recv().await {
        let value = message.payload().unwrap_or_default();
        let (Ok(record), Ok(payload)) = (serde_json::from_slice::<Record>(value), serde_json::from_slice(value)) else {
            continue;
        };
        let payload: &RawValue = payload;
        let _ = io.to(record.conversation_id.to_owned()).emit("message:new", payload).await;
    }
}

struct Projector {
    consumer: StreamConsumer,
    postgres: PgConnection,
    redis: ConnectionManager,
    prefix: String,
}

impl Projector {
    async fn run(mut self) -> anyhow::Result<()> {
        let mut interval = tokio::time::interval(BATCH_INTERVAL);
        loop {
            interval.tick().await;
            let (mut rows, mut next_offsets) = (Rows::default(), BTreeMap::new());
            while rows.len() < BATCH_RECORDS
                && let Some(message) = self.consumer.recv().now_or_never()
            {
                let message = message?;
                let record = serde_json::from_slice(message.payload().unwrap_or_default()).context("a record")?;
                push(&mut rows, &record, message.partition(), message.offset())?;
                next_offsets.insert(message.partition(), message.offset() + 1);
            }
            if rows.len() > 0 {
                self.commit(&rows, next_offsets).await?;
            }
        }
    }

    /// Writes rows and offsets in one transaction, then sets a key of each changed conversation.
    async fn commit(&mut self, rows: &Rows, next_offsets: BTreeMap<i32, i64>) -> anyhow::Result<()> {
        let mut transaction = self.postgres.begin().await?;
        rows.insert(&mut transaction).await?;
        let (partitions, offsets): (Vec<i32>, Vec<i64>) = next_offsets.into_iter().unzip();
        sqlx::query(
            "INSERT INTO partitions (partition, next_offset, topic_id, generation)
             SELECT *, $3, 1 FROM unnest($1::int[], $2::bigint[])
             ON CONFLICT (partition) DO UPDATE SET next_offset = excluded.next_offset",
        )
        .bind(partitions)
        .bind(offsets)
        .bind(Uuid::nil())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let mut pipeline = redis::pipe();
        for conversation in rows.conversation_id.iter().collect::<HashSet<_>>() {
            let version = Uuid::new_v4().simple().to_string();
            pipeline.set(format!("{}:version:{conversation}", self.prefix), version).ignore();
        }
        Ok(pipeline.query_async(&mut self.redis).await?)
    }
}

/// Adds a record's message. The offset serves as its `seq`: it is unique in the conversation.
fn push(rows: &mut Rows, record: &Record<'_>, partition: i32, offset: i64) -> anyhow::Result<()> {
    rows.conversation_id.push(record.conversation_id.parse()?);
    rows.seq.push(offset);
    rows.id.push(record.data.message_id);
    rows.event_id.push(record.event_id);
    rows.sender_id.push(record.actor_id.to_owned());
    rows.content.push(record.data.content.to_owned());
    rows.created_at.push(record.occurred_at);
    rows.partition.push(partition);
    rows.position.push(offset);
    Ok(())
}
