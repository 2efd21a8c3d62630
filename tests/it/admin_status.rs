//! What admins see of the system: where the projection is, since when, and which nodes there are.

use std::time::{Duration, Instant};

use domain::Timestamp;
use domain::testing::random_history;
use messages::process::Roles;
use serde_json::{Value, json};

use crate::admin::{ask, get};
use crate::harness::log::{self, NewRecord};
use crate::harness::process::ServiceProcess;
use crate::harness::system::config;
use crate::harness::{System, eventually, send_concurrently};

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
