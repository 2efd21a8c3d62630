//! This release and the parent's, side by side on one topic, schema and Redis: while users write and read, every process
//! is replaced by the other release and back. Values in Redis, rows, events, tokens and cursors of one release must be
//! read by the other.
//!
//! A release may add fields to responses. So a response of either must have everything that the parent reads without a
//! cache, and may have more.

use std::time::Duration;

use serde_json::{Value, json};
use service::config::Config;

use super::table::{Proof, Row, grouped, scaled};
use crate::harness::cluster::{Cluster, Half};
use crate::harness::fold::assert_folded;
use crate::harness::http::Response;
use crate::harness::process::{Release, ServiceProcess, command_of, free_port};
use crate::harness::system::{config, unlimited};
use crate::harness::{Client, System, eventually};
use crate::rolling::Traffic;

/// How long each state of the system lasts, in seconds.
const STATE_SECONDS: usize = 30;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the executable of the parent commit: make proof"]
async fn two_releases_side_by_side_lose_repeat_and_hide_nothing() {
    let mut proof = Proof::begin("releases");
    let mut config = config();
    unlimited(&mut config);
    let mut cluster = Cluster::start(&config, Release::Parent).await;
    let traffic = Traffic::start(&cluster).await;
    let mut agreed = Agreement::default();
    let changes = [
        (Half::First, Release::Current),
        (Half::Second, Release::Current),
        (Half::First, Release::Parent),
        (Half::Second, Release::Parent),
    ];
    for (number, (half, release)) in (1..).zip(changes) {
        cluster.restart_half(half, release).await;
        Pair::of(&cluster, number).await.assert_agree(&mut agreed).await;
        tokio::time::sleep(Duration::from_secs(scaled(STATE_SECONDS) as u64)).await;
        let Agreement { reads, hits } = agreed;
        proof.progress(&format!("{half:?} of each role: {release:?} release; {reads} reads agree, {hits} cached"));
    }
    let commands = traffic.assert_lost_and_repeated_nothing().await;
    let system = System::attach(cluster.config.clone(), &cluster.nginx.url);
    assert_folded(&system.read_model(), &system.records().await).await;

    proof.row(Row {
        what: format!(
            "two processes of each role behind nginx, rolled from the parent to this release and back under traffic, {}",
            proof.took()
        ),
        figure: format!("{} commands acknowledged; nothing lost, repeated or stale", grouped(commands)),
        bound: "all of them",
        holds: true,
    });
    proof.row(Row {
        what: "the same views read from both releases, each through what the other put into Redis".to_owned(),
        figure: format!("{} reads equal, {} of them from the cache", grouped(agreed.reads), grouped(agreed.hits)),
        bound: "all equal, some from the cache",
        holds: agreed.hits > 0,
    });
    proof.end();
}

/// What both processes of a role agreed on.
#[derive(Debug, Default)]
struct Agreement {
    reads: usize,
    /// How many of the reads were answered from Redis.
    hits: usize,
}

/// Both processes of each role, past nginx, and a query-api of the parent release without a cache.
struct Pair {
    command_api: [System; 2],
    query_api: [System; 2],
    realtime: [String; 2],
    uncached: System,
    _uncached: ServiceProcess,
    /// Users that nobody else writes to.
    users: [String; 3],
}

impl Pair {
    async fn of(cluster: &Cluster, number: usize) -> Self {
        let attach = |url: &str| System::attach(cluster.config.clone(), url);
        let empty_cache =
            Config { redis_prefix: format!("{}cold", cluster.config.redis_prefix), ..cluster.config.clone() };
        let mut uncached = ServiceProcess::of(command_of(Release::Parent, &empty_cache, &["query-api"]), free_port());
        uncached.ready().await;
        Self {
            command_api: cluster.urls("command-api").map(attach),
            query_api: cluster.urls("query-api").map(attach),
            realtime: cluster.urls("realtime").map(str::to_owned),
            uncached: System::attach(empty_cache, &uncached.url),
            _uncached: uncached,
            users: ["alice", "bob", "carol"].map(|name| format!("{name}-{number}")),
        }
    }

    async fn assert_agree(&self, agreed: &mut Agreement) {
        let [alice, bob, _] = &self.users;
        let conversation = self.create_conversation().await;
        let mut clients = self.connect().await;
        let mut messages = Vec::new();
        for number in 0..6 {
            let body = json!({"conversationId": conversation, "content": format!("{number} for @{bob}")});
            let sent = self.post_to_both(number, alice, &format!("send-{number}"), body).await;
            for client in &mut clients {
                assert_eq!(client.frame("message:new").await.data["id"], sent.id());
            }
            messages.push(sent.id());
        }
        let react = json!({"action": "reaction", "messageId": messages[1], "emoji": "👍", "reaction": "agreed"});
        self.post_to_both(0, bob, "react", react).await;
        let read = json!({"action": "mark_read", "conversationId": conversation, "messageId": messages[3]});
        self.post_to_both(1, bob, "read", read).await;
        let deleted = self.command_api[0].delete(alice, &messages[4]).await;
        assert_eq!(deleted.status, 200, "{deleted:?}");
        self.assert_presence(&mut clients).await;

        let paths = [
            "/api/messages".to_owned(),
            format!("/api/conversations/{conversation}"),
            format!("/api/messages?conversationId={conversation}&limit=2"),
            format!("/api/messages/{}", messages[0]),
            format!("/api/messages/{}", messages[1]),
        ];
        for (first, second) in [(0, 1), (1, 0)] {
            // Whatever was cached is no longer current.
            let edited = self.command_api[second].edit(alice, &messages[1], &format!("edited {first}")).await;
            assert_eq!(edited.status, 200, "{edited:?}");
            for path in &paths {
                for user in [alice, bob] {
                    self.assert_equal_reads([first, second], user, path, &edited, agreed).await;
                }
            }
        }
    }

    /// A group of the three users that alice created; the same command to the other process creates nothing more.
    async fn create_conversation(&self) -> String {
        let [alice, bob, carol] = &self.users;
        let body = json!({"action": "conversation", "participantIds": [alice, bob, carol], "title": "both"});
        let created = self.post_to_both(0, alice, "create", body).await;
        created.id()
    }

    /// Sends a command to one process, and again to the other, which must answer as the first did.
    async fn post_to_both(&self, number: usize, user: &str, key: &str, body: Value) -> Response {
        let (first, second) = (&self.command_api[number % 2], &self.command_api[(number + 1) % 2]);
        let answer = first.post_with_key(user, key, body.clone()).await;
        assert!([200, 201].contains(&answer.status), "{answer:?}");
        let repeated = second.post_with_key(user, key, body).await;
        assert_eq!((repeated.status, repeated.data()), (200, answer.data()), "{repeated:?}");
        answer
    }

    /// Clients of alice and bob, each on another realtime process.
    async fn connect(&self) -> [Client; 2] {
        let mut clients = Vec::new();
        for (user, url) in self.users.iter().zip(&self.realtime) {
            let mut client = Client::open(json!({"url": url, "token": self.uncached.token(user)})).await;
            client.frame("connection:ready").await;
            clients.push(client);
        }
        clients.try_into().unwrap_or_else(|_| unreachable!("two realtime processes"))
    }

    /// Asserts that each realtime process knows who is connected to the other.
    async fn assert_presence(&self, clients: &mut [Client; 2]) {
        let [alice, bob, _] = &self.users;
        for (client, other) in clients.iter_mut().zip([bob, alice]) {
            let (name, request) = ("presence:get", json!({"userIds": [other]}));
            eventually("the other process's user is online", async || {
                let presence = client.emit_with_ack(name, request.clone()).await;
                (presence[0]["status"] == "online").then_some(())
            })
            .await;
        }
    }

    /// Asserts that the first process reads what the parent release reads without a cache, and that the second, from
    /// then on with the first one's view in Redis, its position token and its cursor, reads the same.
    async fn assert_equal_reads(
        &self,
        [first, second]: [usize; 2],
        user: &str,
        path: &str,
        latest: &Response,
        agreed: &mut Agreement,
    ) {
        let expected = self.uncached.get_after(latest, user, path).await;
        assert_eq!(expected.status, 200, "{expected:?}");
        let filled = self.query_api[first].get_after(latest, user, path).await;
        let read = self.query_api[second].get_after(&filled, user, path).await;
        for answer in [&filled, &read] {
            assert_eq!(answer.status, 200, "{user} {path}: {answer:?}");
            assert!(
                has(answer.data(), expected.data()),
                "{user} {path}: {answer:?}\nlacks some of {}",
                expected.data()
            );
            agreed.reads += 1;
            agreed.hits += usize::from(answer.header("x-cache") == "hit");
        }
        if let Some(cursor) = filled.body["page"]["nextCursor"].as_str() {
            let next = format!("{path}&cursor={cursor}");
            let (expected, read) =
                (self.uncached.get(user, &next).await, self.query_api[second].get(user, &next).await);
            assert!(has(read.data(), expected.data()), "{user} {next}: {read:?}\nlacks some of {}", expected.data());
        }
    }
}

/// Whether a value is the expected one, perhaps with more fields in its objects.
fn has(value: &Value, expected: &Value) -> bool {
    match (value, expected) {
        (Value::Object(fields), Value::Object(expected)) => {
            expected.iter().all(|(name, expected)| fields.get(name).is_some_and(|value| has(value, expected)))
        }
        (Value::Array(items), Value::Array(expected)) => {
            items.len() == expected.len() && items.iter().zip(expected).all(|(item, expected)| has(item, expected))
        }
        _ => value == expected,
    }
}

#[test]
fn a_response_may_have_more_fields_than_the_parents_but_no_other_values() {
    let expected = json!({"data": [{"id": "a", "content": null}]});
    assert!(has(&json!({"data": [{"id": "a", "content": null, "added": 1}]}), &expected));
    for other in [json!({"data": [{"id": "a"}]}), json!({"data": []}), json!({"view": expected})] {
        assert!(!has(&other, &expected), "{other}");
    }
}
