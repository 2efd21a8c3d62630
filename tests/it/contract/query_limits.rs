//! The rate limit of queries: every query of a known user counts, whatever its answer is.

use messages::process::Roles;
use service::config::Config;

use crate::harness::http::{Request, Response};
use crate::harness::proxy::Proxy;
use crate::harness::system::config;
use crate::harness::{System, send_concurrently, unknown_id};

/// An offset that no test reaches.
const FAR_AHEAD: &str = "0:9000000000000000000";

/// A configuration with this limit.
fn limited(max: u32) -> Config {
    let mut config = config();
    config.limits.limit_queries = max;
    config
}

/// Asserts that a response is 429 and names the time after which the client may retry.
#[track_caller]
fn assert_refused(refused: &Response, max: u32) {
    refused.assert_problem(429, "rate_limited");
    refused.assert_rate_limit(max, 0);
    assert_eq!(refused.header("retry-after"), refused.header("ratelimit-reset"));
    assert_eq!(refused.header("messages-position"), "");
}

/// A conversation of alice and bob with one message, and every kind of query that bob can send.
async fn queries(system: &System) -> [String; 7] {
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.send("alice", &conversation, "hi").await;
    system.wait_until_published(&sent).await;
    [
        "/api/messages".to_owned(),
        format!("/api/messages?conversationId={conversation}"),
        format!("/api/messages/{}", sent.id()),
        format!("/api/conversations/{conversation}"),
        "/api/messages/sync".to_owned(),
        format!("/api/messages?conversationId={}", unknown_id()),
        format!("/api/messages/{}", unknown_id()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_query_of_a_window_is_answered_and_the_next_is_refused() {
    let system = System::with_config(limited(14)).await;
    let queries = queries(&system).await;
    let mut remaining = 14;
    // Misses, and then hits.
    for path in queries.iter().chain(&queries) {
        let answer = system.get("bob", path).await;
        assert!([200, 404].contains(&answer.status), "{path}: {answer:?}");
        remaining -= 1;
        answer.assert_rate_limit(14, remaining);
    }

    for path in &queries {
        assert_refused(&system.get("bob", path).await, 14);
        // A query that is refused doesn't even wait.
        let ahead = system.ask("bob", "GET", path).header("Messages-Position", FAR_AHEAD);
        assert_refused(&ahead.send().await, 14);
    }
    // Nobody else is limited, and neither are bob's commands.
    let other = system.get("alice", &queries[0]).await;
    assert_eq!(other.status, 200, "{other:?}");
    other.assert_rate_limit(14, 13);
    let conversation = queries[1].rsplit('=').next().unwrap();
    assert_eq!(system.send("bob", conversation, "hi").await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_counts_once_whatever_its_answer_is() {
    let system = System::with_config(limited(100)).await;
    let queries = queries(&system).await;
    let [list, messages, message, ..] = &queries;
    let mut remaining = 100;
    let mut check = |answer: &Response, status: u16| {
        assert_eq!(answer.status, status, "{answer:?}");
        remaining -= 1;
        answer.assert_rate_limit(100, remaining);
    };
    for path in [list, messages, message] {
        let first = system.get("bob", path).await;
        check(&first, 200);
        let hit = system.get("bob", path).await;
        check(&hit, 200);
        assert_eq!(hit.header("x-cache"), "hit", "{path}");
        let unchanged = system.ask("bob", "GET", path).header("If-None-Match", hit.header("etag"));
        check(&unchanged.send().await, 304);
        check(&system.ask("bob", "GET", path).header("Messages-Position", "x").send().await, 400);
        check(&system.ask("bob", "GET", path).header("Messages-Position", FAR_AHEAD).send().await, 503);
        check(&system.get_after(&hit, "bob", path).await, 200);
    }
    for wrong in ["/api/messages?limit=0", "/api/messages?cursor=x", "/api/messages/x", "/api/messages/sync?since=x"] {
        check(&system.get("bob", wrong).await, 400);
    }
    check(&system.ask("bob", "HEAD", list).send().await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_user_do_not_count() {
    let system = System::with_roles(limited(1), Roles::ALL).await;
    for _ in 0..3 {
        let unknown = system.request("GET", "/api/messages").send().await;
        unknown.assert_problem(401, "missing_token");
        unknown.assert_not_counted();
        // Realtime asks for bob's conversations whenever a socket of his connects.
        let internal = system.get_with(system.auth.service_token(), "/internal/memberships?userId=bob").await;
        assert_eq!(internal.status, 200, "{internal:?}");
        internal.assert_not_counted();
    }
    system.get("bob", "/api/messages").await.assert_rate_limit(1, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_share_a_users_limit_of_queries() {
    let one = System::with_config(limited(5)).await;
    let other = System::with_roles(one.config.clone(), Roles::QUERY_API).await;
    one.get("bob", "/api/messages").await.assert_rate_limit(5, 4);
    other.get("bob", "/api/messages").await.assert_rate_limit(5, 3);
    one.get("bob", "/api/messages/sync").await.assert_rate_limit(5, 2);

    let query = |node: &System| node.ask("bob", "GET", "/api/messages");
    let requests: Vec<Request> = (0..4).flat_map(|_| [query(&one), query(&other)]).collect();
    let responses = send_concurrently(requests).await;

    let (answered, refused): (Vec<_>, Vec<_>) = responses.iter().partition(|response| response.status == 200);
    assert_eq!(answered.len(), 2, "{responses:?}");
    for refused in refused {
        assert_refused(refused, 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_a_process_counts_queries_by_itself() {
    let system = System::with_config(limited(3)).await;
    let redis = Proxy::start(&system.config.redis_url).await;
    let mut config = system.config.clone();
    config.redis_url.clone_from(&redis.url);
    let node = System::with_roles(config, Roles::QUERY_API).await;
    redis.down();

    for remaining in [2, 1, 0] {
        let answer = node.get("bob", "/api/messages").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.assert_rate_limit(3, remaining);
    }
    assert_refused(&node.get("bob", "/api/messages").await, 3);
    assert_refused(&node.get("bob", "/api/messages/sync").await, 3);
    assert_eq!(node.get("alice", "/api/messages").await.status, 200);
}
