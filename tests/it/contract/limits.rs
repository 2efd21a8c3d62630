//! How much a user may do.

use std::time::{Duration, Instant};

use messages::process::Roles;
use serde_json::{Value, json};

use crate::harness::http::Response;
use crate::harness::redis::FAILED_LOOKUP_LIMIT;
use crate::harness::system::config;
use crate::harness::{System, eventually, send_concurrently, unknown_id};

/// Asserts that an answer is a 429 that says when to come back.
#[track_caller]
fn assert_limited(refused: &Response, most: u32) {
    refused.assert_problem(429, "rate_limited");
    refused.assert_rate_limit(most, 0);
    assert_eq!(refused.header("retry-after"), refused.header("ratelimit-reset"));
    assert_eq!(refused.header("messages-position"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_lets_its_last_command_through_and_not_one_more() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let id = system.message("alice", &conversation, "hi").await;
    let path = format!("/api/messages/{id}");
    let post = |body| ("POST", "/api/messages", body);
    for (most, done_already, (method, path, body)) in [
        (20, 1, post(json!({"action": "conversation", "participantIds": ["bob"]}))),
        (30, 1, post(json!({"conversationId": conversation, "content": "hi"}))),
        (120, 0, post(json!({"action": "mark_read", "conversationId": conversation}))),
        (20, 0, ("PATCH", path.as_str(), json!({"content": "hi"}))),
        (100, 0, post(json!({"action": "reaction", "messageId": id, "emoji": "👍"}))),
        (10, 0, ("DELETE", path.as_str(), Value::Null)),
    ] {
        let again = async || {
            let request = system.ask("alice", method, path);
            if body.is_null() { request.send().await } else { request.json(&body).send().await }
        };
        for count in done_already + 1..=most {
            let done = again().await;
            assert!([200, 201].contains(&done.status), "{count} of {most}: {done:?}");
            done.assert_rate_limit(most, most - count);
        }
        let before = system.records().await.len();
        assert_limited(&again().await, most);
        assert_limited(&again().await, most);
        assert_eq!(system.records().await.len(), before, "{body}");
    }
    // Others are not touched by it.
    let sent = system.post("bob", json!({"conversationId": conversation, "content": "hi"})).await;
    assert_eq!(sent.status, 201);
    sent.assert_rate_limit(30, 29);
}

#[tokio::test(flavor = "multi_thread")]
async fn reactions_count_together_whether_added_or_removed() {
    let system = System::with(|config| config.limits.limit_reactions = 3).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let id = system.message("alice", &conversation, "hi").await;
    let add = json!({"action": "reaction", "messageId": id, "emoji": "👍"});
    let remove = json!({"action": "reaction", "messageId": id, "emoji": "👍", "reaction": "remove"});
    let remove_too = json!({"action": "remove_reaction", "messageId": id, "emoji": "👍"});
    for (left, body) in [(2, &add), (1, &remove), (0, &remove_too)] {
        system.post("bob", body.clone()).await.assert_rate_limit(3, left);
    }
    for body in [add, remove, remove_too] {
        assert_limited(&system.post("bob", body).await, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_or_repeated_does_not_count() {
    let system = System::with(|config| config.limits.limit_messages = 2).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let foreign = system.conversation("bob", &["carol"]).await;
    let body = json!({"conversationId": conversation, "content": "hi"});
    let sent = system.post_with_key("alice", "a-key", body.clone()).await;
    sent.assert_rate_limit(2, 1);
    system.wait_until_caught_up().await;
    for refused in [
        json!({"conversationId": conversation, "content": ""}),
        json!({"conversationId": conversation, "content": "hi", "mentions": ["eve"]}),
        json!({"conversationId": conversation, "content": "hi", "replyToId": unknown_id()}),
        json!({"conversationId": foreign, "content": "hi"}),
        json!({"conversationId": unknown_id(), "content": "hi"}),
    ] {
        let refused = system.post("alice", refused).await;
        assert!([404, 422].contains(&refused.status), "{refused:?}");
        assert_eq!(refused.header("ratelimit-limit"), "");
    }
    let other = json!({"conversationId": conversation, "content": "another"});
    system.post_with_key("alice", "a-key", other.clone()).await.assert_problem(409, "idempotency_key_reused");
    for _ in 0..3 {
        assert_eq!(system.post_with_key("alice", "a-key", body.clone()).await.status, 200);
    }
    system.post("alice", other.clone()).await.assert_rate_limit(2, 0);
    // Over the limit a retry still gets its answer, and a key that got none is still free.
    assert_eq!(system.post_with_key("alice", "a-key", body).await.status, 200);
    assert_limited(&system.post_with_key("alice", "late", other.clone()).await, 2);
    let mut redis = system.redis().await;
    let counter = format!("{}:limit:messages:alice", system.config.redis_prefix);
    redis::cmd("DEL").arg(counter).query_async::<()>(&mut redis).await.unwrap();
    let late = system.post_with_key("alice", "late", other).await;
    assert_eq!((late.status, late.header("idempotent-replayed")), (201, ""), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_share_a_users_limit() {
    let mut config = config();
    config.limits.limit_messages = 5;
    let one = System::with_config(config.clone()).await;
    let other = System::with_roles(config, Roles::COMMAND_API).await;
    let conversation = one.conversation("alice", &["bob"]).await;
    let body = json!({"conversationId": conversation, "content": "hi"});
    for (left, node) in [(4, &one), (3, &other), (2, &one)] {
        node.post("alice", body.clone()).await.assert_rate_limit(5, left);
    }
    // However many at once, on however many nodes.
    let requests = (0..8).map(|number| [&one, &other][number % 2].ask("alice", "POST", "/api/messages").json(&body));
    let answers = send_concurrently(requests.collect()).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 2, "{answers:?}");
    for refused in answers.iter().filter(|answer| answer.status != 201) {
        assert_limited(refused, 5);
    }
    assert_eq!(one.records_of(&conversation).await.len(), 1 + 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_starts_with_its_first_command_and_ends_when_it_says() {
    let change = |config: &mut service::config::Config| {
        config.limits.limit_messages = 2;
        config.limits.limit_window_seconds = 6;
    };
    let system = System::with(change).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let body = json!({"conversationId": conversation, "content": "hi"});
    let begun = Instant::now();
    let first = system.post("alice", body.clone()).await;
    assert_eq!(first.header("ratelimit-reset"), "6");
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The second doesn't start it anew, and neither does what is refused.
    let second = system.post("alice", body.clone()).await;
    let refused = system.post("alice", body.clone()).await;
    assert_eq!((second.status, refused.status), (201, 429), "{second:?} {refused:?}");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=4).contains(&wait), "{wait}");
    tokio::time::sleep(Duration::from_secs(wait)).await;
    let third = system.post("alice", body).await;
    assert!(begun.elapsed() >= Duration::from_secs(6));
    assert_eq!(third.status, 201, "whoever waits as long as they were told is let in: {third:?}");
    assert_eq!(third.header("ratelimit-remaining"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_for_what_is_not_there_has_a_limit_and_looking_for_what_is_new_has_none() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let mut redis = system.redis().await;
    let counter = format!("{}:limit:misses:bob", system.config.redis_prefix);
    system.leave_failed_lookups("bob", 10).await;
    // Read marks on messages of a moment ago, of which Redis knows nothing: none of them is projected when it is asked
    // for. If each counted, there would be too many.
    let mut marked = 0;
    while marked < 12 {
        let hold = system.pause_projection().await;
        let mut marks = Vec::new();
        for _ in 0..4 {
            let message = system.message("alice", &conversation, "hi").await;
            let noted = format!("{}:begun:message:{message}", system.config.redis_prefix);
            assert_eq!(redis::cmd("DEL").arg(noted).query_async::<u32>(&mut redis).await.unwrap(), 1);
            let mark = json!({"action": "mark_read", "conversationId": conversation, "messageId": message});
            marks.push(system.ask("bob", "POST", "/api/messages").json(&mark));
        }
        let looked = async |redis: &mut _| redis::cmd("GET").arg(&counter).query_async::<u32>(redis).await.unwrap();
        let before = looked(&mut redis).await;
        let answers = tokio::spawn(send_concurrently(marks));
        eventually("all of them look", async || (looked(&mut redis).await >= before + 4).then_some(())).await;
        hold.rollback().await.unwrap();
        for answer in answers.await.unwrap() {
            match answer.status {
                200 => marked += 1,
                // A machine that is busy may not get there in time.
                _ => answer.assert_problem(503, "projection_behind"),
            }
        }
    }
    system.wait_until_caught_up().await;
    system.leave_failed_lookups("bob", 2).await;
    for _ in 0..2 {
        let body = json!({"conversationId": unknown_id(), "content": "hi"});
        system.post("bob", body).await.assert_problem(404, "not_found");
    }
    let body = json!({"conversationId": unknown_id(), "content": "hi"});
    assert_limited(&system.post("bob", body).await, FAILED_LOOKUP_LIMIT);
}
