//! What Redis may evict is in an instance of its own (`REDIS_CACHE_URL`): whatever that instance loses, every answer stays
//! right, and idempotency keys stay quick.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use service::config::Config;
use uuid::Uuid;

use crate::harness::http::Response;
use crate::harness::process::{command, free_port};
use crate::harness::redis::OwnRedis;
use crate::harness::system::{config, unlimited};
use crate::harness::{Client, System, eventually};

/// How many bytes the evicting instance may use: little more than it needs without keys.
const MAX_MEMORY: &str = "4mb";
/// The size of the values that push others out: some twenty fit.
const FILLER_BYTES: usize = 100_000;
/// The pause between two of them.
const FILL_INTERVAL: Duration = Duration::from_millis(2);

/// A system whose cache is in a Redis with these options.
async fn system_with_cache(options: &[&str]) -> (System, OwnRedis) {
    let cache = OwnRedis::start(options).await;
    let url = cache.url.clone();
    let apart = |config: &mut Config| {
        unlimited(config);
        config.redis_cache_url = Some(url);
    };
    (System::with(apart).await, cache)
}

/// Writes values to a full Redis until `is_done`: each pushes others out. Counts how often `watched` was missing.
async fn fill(mut redis: MultiplexedConnection, watched: String, is_done: Arc<AtomicBool>, missing: Arc<AtomicU64>) {
    let value = "x".repeat(FILLER_BYTES);
    // Leaves the machine to the system under test.
    let mut pace = tokio::time::interval(FILL_INTERVAL);
    for number in 0_u64.. {
        pace.tick().await;
        if is_done.load(Ordering::Relaxed) {
            return;
        }
        redis.set::<_, _, ()>(format!("filler-{}", number % 1_000), &value).await.unwrap();
        if !redis.exists::<_, bool>(&watched).await.unwrap() {
            missing.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends as alice until the key's first use is known: a projector that lags may leave that open.
async fn send_until_decided(system: &System, key: &str, body: &Value) -> Response {
    eventually("the command is decided", async || {
        let sent = system.post_with_key("alice", key, body.clone()).await;
        [200, 201].contains(&sent.status).then_some(sent)
    })
    .await
}

/// What bob reads after an earlier response, once the system can say it in time.
async fn read_after(system: &System, earlier: &Response, path: &str) -> Response {
    eventually("the system answers in time", async || {
        Some(system.get_after(earlier, "bob", path).await).filter(|shown| shown.status != 503)
    })
    .await
}

async fn assert_answers_stay_right_under(policy: &str) -> u64 {
    let (system, cache) = system_with_cache(&["--maxmemory", MAX_MEMORY, "--maxmemory-policy", policy]).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let (is_done, missing) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let filler =
        tokio::spawn(fill(cache.connect().await, system.progress_key().await, is_done.clone(), missing.clone()));
    let list = format!("/api/messages?conversationId={conversation}");
    for round in 0..40 {
        let (key, body) = (format!("key-{round}"), json!({"conversationId": conversation, "content": "sent"}));
        let sent = send_until_decided(&system, &key, &body).await;
        let repeated = system.post_with_key("alice", &key, body).await;
        assert_eq!((repeated.status, repeated.data()), (200, sent.data()), "{repeated:?}");
        let shown = read_after(&system, &sent, &list).await;
        assert_eq!((shown.status, shown.data()[0]["id"].as_str().unwrap()), (200, &*sent.id()), "{shown:?}");

        let (path, content) = (format!("/api/messages/{}", sent.id()), format!("edited in round {round}"));
        let edited = system.edit("alice", &sent.id(), &content).await;
        assert_eq!(edited.status, 200, "{edited:?}");
        // The second read finds what the first one stored, unless Redis has evicted it.
        for _ in 0..2 {
            let shown = read_after(&system, &edited, &path).await;
            assert_eq!((shown.status, &shown.data()["content"]), (200, &json!(content)), "{shown:?}");
            let shown = read_after(&system, &edited, &list).await;
            assert_eq!((shown.status, &shown.data()[0]["content"]), (200, &json!(content)), "{shown:?}");
        }
    }
    is_done.store(true, Ordering::Relaxed);
    filler.await.unwrap();
    let records = system.records_of(&conversation).await;
    // A retry may append the same event again.
    let sent = records.iter().filter(|record| record.value["type"] == "MESSAGE_SENT");
    let sent: BTreeSet<String> = sent.map(|record| record.value["eventId"].to_string()).collect();
    assert_eq!(sent.len(), 40, "each key has one effect");
    missing.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_stay_right_while_the_cache_evicts_any_key() {
    let missing = assert_answers_stay_right_under("allkeys-random").await;
    assert!(missing > 0, "Redis never evicted the progress");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_stay_right_while_the_cache_evicts_what_was_not_used_lately() {
    assert_answers_stay_right_under("allkeys-lru").await;
}

/// Sends with a new key while the read model stands still: only a process that trusts the reservations answers 201.
async fn is_trusted(system: &System, conversation: &str) -> bool {
    let hold = system.pause_projection().await;
    let body = json!({"conversationId": conversation, "content": "hi"});
    let sent = system.post_with_key("alice", &Uuid::now_v7().to_string(), body).await;
    hold.rollback().await.unwrap();
    system.wait_until_caught_up().await;
    sent.status == 201
}

/// A system that trusts its reservations, with a conversation of alice and bob.
async fn trusting_system() -> (System, OwnRedis, String) {
    let (system, cache) = system_with_cache(&[]).await;
    system.age_reservation_epoch().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    system.wait_until_caught_up().await;
    eventually("reservations are trusted", async || is_trusted(&system, &conversation).await.then_some(())).await;
    (system, cache, conversation)
}

/// Makes a hash of partitions to offsets say that nothing has been folded.
async fn rewind(redis: &mut MultiplexedConnection, progress: &str) {
    for partition in redis.hkeys::<_, Vec<i32>>(progress).await.unwrap() {
        redis.hset::<_, _, _, ()>(progress, partition, 0).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_forgets_keeps_keys_quick() {
    let (system, cache, conversation) = trusting_system().await;
    let (mut main, mut evictable) = (system.redis().await, cache.connect().await);
    let epoch: String = main.get(system.epoch_key()).await.unwrap();
    for forgets_everything in [true, false] {
        if forgets_everything {
            redis::cmd("FLUSHALL").query_async::<()>(&mut evictable).await.unwrap();
        } else {
            rewind(&mut evictable, &system.progress_key().await).await;
        }
        let sent = system.send("alice", &conversation, "hi").await;
        system.wait_until_published(&sent).await;
        assert!(is_trusted(&system, &conversation).await, "keys are confirmed in Postgres: {forgets_everything}");
        assert_eq!(main.get::<_, String>(system.epoch_key()).await.unwrap(), epoch);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_lost_reservations_ends_their_epoch() {
    let (system, _cache, conversation) = trusting_system().await;
    let mut main = system.redis().await;
    let epoch: String = main.get(system.epoch_key()).await.unwrap();
    let progress = system.progress_key().await.replace(":2:progress", ":recorded-progress");
    rewind(&mut main, &progress).await;
    system.send("alice", &conversation, "hi").await;
    eventually("the epoch ends", async || {
        let now: Option<String> = main.get(system.epoch_key()).await.unwrap();
        (now.as_ref() != Some(&epoch)).then_some(())
    })
    .await;
}

/// The kinds of the keys under a prefix: what follows on it, up to the next colon; of a limit, its name as well. Those of
/// the projection begin with its generation.
async fn kinds(redis: &mut MultiplexedConnection, prefix: &str) -> BTreeSet<String> {
    let keys: Vec<String> = redis::cmd("KEYS").arg(format!("{prefix}:*")).query_async(redis).await.unwrap();
    let kind = |key: &String| {
        let mut parts = key[prefix.len() + 1..].split(':');
        let first = parts.next().unwrap_or_default();
        let second = parts.next().unwrap_or_default();
        match first {
            "limit" => format!("limit:{second}"),
            generation if generation.parse::<i64>().is_ok() => format!("projection:{second}"),
            _ => first.to_owned(),
        }
    };
    keys.iter().map(kind).filter(|kind| kind != "readiness").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_is_in_the_instance_that_may_lose_it() {
    let (system, cache) = system_with_cache(&[]).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let _bob = Client::connect(&system, "bob").await;
    let body = json!({"conversationId": conversation, "content": "hi"});
    let sent = system.post_with_key("alice", "a-key", body).await;
    system.react("bob", &sent.id(), "👍").await;
    system.post("bob", json!({"action": "typing_start", "conversationId": conversation})).await;
    system.wait_until_published(&sent).await;
    for path in ["/api/messages", &format!("/api/messages?conversationId={conversation}")] {
        assert_eq!(system.get_after(&sent, "bob", path).await.status, 200);
    }

    let prefix = &system.config.redis_prefix;
    // Queries are counted where their views are, in the same round trip.
    let is_evictable =
        |kind: &&String| kind.starts_with("projection:") || ["generation", "limit:queries"].contains(&kind.as_str());
    let main = kinds(&mut system.redis().await, prefix).await;
    let misplaced: Vec<_> = main.iter().filter(is_evictable).collect();
    assert_eq!(misplaced, ["projection:recorded-progress"], "{main:?}");
    for kept in ["limit:messages", "limit:reactions", "reservation", "reservations-since", "typing", "nodes", "begun"] {
        assert!(main.contains(kept), "{kept} is not in {main:?}");
    }
    let evictable = kinds(&mut cache.connect().await, prefix).await;
    let misplaced: Vec<_> = evictable.iter().filter(|kind| !is_evictable(kind)).collect();
    assert!(misplaced.is_empty() && evictable.len() > 4, "{evictable:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_works_without_its_cache_and_says_so() {
    let mut apart = config();
    apart.redis_cache_url = Some(format!("redis://127.0.0.1:{}", free_port()));
    let system = System::with(|config| *config = apart.clone()).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.send("alice", &conversation, "hi").await;
    let shown = system.get_after(&sent, "bob", &format!("/api/messages/{}", sent.id())).await;
    assert_eq!((shown.status, &shown.data()["content"]), (200, &json!("hi")));
    let ready = system.request("GET", "/readyz").send().await;
    let degraded: Vec<&str> =
        ready.body["degraded"].as_array().unwrap().iter().filter_map(|it| it["field"].as_str()).collect();
    assert_eq!((ready.status, degraded), (200, vec!["redis-cache"]), "{ready:?}");
    let doctor = async |url: Option<String>| {
        let config = Config { redis_cache_url: url, ..apart.clone() };
        String::from_utf8(command(&config, &["doctor"]).output().await.unwrap().stdout).unwrap()
    };
    let printed = doctor(apart.redis_cache_url.clone()).await;
    assert!(printed.contains("start the Redis of REDIS_CACHE_URL"), "{printed}");
    let evicts_nothing = OwnRedis::start(&[]).await;
    let printed = doctor(Some(evicts_nothing.url.clone())).await;
    assert!(printed.contains("set its maxmemory, and maxmemory-policy allkeys-lru"), "{printed}");
    assert!(!doctor(None).await.contains("REDIS_CACHE_URL"), "it complains of a cache that isn't there");
}
