//! Freshness: a cached response is never older than the position that it claims or that the reader demands, also when
//! Redis restores an old state.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::harness::http::Response;
use crate::harness::system::unlimited;
use crate::harness::{System, eventually};

/// The content of the message that a response shows: a message, a page of messages, or a list of conversations.
fn shown_content(response: &Response) -> Value {
    let data = response.data().get(0).unwrap_or(response.data());
    data.get("lastMessage").unwrap_or(data)["content"].clone()
}

/// A copy of every key in Redis under the system's prefix.
struct RedisBackup(Vec<(String, Vec<u8>)>);

impl RedisBackup {
    async fn take(system: &System) -> Self {
        let mut redis = system.redis().await;
        let mut keys = Vec::new();
        for key in system.redis_keys().await {
            let value: Option<Vec<u8>> = redis::cmd("DUMP").arg(&key).query_async(&mut redis).await.unwrap();
            keys.extend(value.map(|value| (key, value)));
        }
        Self(keys)
    }

    /// Overwrites the keys with the backup, all at once, as when Redis crashes and starts from an old snapshot.
    async fn restore(&self, system: &System) {
        let mut transaction = redis::pipe();
        transaction.atomic();
        for (key, value) in &self.0 {
            transaction.cmd("RESTORE").arg(key).arg(3_600_000).arg(value).arg("REPLACE").ignore();
        }
        transaction.query_async::<()>(&mut system.redis().await).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_restores_an_old_state_is_not_believed() {
    // Given a message whose views, and what commands need to know of it, are in the cache …
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.send("alice", &conversation, "old").await;
    let message = sent.id();
    system.wait_until_published(&sent).await;
    let message_path = format!("/api/messages/{message}");
    let paths = [message_path, "/api/messages".to_owned(), format!("/api/messages?conversationId={conversation}")];
    for path in &paths {
        system.get("bob", path).await;
    }
    let reacted = system.react("bob", &message, "👍").await;
    system.wait_until_published(&reacted).await;
    for path in &paths {
        system.get("bob", path).await;
        assert_eq!(system.get("bob", path).await.header("x-cache"), "hit");
    }
    system.edit("bob", &message, "mine").await.assert_problem(403, "not_author");

    // … when alice deletes the message, and Redis goes back to the state before the deletion …
    let backup = RedisBackup::take(&system).await;
    let deleted = system.delete("alice", &message).await;
    system.wait_until_published(&deleted).await;
    backup.restore(&system).await;

    // … then commands and reads that demand the deletion see it …
    let react = serde_json::json!({"action": "reaction", "messageId": message, "emoji": "👍"});
    let late = system.ask("bob", "POST", "/api/messages").header("Messages-Position", deleted.position());
    late.json(&react).send().await.assert_problem(422, "message_deleted");
    for path in &paths {
        let demanded = system.get_after(&deleted, "bob", path).await;
        assert_eq!((demanded.status, shown_content(&demanded)), (200, Value::Null), "{path}");
    }
    // … and without any new event the other reads see it soon.
    for path in &paths {
        eventually("the old value is gone", async || {
            shown_content(&system.get("bob", path).await).is_null().then_some(())
        })
        .await;
    }
}

/// The newest of alice's edits, whose content is its number.
#[derive(Clone)]
struct LatestEdit {
    number: usize,
    response: Response,
}

/// Edits a message again and again. The content is the number of the edit.
async fn keep_editing(system: Arc<System>, message: String, latest: watch::Sender<Option<LatestEdit>>) {
    for number in 1.. {
        let response = system.edit("alice", &message, &number.to_string()).await;
        assert_eq!(response.status, 200, "{response:?}");
        latest.send_replace(Some(LatestEdit { number, response }));
    }
}

/// How much the readers have read.
#[derive(Default)]
struct ReadCounts {
    reads: AtomicUsize,
    hits: AtomicUsize,
}

impl ReadCounts {
    fn count(&self, response: &Response) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.hits.fetch_add(usize::from(response.header("x-cache") == "hit"), Ordering::Relaxed);
    }
}

/// Reads a view again and again until the writer ends: first with the position of the latest edit, then with the
/// position of that response. Asserts that the view is never older than what the reader demands.
async fn keep_reading(
    system: Arc<System>,
    path: String,
    latest: watch::Receiver<Option<LatestEdit>>,
    counts: Arc<ReadCounts>,
) {
    let shown_number = |response: &Response| -> usize {
        assert_eq!(response.status, 200, "{path}: {response:?}");
        shown_content(response).as_str().unwrap().parse().unwrap()
    };
    while latest.has_changed().is_ok() {
        let edit = latest.borrow().clone();
        let Some(edit) = edit else {
            tokio::task::yield_now().await;
            continue;
        };
        let first = system.get_after(&edit.response, "bob", &path).await;
        let (seen, demanded) = (shown_number(&first), edit.number);
        assert!(seen >= demanded, "{path} shows edit {seen}, but the reader demands edit {demanded}");
        let second = system.get_after(&first, "bob", &path).await;
        let (seen_next, demanded) = (shown_number(&second), seen);
        assert!(seen_next >= demanded, "{path} shows edit {seen_next} after edit {demanded}");
        counts.count(&first);
        counts.count(&second);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_never_sees_less_than_it_demands_while_a_message_changes() {
    let system = Arc::new(
        System::with(|config| {
            unlimited(config);
            config.database_connections = 16;
        })
        .await,
    );
    let conversation = system.conversation("alice", &["bob"]).await;
    let message = system.message("alice", &conversation, "0").await;
    let (sender, latest) = watch::channel(None);
    let writer = tokio::spawn(keep_editing(system.clone(), message.clone(), sender));
    let counts: Arc<ReadCounts> = Arc::default();
    let mut readers = JoinSet::new();
    for _ in 0..2 {
        for path in [
            "/api/messages".to_owned(),
            format!("/api/messages?conversationId={conversation}"),
            format!("/api/messages/{message}"),
            format!("/api/conversations/{conversation}"),
        ] {
            readers.spawn(keep_reading(system.clone(), path, latest.clone(), counts.clone()));
        }
    }

    eventually("there are enough edits, reads and cache hits", async || {
        assert!(!writer.is_finished());
        if let Some(ended) = readers.try_join_next() {
            ended.unwrap();
        }
        let edits = latest.borrow().as_ref().map_or(0, |edit| edit.number);
        let (reads, hits) = (counts.reads.load(Ordering::Relaxed), counts.hits.load(Ordering::Relaxed));
        (edits >= 100 && reads >= 200 && hits > 20).then_some(())
    })
    .await;
    writer.abort();
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
}
