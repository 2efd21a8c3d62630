//! Reads over the read model, past every cache, and what each of them costs.

use std::time::Instant;

use domain::{ConversationId, UserId};
use serde_json::Value;
use service::config::Config;
use sqlx::Row;

use super::expected::{Expected, hash};
use super::history::History;
use crate::harness::http::Response;
use crate::harness::process::ServiceProcess;
use crate::harness::{System, eventually};

/// How often each read is measured.
const REPEATS: usize = 21;
/// The tables that grow with the log, and from which no read may read everything.
const LARGE_TABLES: [&str; 5] = ["applied_events", "conversations", "members", "messages", "reactions"];

/// What one read costs on average.
pub(super) struct Cost {
    pub(super) what: &'static str,
    pub(super) median_ms: f64,
    /// How many operations on Postgres the process counts.
    pub(super) operations: f64,
    /// How many index entries of the large tables Postgres returns.
    pub(super) entries: f64,
    /// How often Postgres scanned a large table, in all repetitions.
    pub(super) sequential_scans: i64,
}

/// The costs of each kind of read.
pub(super) struct Reads(pub(super) Vec<Cost>);

/// A query-api that never finds anything in Redis, because no projector publishes under its prefix.
struct Uncached {
    system: System,
    process: ServiceProcess,
}

impl Uncached {
    async fn start(config: &Config) -> Self {
        let config = Config { redis_prefix: format!("{}cold", config.redis_prefix), ..config.clone() };
        let process = ServiceProcess::start(&config, &["query-api"]).await;
        Self { system: System::attach(config, &process.url), process }
    }

    async fn get(&self, user: &UserId, path: &str) -> Response {
        let answer = self.system.get(user.as_str(), path).await;
        assert_eq!((answer.status, answer.header("x-cache") == "hit"), (200, false), "{path}: {answer:?}");
        answer
    }
}

/// The user's token of the present state.
pub(super) async fn present_token(config: &Config, user: &UserId) -> String {
    let answer = Uncached::start(config).await.get(user, "/api/messages/sync").await;
    answer.body["next"].as_str().unwrap().to_owned()
}

impl Reads {
    /// Measures each kind of read. `since` is the hub's oldest token.
    pub(super) async fn measure(config: &Config, history: &History, since: &str) -> Self {
        let long = history.long_conversation();
        let messages = format!("/api/messages?conversationId={long}&limit=100");
        let deep = {
            let api = Uncached::start(config).await;
            let newest = api.get(history.hub(), &messages).await;
            let half = newest.data()[0]["seq"].as_i64().unwrap() / 2;
            let page = page_down(&api, history.hub(), &messages, |page| page[0]["seq"].as_i64() < Some(half)).await;
            format!("{messages}&cursor={}", page.unwrap())
        };
        let conversation = format!("/api/conversations/{long}");
        let reads = [
            ("first page of the long conversation, 100 messages", history.hub(), messages),
            ("page in the middle of its history, 100 messages", history.hub(), deep),
            ("its unread count for a user who writes in it", history.hub(), conversation.clone()),
            ("its unread count for a user who has read nothing", history.lurker(), conversation),
            ("first 100 conversations of the user who has most", history.hub(), "/api/messages?limit=100".to_owned()),
            (
                "first sync page of that user since the beginning, 500 changes",
                history.hub(),
                format!("/api/messages/sync?since={since}&limit=500"),
            ),
        ];
        let mut costs = Vec::new();
        for (what, user, path) in reads {
            costs.push(cost(config, what, user, &path).await);
        }
        Self(costs)
    }
}

async fn cost(config: &Config, what: &'static str, user: &UserId, path: &str) -> Cost {
    let api = Uncached::start(config).await;
    let before = scans(&api.system).await;
    let operations_before = api.process.metric("postgres_queries_total", "").await;
    let mut took_ms = Vec::new();
    for _ in 0..REPEATS {
        let began = Instant::now();
        api.get(user, path).await;
        took_ms.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    let operations = api.process.metric("postgres_queries_total", "").await - operations_before;
    let Uncached { system, process } = api;
    // The connections of a process report what they counted when they end, at the latest.
    process.stop().await;
    let mut previous = before;
    let after = eventually("Postgres has counted the reads", async || {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let now = scans(&system).await;
        let settled = now == previous && now != before;
        previous = now;
        settled.then_some(now)
    })
    .await;
    took_ms.sort_by(f64::total_cmp);
    Cost {
        what,
        median_ms: took_ms[REPEATS / 2],
        operations: operations / REPEATS as f64,
        entries: (after.entries - before.entries) as f64 / REPEATS as f64,
        sequential_scans: after.sequential - before.sequential,
    }
}

/// What Postgres has counted for the large tables of the schema so far.
#[derive(Clone, Copy, PartialEq)]
struct Scans {
    entries: i64,
    sequential: i64,
}

async fn scans(system: &System) -> Scans {
    let query = "SELECT (SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes
                         WHERE schemaname = $1 AND relname = ANY($2)) AS entries,
                        (SELECT sum(seq_scan)::bigint FROM pg_stat_user_tables
                         WHERE schemaname = $1 AND relname = ANY($2)) AS sequential";
    let tables = LARGE_TABLES.map(str::to_owned).to_vec();
    let counted = sqlx::query(query).bind(&system.config.database_schema).bind(tables);
    let row = counted.fetch_one(&system.sql).await.unwrap();
    Scans { entries: row.get("entries"), sequential: row.get("sequential") }
}

/// Reads page after page until `is_last` holds for the items of one. Returns the cursor after it, if there are more.
async fn page_down(
    api: &Uncached,
    user: &UserId,
    path: &str,
    mut is_last: impl FnMut(&[Value]) -> bool,
) -> Option<String> {
    let mut next = path.to_owned();
    loop {
        let page = api.get(user, &next).await;
        let cursor = page.next_cursor().map(str::to_owned);
        if is_last(page.data().as_array().unwrap()) {
            return cursor;
        }
        next = format!("{path}&cursor={}", cursor?);
    }
}

/// Asserts that the pages of the long conversation's newer half, and all pages of the hub's conversations, have exactly
/// what the fold has.
pub(super) async fn assert_pages_complete(config: &Config, history: &History, expected: &Expected) {
    let api = Uncached::start(config).await;
    let long = history.long_conversation();
    let mut seq = expected.conversations[&long].last_seq;
    let half = seq / 2;
    let path = format!("/api/messages?conversationId={long}&limit=100");
    page_down(&api, history.hub(), &path, |page| {
        for message in page {
            let expected = &expected.messages[&message["id"].as_str().unwrap().parse().unwrap()];
            assert_eq!((message["seq"].as_i64(), expected.seq), (Some(seq), seq), "{message}");
            assert_eq!(message["content"].as_str().map(hash), expected.content, "{message}");
            seq -= 1;
        }
        seq < half
    })
    .await;

    let mut listed = 0;
    page_down(&api, history.hub(), "/api/messages?limit=100", |page| {
        for conversation in page {
            let id: ConversationId = conversation["id"].as_str().unwrap().parse().unwrap();
            let unread = conversation["unreadCount"].as_i64().unwrap();
            assert_eq!(unread, expected.unread(id, history.hub()), "{conversation}");
            listed += 1;
        }
        false
    })
    .await;
    assert_eq!(listed, history.conversation_count(), "conversations are missing in the list");
    let read = api.get(history.lurker(), &format!("/api/conversations/{long}")).await;
    assert_eq!(read.data()["unreadCount"].as_i64(), Some(expected.unread(long, history.lurker())), "{read:?}");
}
