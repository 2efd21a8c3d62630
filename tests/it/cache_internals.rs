//! The `cache` crate and its keys in Redis, driven next to a running system. Clients can't cause these states, so the
//! tests don't belong to the contract.

use std::collections::BTreeMap;
use std::time::Duration;

use cache::{Costs, Dependency, IdempotencyScope, Limit, ReservationRequest, View, ViewKey};
use domain::{UserId, envelope};
use redis::AsyncCommands;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::http::Response;
use crate::harness::{System, eventually};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// A path that shows a message, with its key and its dependency in the cache.
struct CachedView {
    path: String,
    key: ViewKey,
    dependency: Dependency,
}

/// The four views of bob's that show a message.
fn views_of_bob(conversation: &str, message: &str) -> [CachedView; 4] {
    let bob: UserId = "bob".parse().unwrap();
    let (conversation_id, message_id) = (conversation.parse().unwrap(), message.parse().unwrap());
    [
        CachedView {
            path: "/api/messages".to_owned(),
            key: ViewKey::Conversations { user: bob.clone(), page_size: 20 },
            dependency: Dependency::User(bob.clone()),
        },
        CachedView {
            path: format!("/api/messages?conversationId={conversation}"),
            key: ViewKey::Messages { conversation: conversation_id, page_size: 20 },
            dependency: Dependency::Conversation(conversation_id),
        },
        CachedView {
            path: format!("/api/messages/{message}"),
            key: ViewKey::Message(message_id),
            dependency: Dependency::Message(message_id),
        },
        CachedView {
            path: format!("/api/conversations/{conversation}"),
            key: ViewKey::Conversation { conversation: conversation_id, user: bob, page_size: 50 },
            dependency: Dependency::Conversation(conversation_id),
        },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_a_slow_reader_stores_late_is_never_served() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.send("alice", &conversation, "old").await;
    let message = sent.id();
    system.wait_until_published(&sent).await;
    let cache = system.cache();
    cache.enter_generation(system.read_model().generation().await.unwrap().unwrap());

    for (number, view) in views_of_bob(&conversation, &message).into_iter().enumerate() {
        let CachedView { path, key, dependency } = view;
        // Given a slow reader, which takes the versions and reads the view before an edit …
        let versions = cache.versions(&[dependency]).await.unwrap();
        let offsets = system.read_model().offsets().await.unwrap();
        let old = system.get_after(&sent, "bob", &path).await;
        let edited = system.edit("alice", &message, &number.to_string()).await;
        system.wait_until_published(&edited).await;

        // … when it stores the view after the edit …
        cache.put_if_current(&key, &versions, &View::new(old.body.to_string()), &offsets).await.unwrap();

        // … then the next reader misses it, and the cache stores the new view under the same key.
        let first = system.get("bob", &path).await;
        assert_eq!(first.header("x-cache"), "miss", "{path}");
        assert_ne!(first.body, old.body, "{path}");
        let second = system.get("bob", &path).await;
        assert_eq!((second.header("x-cache"), &second.body), ("hit", &first.body), "{path}");
        assert!(cache.view(&key).await.unwrap().view.is_some(), "the system uses another key for {path}");
    }
}

/// A key in Redis and how long it still lives.
#[derive(Debug)]
struct StoredKey {
    key: String,
    ttl_ms: i64,
}

/// The system's keys by kind: the first part of the key after the prefix and the generation. A view's format follows
/// its kind after a dot.
async fn stored_keys(system: &System) -> BTreeMap<String, StoredKey> {
    let mut redis = system.redis().await;
    let prefix = &system.config.redis_prefix;
    let generation: i64 = redis.get(format!("{prefix}:generation")).await.unwrap();
    let mut keys = BTreeMap::new();
    for key in system.redis_keys().await {
        let ttl_ms: i64 = redis.pttl(&key).await.unwrap();
        let name = key.strip_prefix(&format!("{prefix}:{generation}:")).or(key.strip_prefix(&format!("{prefix}:")));
        let kind = name.unwrap().split([':', '.']).next().unwrap().to_owned();
        keys.insert(kind, StoredKey { key, ttl_ms });
    }
    keys
}

/// Reads a view of bob's that includes an event, so that it is in the cache.
async fn cached_body(system: &System, after: &Response, path: &str) -> Value {
    system.get_after(after, "bob", path).await.body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_view_names_the_versions_of_its_dependencies_and_expires() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let message = system.message("alice", &conversation, "0").await;
    let edited = system.edit("alice", &message, "1").await;
    system.wait_until_published(&edited).await;
    let messages_path = format!("/api/messages?conversationId={conversation}");
    let bodies = BTreeMap::from([
        ("conversations", cached_body(&system, &edited, "/api/messages").await),
        ("messages", cached_body(&system, &edited, &messages_path).await),
        ("message", cached_body(&system, &edited, &format!("/api/messages/{message}")).await),
        ("conversation", cached_body(&system, &edited, &format!("/api/conversations/{conversation}")).await),
    ]);
    system.post("bob", json!({"action": "typing_start", "conversationId": conversation})).await;

    let keys = stored_keys(&system).await;

    for (kind, max_ttl_ms) in [
        ("messages", 30 * MINUTE_MS),
        ("message", 30 * MINUTE_MS),
        ("conversations", HOUR_MS),
        ("conversation", HOUR_MS),
        ("memberships", HOUR_MS),
        ("participants", HOUR_MS),
        ("typing", 5_000),
    ] {
        let StoredKey { key, ttl_ms } = keys.get(kind).unwrap_or_else(|| panic!("no {kind}: {keys:?}"));
        // Of the 5 s of a typing key any part may have passed.
        let min_ttl_ms = if kind == "typing" { 0 } else { max_ttl_ms - MINUTE_MS };
        assert!((min_ttl_ms..=max_ttl_ms).contains(ttl_ms), "{key} lives another {ttl_ms} ms");
    }
    let mut redis = system.redis().await;
    for (kind, body) in bodies {
        let key = &keys[kind].key;
        let value: String = match kind {
            "message" => redis.get(key).await.unwrap(),
            "conversation" => redis.hget(key, 50).await.unwrap(),
            _ => redis.hget(key, 20).await.unwrap(),
        };
        let (versions, view) = value.split_once('\n').unwrap();
        let (etag, stored_body) = view.split_once('\n').unwrap();
        let versions: Vec<(String, String)> = serde_json::from_str(versions).unwrap();
        assert!(!versions.is_empty());
        for (dependency, version) in versions {
            assert_eq!(redis.get::<_, String>(&dependency).await.unwrap(), version, "{key}");
            let ttl_s: i64 = redis.ttl(&dependency).await.unwrap();
            assert!(ttl_s * 1_000 > HOUR_MS, "{dependency} expires before the views that depend on it");
        }
        assert_eq!(etag, View::new(stored_body.to_owned()).etag());
        assert_eq!(serde_json::from_str::<Value>(stored_body).unwrap(), body);
    }
    let participants: Vec<String> = redis.smembers(&keys["participants"].key).await.unwrap();
    assert_eq!(participants.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_little_of_a_command_with_a_key_and_not_for_long() {
    let system = System::unlimited().await;
    let user = "a-user-of-20-letters";
    let conversation = system.conversation(user, &["bob"]).await;
    let keys_before = system.redis_keys().await;
    let body = json!({"conversationId": conversation, "content": "x".repeat(4_000)});
    let mut last = None;
    for _ in 0..50 {
        last = Some(system.post_with_key(user, &Uuid::now_v7().to_string(), body.clone()).await);
    }
    system.wait_until_published(&last.unwrap()).await;

    let mut redis = system.redis().await;
    let of_commands = eventually("everything of the commands ends soon", async || {
        let mut keys = system.redis_keys().await;
        keys.retain(|key| !keys_before.contains(key) && [":reservation:", ":begun:"].iter().any(|it| key.contains(it)));
        for key in &keys {
            let ttl_ms: i64 = redis.pttl(key).await.unwrap();
            let max_ms = if key.contains(":begun:") { MINUTE_MS } else { 4 * MINUTE_MS };
            (ttl_ms <= max_ms).then_some(())?;
        }
        Some(keys)
    })
    .await;

    let reservations: Vec<_> = of_commands.iter().filter(|key| key.contains(":reservation:")).collect();
    assert_eq!(reservations.len(), 50);
    for key in reservations {
        let (bytes, value): (usize, String) =
            redis::pipe().cmd("MEMORY").arg("USAGE").arg(key).get(key).query_async(&mut redis).await.unwrap();
        assert!(bytes <= 250 && value.len() <= 44, "{key} takes {bytes} bytes: {value}");
    }
}

/// A process that dies between the reservation and the append leaves a reserved key, and an event that isn't on the
/// log.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_appends_the_reserved_event_of_a_process_that_died() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let body = json!({"conversationId": conversation, "content": "hi @bob"});
    // Given a reservation without an append.
    let decided = "2026-01-02T03:04:05.678Z".parse().unwrap();
    let bytes = system.reserve_message(&conversation, "a-key", "hi @bob", &["bob"], decided).await;

    let retried = system.post_with_key("alice", "a-key", body).await;

    assert_eq!((retried.status, retried.header("idempotent-replayed")), (200, "true"), "{retried:?}");
    assert_eq!(retried.data()["createdAt"], "2026-01-02T03:04:05.678Z");
    let records = system.records_of(&conversation).await;
    let [_created, message, notification] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((&message.bytes, message.position().as_str()), (&bytes, retried.position()));
    assert_eq!(notification.headers["ce_type"], "MENTION_NOTIFICATION");
    system.wait_until_projected(&retried).await;
    assert_eq!(system.message_row(&retried.id()).await["seq"], 1);
    assert_eq!(retried.id().parse::<Uuid>().unwrap().get_version_num(), 5);
}

/// Two attempts with one key append the same event. Kafka refuses the copy of the first, and may have that of the second.
#[tokio::test(flavor = "multi_thread")]
async fn the_refusal_of_one_of_two_attempts_frees_no_key() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let decided = "2026-01-02T03:04:05.678Z".parse().unwrap();
    let (cache, alice) = (system.cache(), "alice".parse().unwrap());
    let costs = Costs::one(Limit { name: "messages", max: 30, window: Duration::from_secs(60) });
    for is_shared in [false, true] {
        let key = format!("shared-{is_shared}");
        let bytes = system.reserve_message(&conversation, &key, "hi", &[], decided).await;
        let event = envelope::decode(&bytes).unwrap();
        let scope = IdempotencyScope::of(&event).unwrap();
        if is_shared {
            for _ in 0..2 {
                let shared = cache.share_reservation(scope, &bytes).await.unwrap().unwrap();
                assert_eq!(envelope::decode(&shared).unwrap(), event);
                assert_eq!(cache.share_reservation(scope, &shared).await.unwrap(), Some(shared));
            }
        }
        let refused = ReservationRequest { event: &event, bytes: &bytes, pending: None };
        assert_eq!(cache.roll_back(&alice, &costs, Some(refused)).await.unwrap(), !is_shared);
        assert_eq!(cache.share_reservation(scope, &bytes).await.unwrap().is_some(), is_shared);

        // The next attempt appends the event that is reserved, or decides anew.
        let body = json!({"conversationId": conversation, "content": "hi"});
        let retried = system.post_with_key("alice", &key, body).await;
        assert_eq!(retried.data()["createdAt"] == "2026-01-02T03:04:05.678Z", is_shared, "{retried:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reservation_epoch_begins_at_startup_and_not_with_the_first_key() {
    let system = System::start().await;
    let key = format!("{}:reservations-since", system.config.redis_prefix);
    let mut redis = system.redis().await;
    eventually("an epoch begins", async || redis.exists::<_, bool>(&key).await.unwrap().then_some(())).await;
}
