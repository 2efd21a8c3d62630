//! What admins see of the system: where the projection is, since when, and which nodes there are.

use std::time::{Duration, Instant};

use domain::Timestamp;
use domain::testing::random_history;
use messages::process::Roles;
use serde_json::{Value, json};

use crate::admin::{ask, get};
use crate::client_sync::start_realtime_node;
use crate::harness::log::{self, NewRecord};
use crate::harness::process::ServiceProcess;
use crate::harness::repository::text;
use crate::harness::system::config;
use crate::harness::{Client, System, eventually, send_concurrently};

/// The status once it meets a condition.
async fn status_when(system: &System, what: &str, is_met: impl Fn(&Value) -> bool) -> Value {
    eventually(what, async || {
        let status = get(system, "/admin/api/status").await;
        is_met(&status).then_some(status)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_grows_in_seconds_while_no_projector_works_and_falls_to_zero() {
    let config = config();
    let mut projector = System::with_roles(config.clone(), Roles::PROJECTOR).await;
    projector.wait_until_projecting().await;
    projector.stop().await;
    let system = System::with_roles(config.clone(), Roles::QUERY_API).await;
    let records: Vec<NewRecord> = random_history(7, 60).iter().map(NewRecord::event).collect();
    log::append(&config, &records).await;

    let behind = status_when(&system, "all records are waiting", |status| status["lag"] == 60).await;
    let oldest = behind["lagSeconds"].as_f64().unwrap();
    let later = status_when(&system, "the oldest record is 2 s older", |status| {
        status["lagSeconds"].as_f64().unwrap() >= oldest + 2.0
    })
    .await;
    assert_eq!((&later["lag"], &later["projectors"]), (&json!(60), &json!(0)));
    let partitions = later["partitions"].as_array().unwrap();
    assert_eq!(partitions.iter().map(|it| it["lag"].as_i64().unwrap()).sum::<i64>(), 60);
    for partition in partitions {
        assert_eq!((&partition["isProjected"], partition["lag"] == 0), (&json!(false), partition["lagSeconds"] == 0.0));
    }
    let appended = status_when(&system, "the log grew", |status| sum(status, "appendedPerSecond") > 0.0).await;
    assert_eq!(sum(&appended, "foldedPerSecond"), 0.0, "{appended}");

    let _projector = System::with_roles(config.clone(), Roles::PROJECTOR).await;
    let level = status_when(&system, "everything is folded", |status| status["lag"] == 0).await;
    assert_eq!((&level["lagSeconds"], &level["projectors"]), (&json!(0.0), &json!(1)));
    status_when(&system, "the projector folded", |status| sum(status, "foldedPerSecond") > 0.0).await;
}

/// The sum of a rate over all partitions.
fn sum(status: &Value, rate: &str) -> f64 {
    status["partitions"].as_array().unwrap().iter().map(|it| it[rate].as_f64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_who_ask_at_the_same_time_cost_postgres_one_look() {
    let config = config();
    let process = ServiceProcess::start(&config, &["all"]).await;
    let system = System::attach(config, &process.url);
    system.wait_until_projecting().await;
    let looks = async || process.metric("postgres_queries_total", "operation=\"overview\"").await;
    let (before, since) = (looks().await, Instant::now());
    let mut answered = 0;
    while since.elapsed() < Duration::from_secs(2) {
        let asked: Vec<_> = (0..10).map(|_| ask(&system, "GET", "/admin/api/status")).collect();
        let answers = send_concurrently(asked).await;
        assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
        answered += answers.len();
    }
    let (looked, elapsed) = (looks().await - before, since.elapsed());
    let most = elapsed.as_secs_f64() / 0.5 + 2.0;
    assert!((1.0..=most).contains(&looked), "{looked} looks for {answered} answers within {elapsed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_begins_with_the_process_and_grows_by_a_sample_every_10_s() {
    let system = System::start().await;
    let history = async || get(&system, "/admin/api/history").await;
    let first = eventually("the process samples right after its start", async || {
        let history = history().await;
        assert_eq!(history["intervalSeconds"], 10);
        history["samples"].get(0).cloned()
    })
    .await;
    assert_eq!((&first["lag"], &first["appendedPerSecond"]), (&json!(0), &json!(0.0)));
    system.conversation("alice", &["bob"]).await;
    let second = eventually("the process samples again", async || history().await["samples"].get(1).cloned()).await;
    let at = |sample: &Value| sample["at"].as_str().unwrap().parse::<Timestamp>().unwrap().as_millis();
    let apart = at(&second) - at(&first);
    assert!((9_000..20_000).contains(&apart), "{first} and {second} are {apart} ms apart");
    assert!(second["appendedPerSecond"].as_f64().unwrap() > 0.0, "{second}");
}

/// The sockets and rooms of each node, sorted.
fn node_counts(status: &Value) -> Vec<(i64, i64)> {
    let nodes = status["nodes"].as_array().unwrap();
    let mut counts: Vec<_> =
        nodes.iter().map(|node| (node["sockets"].as_i64().unwrap(), node["rooms"].as_i64().unwrap())).collect();
    counts.sort_unstable();
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn each_realtime_node_shows_its_sockets_and_rooms_until_it_is_gone() {
    let system = System::start().await;
    system.conversation("alice", &["bob"]).await;
    system.conversation("alice", &["carol"]).await;
    let (one, two) = tokio::join!(start_realtime_node(&system), start_realtime_node(&system));
    let connect = async |node: &ServiceProcess, user: &str| {
        let mut client = Client::open(json!({"url": node.url, "token": system.token(user)})).await;
        client.frame("connection:ready").await;
        client
    };
    let _alice = [connect(&one, "alice").await, connect(&one, "alice").await];
    let _bob = connect(&two, "bob").await;
    // The system's own node has no sockets.
    let status =
        status_when(&system, "each node says what it has", |status| node_counts(status) == [(0, 0), (1, 1), (2, 2)])
            .await;
    let seen = status["nodes"][0]["seenAt"].as_str().unwrap().parse::<Timestamp>().unwrap().as_millis();
    let until = started(&status).as_millis();
    assert!((seen - until).abs() < 60_000, "{status}");
    drop(two);
    status_when(&system, "the killed node is gone", |status| node_counts(status) == [(0, 0), (2, 2)]).await;
}

/// When the process that answered began to serve.
fn started(status: &Value) -> Timestamp {
    status["process"]["startedAt"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_says_what_it_lacks_and_since_when() {
    let system = System::with(|config| config.redis_url = "redis://127.0.0.1:1".to_owned()).await;
    let first = get(&system, "/admin/api/status").await;
    let process = &first["process"];
    assert_eq!(process["status"], "ready", "{process}");
    assert_eq!(first["nodes"], json!([]));
    let check = |status: &Value, name: &str| {
        let checks = status["process"]["checks"].as_array().unwrap();
        checks.iter().find(|check| check["dependency"] == name).unwrap().clone()
    };
    let (redis, postgres) = (check(&first, "redis"), check(&first, "postgres"));
    assert_eq!((&redis["status"], &postgres["status"]), (&json!("gone"), &json!("works")));
    assert!(redis["detail"].as_str().is_some_and(|detail| !detail.is_empty()) && postgres["detail"].is_null());
    // Each check runs every second. What it finds again is since then, not since now.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let later = get(&system, "/admin/api/status").await;
    for (name, before) in [("redis", &redis), ("postgres", &postgres)] {
        let now = check(&later, name);
        assert_eq!((&now["status"], &now["since"]), (&before["status"], &before["since"]), "{now}");
    }
    assert_eq!(started(&later), started(&first));
    let since = redis["since"].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert!((since.as_millis() - started(&first).as_millis()).abs() < 10_000, "{redis}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_are_those_of_the_document_with_the_values_that_are_set() {
    let system = System::with(|config| config.limits.limit_messages = 12_345).await;
    let limits = get(&system, "/admin/api/limits").await;
    let document = text("docs/limits.md");
    let rows = document.lines().filter(|line| line.starts_with("| ")).count() - document.matches("\n| Limit |").count();
    let limits = limits.as_array().unwrap();
    assert_eq!(limits.len(), rows);
    let expected = json!({
        "area": "What a user may do in a window", "limit": "messages sent", "value": "12,345",
        "beyond": "429 `rate_limited`", "protects": "the log, and all who read the conversation",
    });
    assert_eq!(limits[0], expected);
    assert!(limits.iter().any(|limit| limit["value"] == "64 KiB"), "bytes are written as the document writes them");
}
