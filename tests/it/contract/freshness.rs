//! What is cached is never older than it says, whatever Redis was told late, lost, or took for new.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cache::{Dependency, ViewKey};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::harness::http::Response;
use crate::harness::{System, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_late_fill_is_never_served() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.post("alice", json!({"conversationId": conversation, "content": "old"})).await;
    let message = sent.id();
    system.wait_until_published(&sent).await;
    let cache = system.cache();
    cache.enter_generation(system.read_model().generation().await.unwrap().unwrap());
    let (conversation_id, message_id) = (conversation.parse().unwrap(), message.parse().unwrap());
    let (bob, page) = ("bob".parse().unwrap(), "20:-".to_owned());
    let participants = "50:-".to_owned();
    let views = [
        (
            "/api/messages".to_owned(),
            ViewKey::Conversations { user: "bob".parse().unwrap(), page: page.clone() },
            Dependency::User("bob".parse().unwrap()),
        ),
        (
            format!("/api/messages?conversationId={conversation}"),
            ViewKey::Messages { conversation: conversation_id, page },
            Dependency::Conversation(conversation_id),
        ),
        (format!("/api/messages/{message}"), ViewKey::Message(message_id), Dependency::Message(message_id)),
        (
            format!("/api/conversations/{conversation}"),
            ViewKey::Conversation { conversation: conversation_id, user: bob, page: participants },
            Dependency::Conversation(conversation_id),
        ),
    ];
    for (number, (path, key, head)) in views.into_iter().enumerate() {
        // A slow reader: it takes the versions, reads, and stores when everything has changed.
        let versions = cache.versions(&[head]).await.unwrap();
        let read = system.read_model().offsets().await.unwrap();
        let old = system.get_after(&sent, "bob", &path).await;
        let body = json!({"content": number.to_string()});
        let edited = system.ask("alice", "PATCH", &format!("/api/messages/{message}")).json(&body).send().await;
        system.wait_until_published(&edited).await;
        cache.put_if_current(&key, &versions, &old.body.to_string(), &read).await.unwrap();
        let first = system.get("bob", &path).await;
        assert_eq!(first.header("x-cache"), "miss", "{path}");
        assert_ne!(first.body, old.body, "{path}");
        let second = system.get("bob", &path).await;
        assert_eq!((second.header("x-cache"), &second.body), ("hit", &first.body), "{path}");
        // The keys are those that the system itself uses.
        assert!(cache.view(&key).await.unwrap().body.is_some(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_went_back_in_time_is_not_believed() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.post("alice", json!({"conversationId": conversation, "content": "old"})).await;
    system.wait_until_published(&sent).await;
    let path = format!("/api/messages/{}", sent.id());
    let paths = [path.clone(), "/api/messages".to_owned(), format!("/api/messages?conversationId={conversation}")];
    for path in &paths {
        system.get("bob", path).await;
    }
    let react = json!({"action": "reaction", "messageId": sent.id(), "emoji": "👍"});
    let reacted = system.post("bob", react.clone()).await;
    system.wait_until_published(&reacted).await;
    for path in &paths {
        system.get("bob", path).await;
        assert_eq!(system.get("bob", path).await.header("x-cache"), "hit");
    }
    // What commands need to know is cached too.
    let denied = system.ask("bob", "PATCH", &path).json(&json!({"content": "mine"})).send().await;
    denied.assert_problem(403, "not_author");
    let mut redis = system.redis().await;
    let mut copies: Vec<(String, Vec<u8>)> = Vec::new();
    for key in system.redis_keys().await {
        let copy: Option<Vec<u8>> = redis::cmd("DUMP").arg(&key).query_async(&mut redis).await.unwrap();
        copies.extend(copy.map(|copy| (key, copy)));
    }
    let deleted = system.ask("alice", "DELETE", &path).send().await;
    system.wait_until_published(&deleted).await;
    // As after a crash: Redis has what it had before, and nobody tells it anything.
    let mut back = redis::pipe();
    back.atomic();
    for (key, copy) in &copies {
        back.cmd("RESTORE").arg(key).arg(3_600_000).arg(copy).arg("REPLACE").ignore();
    }
    back.query_async::<()>(&mut redis).await.unwrap();
    let late = system.ask("bob", "POST", "/api/messages").header("Messages-Position", deleted.position());
    late.json(&react).send().await.assert_problem(422, "message_deleted");
    let shown = |answer: &Response| {
        let data = answer.data().get(0).unwrap_or(answer.data());
        data.get("lastMessage").unwrap_or(data)["content"].clone()
    };
    for path in &paths {
        let demanded = system.get_after(&deleted, "bob", path).await;
        assert_eq!((demanded.status, shown(&demanded)), (200, Value::Null), "{path}");
    }
    // Nothing happens, and yet it is told what it missed.
    for path in &paths {
        eventually("the old value is gone", async || shown(&system.get("bob", path).await).is_null().then_some(()))
            .await;
    }
}

/// How many edits there were, and the answer to the last of them.
type Latest = (usize, Option<Response>);

/// Edits a message over and over: its content is how often.
async fn edit(system: Arc<System>, message: String, latest: watch::Sender<Latest>) {
    for number in 1.. {
        let body = json!({"content": number.to_string()});
        let edited = system.ask("alice", "PATCH", &format!("/api/messages/{message}")).json(&body).send().await;
        assert_eq!(edited.status, 200, "{edited:?}");
        latest.send_replace((number, Some(edited)));
    }
}

/// Reads a view over and over: from at least the newest edit, then from at least what that answer included.
async fn read(system: Arc<System>, path: String, latest: watch::Receiver<Latest>, counts: Arc<[AtomicUsize; 2]>) {
    let [reads, hits] = &*counts;
    let shown = |answer: &Response| -> usize {
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let data = answer.data().get(0).unwrap_or(answer.data());
        data.get("lastMessage").unwrap_or(data)["content"].as_str().unwrap().parse().unwrap()
    };
    while latest.has_changed().is_ok() {
        let (least, edited) = latest.borrow().clone();
        let Some(edited) = edited else {
            tokio::task::yield_now().await;
            continue;
        };
        let demanded = system.get_after(&edited, "bob", &path).await;
        assert!(shown(&demanded) >= least, "{path}: {} where {least} was demanded", shown(&demanded));
        // Never back, as far as the reader says what it has.
        let next = system.get_after(&demanded, "bob", &path).await;
        assert!(shown(&next) >= shown(&demanded), "{path}: {} after {}", shown(&next), shown(&demanded));
        for answer in [&demanded, &next] {
            reads.fetch_add(1, Ordering::Relaxed);
            hits.fetch_add(usize::from(answer.header("x-cache") == "hit"), Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reader_ever_sees_less_than_it_demands() {
    let system = Arc::new(
        System::with(|config| {
            crate::harness::system::unlimited(config);
            config.database_connections = 16;
        })
        .await,
    );
    let conversation = system.conversation("alice", &["bob"]).await;
    let message = system.message("alice", &conversation, "0").await;
    let (latest, seen) = watch::channel((0, None));
    let writer = tokio::spawn(edit(system.clone(), message.clone(), latest));
    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        for path in [
            "/api/messages".to_owned(),
            format!("/api/messages?conversationId={conversation}"),
            format!("/api/messages/{message}"),
            format!("/api/conversations/{conversation}"),
        ] {
            readers.spawn(read(system.clone(), path, seen.clone(), counts.clone()));
        }
    }
    // Until there was enough to get wrong.
    eventually("edits, reads and hits", async || {
        assert!(!writer.is_finished());
        if let Some(ended) = readers.try_join_next() {
            ended.unwrap();
        }
        let [reads, hits] = [0, 1].map(|index: usize| counts[index].load(Ordering::Relaxed));
        (seen.borrow().0 >= 100 && reads >= 200 && hits > 20).then_some(())
    })
    .await;
    writer.abort();
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
}
