//! What Redis is good for, and that nothing is ever wrong because of it.

use std::collections::BTreeMap;

use redis::AsyncCommands;
use serde_json::{Value, json};

use crate::harness::http::Response;
use crate::harness::{System, eventually};

/// A conversation with a message.
struct Talk {
    conversation: String,
    message: String,
}

impl Talk {
    async fn begin(system: &System, others: &[&str]) -> Self {
        let conversation = system.conversation("alice", others).await;
        let message = system.message("alice", &conversation, "0").await;
        Self { conversation, message }
    }

    /// Everything under which the message can be seen.
    fn paths(&self) -> [String; 4] {
        [
            "/api/messages".to_owned(),
            format!("/api/messages?conversationId={}", self.conversation),
            format!("/api/messages/{}", self.message),
            format!("/api/conversations/{}", self.conversation),
        ]
    }

    async fn edit(&self, system: &System, content: &str) -> Response {
        let path = format!("/api/messages/{}", self.message);
        let edited = system.ask("alice", "PATCH", &path).json(&json!({"content": content})).send().await;
        assert_eq!(edited.status, 200, "{edited:?}");
        edited
    }
}

/// The content of the message that a view shows, whichever view it is.
fn content(answer: &Response) -> &str {
    let data = answer.data().get(0).unwrap_or(answer.data());
    let message = data.get("lastMessage").unwrap_or(data);
    message["content"].as_str().unwrap_or_else(|| panic!("no content: {answer:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_equal_read_is_a_hit_until_something_changes() {
    let system = System::unlimited().await;
    let many: Vec<String> = (0..70).map(|number| format!("user-{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let small = Talk::begin(&system, &["bob"]).await;
    let large = Talk::begin(&system, &many).await;
    for (talk, reader) in [(small, "bob"), (large, "user-69")] {
        for number in 1..=3 {
            let edited = talk.edit(&system, &number.to_string()).await;
            system.wait_until_published(&edited).await;
            for path in talk.paths() {
                let first = system.get_after(&edited, reader, &path).await;
                assert_eq!((first.header("x-cache"), content(&first)), ("miss", &*number.to_string()), "{path}");
                let second = system.get(reader, &path).await;
                assert_eq!((second.header("x-cache"), &second.body), ("hit", &first.body), "{path}");
                // Also for who demands what it includes.
                let third = system.get_after(&first, reader, &path).await;
                assert_eq!((third.header("x-cache"), &third.body), ("hit", &first.body), "{path}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_has_is_not_sent_again() {
    let system = System::start().await;
    let talk = Talk::begin(&system, &["bob"]).await;
    let mut latest = talk.edit(&system, "1").await;
    for path in talk.paths() {
        system.wait_until_published(&latest).await;
        let whole = system.get_after(&latest, "bob", &path).await;
        let tag = whole.header("etag").to_owned();
        assert!(tag.starts_with('"'), "{whole:?}");
        for tags in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
            let unchanged = system.ask("bob", "GET", &path).header("If-None-Match", &tags).send().await;
            assert_eq!((unchanged.status, &unchanged.body), (304, &json!("")), "{path}");
            for name in ["etag", "cache-control", "vary"] {
                assert_eq!(unchanged.header(name), whole.header(name), "{path}");
            }
            assert_eq!(unchanged.header("x-cache"), "hit");
            unchanged.position();
        }
        latest = talk.edit(&system, &format!("for {path}")).await;
        let request = system.ask("bob", "GET", &path).header("If-None-Match", &tag);
        let changed = request.header("Messages-Position", latest.position()).send().await;
        assert_eq!((changed.status, content(&changed)), (200, &*format!("for {path}")));
        assert_ne!(changed.header("etag"), tag);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_redis_says_what_it_was_made_from_and_goes_in_time() {
    let system = System::start().await;
    let talk = Talk::begin(&system, &["bob"]).await;
    let edited = talk.edit(&system, "1").await;
    system.wait_until_published(&edited).await;
    let mut bodies = BTreeMap::new();
    for (kind, path) in ["conversations", "messages", "message", "conversation"].into_iter().zip(talk.paths()) {
        bodies.insert(kind, system.get_after(&edited, "bob", &path).await.body);
    }
    system.post("bob", json!({"action": "typing_start", "conversationId": talk.conversation})).await;
    let mut redis = system.redis().await;
    let prefix = &system.config.redis_prefix;
    let generation: i64 = redis.get(format!("{prefix}:generation")).await.unwrap();
    let mut found: BTreeMap<String, (String, i64)> = BTreeMap::new();
    for key in system.redis_keys().await {
        let milliseconds: i64 = redis.pttl(&key).await.unwrap();
        let name = key.strip_prefix(&format!("{prefix}:{generation}:")).or(key.strip_prefix(&format!("{prefix}:")));
        let kind = name.unwrap().split(':').next().unwrap().to_owned();
        found.insert(kind, (key, milliseconds));
    }
    let (minute, hour) = (60_000, 3_600_000);
    for (kind, most) in [
        ("messages", 30 * minute),
        ("message", 30 * minute),
        ("conversations", hour),
        ("conversation", hour),
        ("memberships", hour),
        ("participants", hour),
        ("typing", 5_000),
    ] {
        let (key, left) = found.get(kind).unwrap_or_else(|| panic!("no {kind}: {found:?}"));
        // What lives 5 s may have lived a while.
        let least = if kind == "typing" { 0 } else { most - minute };
        assert!((least..=most).contains(left), "{key} lives another {left} ms");
    }
    for (kind, body) in bodies {
        let (key, _) = &found[kind];
        let value: String = redis.get(key).await.unwrap();
        let (stamps, stored) = value.split_once('\n').unwrap();
        let stamps: Vec<(String, String)> = serde_json::from_str(stamps).unwrap();
        assert!(!stamps.is_empty());
        for (head, stamp) in stamps {
            assert_eq!(redis.get::<_, String>(&head).await.unwrap(), stamp, "{key}");
            let left: i64 = redis.ttl(&head).await.unwrap();
            assert!(left * 1_000 > hour, "{head} goes before the views that depend on it");
        }
        assert_eq!(serde_json::from_str::<Value>(stored).unwrap(), body);
    }
    let participants: Vec<String> = redis.smembers(&found["participants"].0).await.unwrap();
    assert_eq!(participants.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_was_emptied_is_only_slower() {
    let system = System::unlimited().await;
    let talk = Talk::begin(&system, &["bob"]).await;
    let mut redis = system.redis().await;
    for number in 1..=3 {
        let edited = talk.edit(&system, &number.to_string()).await;
        let mut before = Vec::new();
        for path in talk.paths() {
            before.push(system.get_after(&edited, "bob", &path).await);
        }
        redis.del::<_, ()>(system.redis_keys().await).await.unwrap();
        for (path, before) in talk.paths().iter().zip(before) {
            let after = system.get_after(&before, "bob", path).await;
            assert_eq!((after.status, &after.body), (200, &before.body), "{path}");
            // Nothing happens, and yet it is a hit again before long, also for who demands a position.
            eventually("a hit", async || {
                let again = system.get_after(&before, "bob", path).await;
                assert_eq!((again.status, &again.body), (200, &before.body), "{path}");
                (again.header("x-cache") == "hit").then_some(())
            })
            .await;
        }
    }
}
