//! Redis under the system's prefix: waits for what the projector publishes, and simulates what operations do to Redis.
//! Also a Redis of a test's own.

use std::process::Stdio;
use std::time::Duration;

use cache::{Admission, Cache, Costs, Limit, ReservationRequest};
use domain::event::{MessageSent, MessageType};
use domain::{
    Command, ConversationId, Event, EventData, EventId, IdempotencyKey, MessageId, Position, Timestamp, UserId,
    envelope,
};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, AsyncConnectionConfig};
use serde_json::json;
use time::OffsetDateTime;
use tokio::process::{self, Child};

use super::http::Response;
use super::process::free_port;
use super::system::{System, eventually};

/// How many failed lookups a user may make in a minute. A lookup fails when the read model doesn't know the id.
pub(crate) const FAILED_LOOKUP_LIMIT: u32 = 300;

/// A Redis of a test's own, which keeps nothing on disk. It ends with the test.
pub(crate) struct OwnRedis {
    _child: Child,
    pub(crate) url: String,
}

impl OwnRedis {
    /// Starts one with these additional options, and waits until it answers.
    pub(crate) async fn start(options: &[&str]) -> Self {
        let port = free_port();
        let mut server = process::Command::new("redis-server");
        server.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        server.args(options).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let redis = Self { _child: server.spawn().unwrap(), url: format!("redis://127.0.0.1:{port}") };
        let client = redis::Client::open(redis.url.as_str()).unwrap();
        eventually("Redis answers", async || client.get_multiplexed_async_connection().await.ok()).await;
        redis
    }

    /// Connects a plain client.
    pub(crate) async fn connect(&self) -> MultiplexedConnection {
        connect(&self.url).await
    }
}

/// On a busy machine Redis may take longer than the library waits.
async fn connect(url: &str) -> MultiplexedConnection {
    let patience = Some(Duration::from_secs(30));
    let config = AsyncConnectionConfig::new().set_connection_timeout(patience).set_response_timeout(patience);
    redis::Client::open(url).unwrap().get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

impl System {
    /// Reserves a key for the event of alice's message, as a process does before it appends the event. Returns the
    /// event's bytes.
    pub(crate) async fn reserve_message(
        &self,
        conversation: &str,
        key: &str,
        content: &str,
        mentions: &[&str],
        decided: Timestamp,
    ) -> Vec<u8> {
        let (alice, key): (UserId, IdempotencyKey) = ("alice".parse().unwrap(), key.parse().unwrap());
        let body = json!({"conversationId": conversation, "content": content});
        let conversation: ConversationId = conversation.parse().unwrap();
        let hash = Command::from_post(&alice, body.as_object().unwrap().clone()).unwrap().hash();
        let event = Event {
            event_id: EventId::for_key(conversation, &alice, &key, "MESSAGE_SENT"),
            occurred_at: decided,
            conversation_id: conversation,
            actor_id: alice.clone(),
            request: Some(domain::event::Request { key: key.clone(), hash }),
            data: EventData::MessageSent(MessageSent {
                message_id: MessageId::for_key(conversation, &alice, &key),
                content: content.to_owned(),
                message_type: MessageType::Text,
                attachments: Vec::new(),
                mentions: mentions.iter().map(|user| user.parse().unwrap()).collect(),
                reply_to_id: None,
            }),
        };
        let bytes = envelope::encode(&event);
        let limit = Limit { name: "messages", max: 30, window: Duration::from_secs(60) };
        let reservation = ReservationRequest { event: &event, bytes: &bytes, pending: None };
        let admitted = self.cache().admit(&alice, &Costs::one(limit), Some(reservation)).await;
        assert!(matches!(admitted, Ok((Admission::Admitted(_), _))), "{admitted:?}");
        bytes
    }

    /// Connects the `cache` crate to Redis under the system's prefix.
    pub(crate) fn cache(&self) -> Cache {
        Cache::connect(&self.config.redis_url, &self.config.redis_prefix).unwrap()
    }

    /// Connects a plain client to Redis.
    pub(crate) async fn redis(&self) -> MultiplexedConnection {
        connect(&self.config.redis_url).await
    }

    /// Connects a plain client to the Redis that has what may be evicted.
    pub(crate) async fn evictable_redis(&self) -> MultiplexedConnection {
        connect(self.config.redis_cache_url.as_ref().unwrap_or(&self.config.redis_url)).await
    }

    /// The key of the progress that the projector publishes, in the generation that the read model has now.
    pub(crate) async fn progress_key(&self) -> String {
        let generation = self.read_model().generation().await.unwrap().unwrap_or(0);
        format!("{}:{generation}:2:progress", self.config.redis_prefix)
    }

    /// Waits until the projector has published to Redis that it passed a command's event, and that the read model is
    /// recent. From then on the second of two equal reads is a cache hit.
    pub(crate) async fn wait_until_published(&self, done: &Response) {
        self.wait_for_progress(done.position().parse().unwrap()).await;
        let (mut redis, key) = (self.evictable_redis().await, self.as_of_key().await);
        eventually("the projector publishes that each partition is recent", async || {
            let (now_s, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut redis).await.unwrap();
            let as_ofs: Vec<i64> = redis.hvals(&key).await.unwrap();
            // A busy machine takes longer to publish the next ones. A view counts for another second.
            let oldest = now_s * 1_000 + micros / 1_000 - 1_000;
            let recent = as_ofs.iter().filter(|as_of| **as_of >= oldest).count();
            (i32::try_from(recent).unwrap() == self.config.kafka_partitions).then_some(())
        })
        .await;
    }

    /// The key of the hash that says how recent each partition is: partition to Unix milliseconds.
    pub(crate) async fn as_of_key(&self) -> String {
        let generation = self.read_model().generation().await.unwrap().unwrap();
        format!("{}:{generation}:2:as-of", self.config.redis_prefix)
    }

    /// Waits until the projector has published to Redis that it passed every record on the topic.
    pub(crate) async fn wait_until_all_published(&self) {
        for record in self.records().await {
            self.wait_for_progress(record.position().parse().unwrap()).await;
        }
    }

    async fn wait_for_progress(&self, position: Position) {
        let mut redis = self.evictable_redis().await;
        eventually("the projector publishes its progress to Redis", async || {
            let next: Option<i64> = redis.hget(self.progress_key().await, position.partition).await.unwrap();
            next.filter(|next| *next > position.offset)
        })
        .await;
    }

    /// Lists every Redis key under the system's prefix.
    pub(crate) async fn redis_keys(&self) -> Vec<String> {
        let mut keys = redis::cmd("KEYS");
        keys.arg(format!("{}:*", self.config.redis_prefix));
        keys.query_async(&mut self.redis().await).await.unwrap()
    }

    /// How many failed lookups of a user the system has counted in this minute.
    pub(crate) async fn failed_lookups(&self, user: &str) -> u32 {
        let count: Option<u32> = self.redis().await.get(self.failed_lookup_key(user)).await.unwrap();
        count.unwrap_or(0)
    }

    /// Allows a user only `remaining` more failed lookups in this minute.
    pub(crate) async fn leave_failed_lookups(&self, user: &str, remaining: u32) {
        let count = FAILED_LOOKUP_LIMIT - remaining;
        self.redis().await.set_ex::<_, _, ()>(self.failed_lookup_key(user), count, 60).await.unwrap();
    }

    fn failed_lookup_key(&self, user: &str) -> String {
        format!("{}:limit:misses:{user}", self.config.redis_prefix)
    }

    /// Ends the present window of a user's rate limit, such as `messages`.
    pub(crate) async fn reset_rate_limit(&self, limit: &str, user: &str) {
        let counter = format!("{}:limit:{limit}:{user}", self.config.redis_prefix);
        self.redis().await.del::<_, ()>(counter).await.unwrap();
    }

    /// Deletes what Redis knows about a message that the projector hasn't reached. Panics when Redis knows nothing.
    pub(crate) async fn forget_pending_message(&self, message: &str) {
        let key = format!("{}:begun:message:{message}", self.config.redis_prefix);
        assert_eq!(self.redis().await.del::<_, u32>(key).await.unwrap(), 1, "Redis doesn't know {message}");
    }

    /// The key of the reservation epoch.
    pub(crate) fn epoch_key(&self) -> String {
        format!("{}:reservations-since", self.config.redis_prefix)
    }

    /// Makes the reservation epoch two hours old. Commands with a key then trust Redis instead of waiting for the
    /// projector, as in a system that has run for a while.
    pub(crate) async fn age_reservation_epoch(&self) {
        let began_at_ms = OffsetDateTime::now_utc().unix_timestamp() * 1_000 - 7_200_000;
        redis::cmd("SET")
            .arg(self.epoch_key())
            .arg(format!("{began_at_ms} x"))
            .query_async::<()>(&mut self.redis().await)
            .await
            .unwrap();
    }

    /// Deletes every Redis key under the system's prefix, as if Redis had lost its data.
    pub(crate) async fn clear_redis(&self) {
        // DEL needs at least one key, so the list starts with a key that doesn't exist.
        let keys = [vec!["none".to_owned()], self.redis_keys().await].concat();
        redis::cmd("DEL").arg(keys).query_async::<()>(&mut self.redis().await).await.unwrap();
    }
}
