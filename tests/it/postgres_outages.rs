//! Commands go on without Postgres where Redis has the facts, those with idempotency keys too. Nothing that a client's
//! clock says makes a used key look unused.

use std::time::{SystemTime, UNIX_EPOCH};

use redis::AsyncCommands;
use serde_json::{Value, json};
use uuid::{NoContext, Timestamp, Uuid};

use crate::harness::http::Response;
use crate::harness::proxy::Proxy;
use crate::harness::system::config;
use crate::harness::{System, eventually};

/// A system that reaches Postgres through a proxy, and trusts the reservations in Redis.
struct Outage {
    system: System,
    postgres: Proxy,
    conversation: String,
}

/// The time that keys are made at, in seconds.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A key of a client whose clock is this many seconds ahead.
fn key_ahead(seconds: u64) -> String {
    Uuid::new_v7(Timestamp::from_unix(NoContext, now() + seconds, 0)).to_string()
}

impl Outage {
    async fn start() -> Self {
        let mut config = config();
        let postgres = Proxy::start(&config.database_url).await;
        config.database_url.clone_from(&postgres.url);
        let system = System::with_config(config).await;
        system.age_reservation_epoch().await;
        let conversation = system.conversation("alice", &["bob"]).await;
        let outage = Self { system, postgres, conversation };
        outage.wait_until_reservations_are_trusted().await;
        outage
    }

    /// Only a process that trusts the reservations answers a new key while the read model stands still.
    async fn wait_until_reservations_are_trusted(&self) {
        self.send(&key_ahead(0), "before").await;
        self.system.wait_until_caught_up().await;
        let hold = self.system.pause_projection().await;
        eventually("reservations are trusted", async || {
            (self.send(&key_ahead(0), "trusted").await.status == 201).then_some(())
        })
        .await;
        hold.rollback().await.unwrap();
        self.system.wait_until_caught_up().await;
    }

    async fn send(&self, key: &str, content: &str) -> Response {
        self.system.post_with_key("alice", key, json!({"conversationId": self.conversation, "content": content})).await
    }

    /// Ends all reservations, as time does after their events are folded.
    async fn end_reservations(&self) {
        let mut redis = self.system.redis().await;
        for key in self.system.redis_keys().await {
            if key.contains(":reservation:") {
                redis.del::<_, ()>(key).await.unwrap();
            }
        }
    }

    /// Reserves a key for a message that was decided so long ago, as if nobody had heard whether Kafka took it.
    async fn reserve(&self, key: &str, content: &str, seconds_ago: u64) {
        let decided = i64::try_from((now() - seconds_ago) * 1_000).unwrap();
        let decided = domain::Timestamp::from_millis(decided).unwrap();
        self.system.reserve_message(&self.conversation, key, content, &[], decided).await;
    }

    async fn contents(&self) -> Vec<Value> {
        let records = self.system.records_of(&self.conversation).await;
        records.iter().map(|record| record.value["data"]["content"].clone()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_commands_with_fresh_keys_go_on_and_other_keys_wait() {
    let outage = Outage::start().await;
    outage.postgres.down();

    let key = key_ahead(0);
    let sent = outage.send(&key, "without").await;
    assert_eq!(sent.status, 201, "{sent:?}");
    let retried = outage.send(&key, "without").await;
    assert_eq!((retried.status, retried.data()), (200, sent.data()), "{retried:?}");
    assert_eq!(retried.header("idempotent-replayed"), "true");
    outage.send(&key, "another").await.assert_problem(409, "idempotency_key_reused");
    let random = Uuid::new_v4().to_string();
    outage.send(&random, "random").await.assert_problem(503, "unavailable");

    outage.postgres.restore();
    let late = eventually("Postgres is back", async || {
        Some(outage.send(&random, "random").await).filter(|response| response.status != 503)
    })
    .await;
    assert_eq!(late.status, 201, "{late:?}");
    let contents = outage.contents().await;
    assert_eq!(contents[contents.len() - 2..], [json!("without"), json!("random")], "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_a_key_whose_time_was_ahead_never_looks_unused() {
    let outage = Outage::start().await;
    // A minute is the most that a clock may be ahead. This key becomes a fresh one in three seconds.
    let (hour_ahead, just_ahead) = (key_ahead(3_600), key_ahead(63));
    for key in [&hour_ahead, &just_ahead] {
        assert_eq!(outage.send(key, "used").await.status, 201);
    }
    outage.system.wait_until_caught_up().await;
    outage.end_reservations().await;
    outage.postgres.down();

    outage.send(&hour_ahead, "used").await.assert_problem(503, "unavailable");
    let fresh_from = now() + 3;
    eventually("the key's time is near", async || (now() > fresh_from).then_some(())).await;
    outage.send(&just_ahead, "used").await.assert_problem(503, "unavailable");

    // A key after both of them is unused, and so is another user's.
    let after = key_ahead(59);
    let body = json!({"conversationId": outage.conversation, "content": "bob's"});
    assert_eq!(outage.system.post_with_key("bob", &after, body).await.status, 201);
    outage.postgres.restore();
    for key in [&hour_ahead, &just_ahead] {
        let replayed = eventually("Postgres is back", async || {
            Some(outage.send(key, "used").await).filter(|response| response.status != 503)
        })
        .await;
        assert_eq!((replayed.status, replayed.header("idempotent-replayed")), (200, "true"), "{replayed:?}");
    }
    let used = outage.contents().await.into_iter().filter(|content| content == "used").count();
    assert_eq!(used, 2, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_a_reserved_event_is_appended_again_only_while_the_relay_would_know_it() {
    let outage = Outage::start().await;
    let (old, young) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
    outage.reserve(&old, "old", 60).await;
    outage.reserve(&young, "young", 0).await;
    outage.postgres.down();

    outage.send(&old, "old").await.assert_problem(503, "unavailable");
    assert_eq!(outage.send(&young, "young").await.status, 200);

    outage.postgres.restore();
    let late = eventually("Postgres is back", async || {
        Some(outage.send(&old, "old").await).filter(|response| response.status != 503)
    })
    .await;
    assert_eq!(late.status, 200, "{late:?}");
    let contents = outage.contents().await;
    assert_eq!(contents[contents.len() - 2..], [json!("young"), json!("old")], "each once");
}
