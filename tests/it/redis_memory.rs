//! What queries leave in Redis: it grows with the lists that users have, and never with the queries that they send.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cache::{Dependency, View, ViewKey};
use domain::ConversationId;
use redis::AsyncCommands;
use uuid::Uuid;

use crate::harness::http::Response;
use crate::harness::{System, send_concurrently};

/// How many requests are sent at the same time.
const AT_ONCE: usize = 20;

/// What the system has in Redis: views and the versions that they depend on.
#[derive(Debug)]
struct Memory {
    keys: usize,
    bytes: usize,
}

async fn memory(system: &System) -> Memory {
    let mut redis = system.redis().await;
    let names: Vec<String> = {
        let found = redis.scan_match(format!("{}:*", system.config.redis_prefix)).await.unwrap();
        futures_util::StreamExt::collect(futures_util::StreamExt::map(found, Result::unwrap)).await
    };
    let mut memory = Memory { keys: 0, bytes: 0 };
    for name in names {
        let mut usage = redis::cmd("MEMORY");
        usage.arg("USAGE").arg(&name).arg("SAMPLES").arg(0);
        let bytes: Option<usize> = usage.query_async(&mut redis).await.unwrap();
        memory.keys += 1;
        memory.bytes += bytes.unwrap_or(0);
    }
    memory
}

/// Reads paths as bob, some at a time.
async fn read_all(system: &System, paths: &[String]) -> Vec<Response> {
    let mut answers = Vec::new();
    for some in paths.chunks(AT_ONCE) {
        answers.extend(send_concurrently(some.iter().map(|path| system.ask("bob", "GET", path)).collect()).await);
    }
    assert!(answers.iter().all(|answer| answer.status == 200), "{:?}", answers.iter().find(|it| it.status != 200));
    answers
}

/// A conversation of alice and bob with 50 long messages, and the three lists of bob's, each with a query.
async fn lists(system: &System) -> [String; 3] {
    system.conversation("alice", &["bob", "carol"]).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let mut last = None;
    for _ in 0..50 {
        last = Some(system.send("alice", &conversation, &"x".repeat(4_000)).await);
    }
    system.wait_until_published(&last.unwrap()).await;
    [
        "/api/messages?limit=".to_owned(),
        format!("/api/messages?conversationId={conversation}&limit="),
        format!("/api/conversations/{conversation}?limit="),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_grows_with_lists_and_not_with_queries() {
    let system = System::unlimited().await;
    let lists = lists(&system).await;
    let mut made_up = Vec::new();
    for list in &lists {
        let first = system.get("bob", &format!("{list}1")).await;
        let cursor = URL_SAFE_NO_PAD.decode(first.next_cursor().unwrap()).unwrap();
        // Every kind of cursor ends with the number that says where the page begins, or with the id of an item there.
        for number in 0..100_u8 {
            let mut cursor = cursor.clone();
            *cursor.last_mut().unwrap() = number;
            made_up.push(format!("{list}{}&cursor={}", 1 + number, URL_SAFE_NO_PAD.encode(cursor)));
        }
        // The largest pages. After them, Redis can only hold less of a list.
        read_all(&system, &[97, 98, 99, 100].map(|limit| format!("{list}{limit}"))).await;
    }
    let before = memory(&system).await;

    read_all(&system, &made_up).await;
    for list in &lists {
        read_all(&system, &(1..=100).map(|limit| format!("{list}{limit}")).collect::<Vec<_>>()).await;
    }

    let after = memory(&system).await;
    assert!(after.keys <= before.keys && after.bytes <= before.bytes, "{before:?}, then {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_page_of_every_size_is_a_hit_the_second_time() {
    let system = System::unlimited().await;
    for list in lists(&system).await {
        for limit in 1..=100 {
            let path = format!("{list}{limit}");
            let first = system.get("bob", &path).await;
            let second = system.get("bob", &path).await;
            assert_eq!((second.header("x-cache"), &second.body), ("hit", &first.body), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_keeps_its_latest_pages_within_a_bound_of_bytes() {
    let system = System::start().await;
    let cache = system.cache();
    cache.enter_generation(system.read_model().generation().await.unwrap().unwrap());
    let conversation = ConversationId(Uuid::now_v7());
    let key = |page_size| ViewKey::Messages { conversation, page_size };
    let versions = cache.versions(&[Dependency::Conversation(conversation)]).await.unwrap();
    let includes = system.read_model().offsets().await.unwrap();
    let put = async |page_size: i64, bytes: usize| {
        let view = View::new("x".repeat(bytes));
        cache.put_if_current(&key(page_size), &versions, &view, &includes).await.unwrap();
    };
    let stored = async || {
        let mut stored = Vec::new();
        for page_size in 1..=9 {
            if cache.view(&key(page_size)).await.unwrap().view.is_some() {
                stored.push(page_size);
            }
        }
        stored
    };

    for page_size in 1..=6 {
        put(page_size, 1_000).await;
    }
    assert_eq!(stored().await, [3, 4, 5, 6], "the latest four");
    // As many bytes as 100 messages of 4,000 characters have.
    put(7, 450_000).await;
    put(8, 450_000).await;
    assert_eq!(stored().await, [5, 6, 7, 8]);
    put(5, 450_000).await;
    assert_eq!(stored().await, [5, 8], "more than a mebibyte");
    put(9, 1_100_000).await;
    assert_eq!(stored().await, [5, 8], "a larger page is not stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_ids_leave_nothing_in_redis() {
    let system = System::unlimited().await;
    let [list, messages, conversation] = lists(&system).await;
    read_all(&system, &[list, messages, conversation].map(|list| format!("{list}10"))).await;
    // The first query also leaves bob's count of queries.
    let before = memory(&system).await;

    for _ in 0..50 {
        let id = Uuid::now_v7();
        for path in ["/api/messages/", "/api/messages?conversationId=", "/api/conversations/"] {
            assert_eq!(system.get("bob", &format!("{path}{id}")).await.status, 404, "{path}");
        }
    }

    assert_eq!(memory(&system).await.keys, before.keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_makes_no_view_of_others_stale() {
    let system = System::unlimited().await;
    let [_, _, conversation] = lists(&system).await;
    let path = format!("{conversation}10");
    system.get("bob", &path).await;

    assert_eq!(system.get("eve", &path).await.status, 404);

    assert_eq!(system.get("bob", &path).await.header("x-cache"), "hit");
}
