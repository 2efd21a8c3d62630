//! Many users while every service that the system needs fails in every way, and its own processes are killed and paused.
//! Afterwards the independent checker compares everything that was acknowledged with a fold of its own, and
//! [`report::Report`] says how long each fault was felt. A seed decides the traffic and the order of the faults.
//! `docs/reliability.md` shows the report of a long run.

mod faults;
mod health;
mod rebuilds;
pub(crate) mod report;
mod services;

use std::time::{Duration, Instant};

use domain::testing::Rng;
use serde_json::{Value, json};

use faults::Fault;
use health::HealthWatch;
use report::{Felt, Report};
use services::Services;

use crate::harness::checker::{Crowd, Workload};

/// How long a fault lasts at least.
const FAULT_MIN: Duration = Duration::from_secs(2);
/// How long the processes may take to name it, and to take that back.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the commands that a fault has held up may take at most before the next fault begins.
const USUAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the probes after a fault go on.
const PROBE_TIMEOUT: Duration = Duration::from_secs(200);

/// How much happens in a run.
#[derive(Debug, Clone)]
pub(crate) struct Size {
    pub(crate) seed: u64,
    pub(crate) commands_per_second: u32,
    /// Faults begin until this time has passed, each kind at least once.
    pub(crate) duration: Duration,
    pub(crate) crowd: Crowd,
    /// Only faults whose names contain this begin. All do if it is empty.
    pub(crate) only: String,
}

/// Runs the users and the faults, and asserts that nothing that was acknowledged is lost, doubled or hidden.
pub(crate) async fn survives_every_fault(size: Size) -> Report {
    let logs = std::env::temp_dir().join(format!("messages-reliability-{}-{}", size.seed, std::process::id()));
    std::fs::create_dir_all(&logs).unwrap();
    let mut services = Services::start(logs.clone()).await;
    let health = HealthWatch::start(services.cluster.processes());
    let mut users = Workload::start(&services.system, size.seed, size.crowd).await;
    users.order(json!({"do": "start", "rate": size.commands_per_second})).await;
    let began = Instant::now();
    let mut rng = Rng::new(size.seed);
    let mut felt = Vec::new();
    while felt.is_empty() || began.elapsed() < size.duration {
        for fault in Fault::all(&mut rng).into_iter().filter(|fault| fault.name().contains(&size.only)) {
            wait_for_usual_traffic(&mut users, size.commands_per_second).await;
            felt.push(suffer(fault, &mut services, &mut users, &health).await);
        }
    }
    let took = began.elapsed();
    let counts = users.ask(json!({"do": "stop"}), "stopped", PROBE_TIMEOUT).await;
    let (brokers, sql) = (services.kafka.direct.clone(), services.system.sql.clone());
    let verdict = users.check(&services.system, &brokers, &sql).await;
    let report = Report { size, took, counts, sizes: verdict.sizes, felt, states: health.counts() };
    println!("{report}");
    assert_eq!(verdict.first, None, "{:?}; see {:?} and {logs:?}", verdict.differences, users.folder);
    report.assert_complete();
    users.forget();
    std::fs::remove_dir_all(&logs).unwrap();
    report
}

/// Waits until as few commands are under way as usual, so that what follows isn't measured in the wake of another fault.
async fn wait_for_usual_traffic(users: &mut Workload, commands_per_second: u32) {
    let began = Instant::now();
    loop {
        let counts = users.ask(json!({"do": "counts"}), "counts", PROBE_TIMEOUT).await;
        let is_usual = counts["underWay"].as_u64().unwrap() <= u64::from(commands_per_second / 2);
        if is_usual || began.elapsed() > USUAL_TIMEOUT {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Lets one fault happen, and measures how long it is felt after the dependency answers again.
async fn suffer(fault: Fault, services: &mut Services, users: &mut Workload, health: &HealthWatch) -> Felt {
    let name = fault.name();
    users.order(json!({"do": "fault", "name": name, "on": true})).await;
    let began = Instant::now();
    fault.begin(services).await;
    if fault.answers_meanwhile() {
        users.order(json!({"do": "probe", "name": name})).await;
    }
    let is_named = || fault.named().is_none_or(|dependency| health.names(dependency));
    let mut named = is_named();
    while began.elapsed() < FAULT_MIN || !named && began.elapsed() < HEALTH_TIMEOUT {
        tokio::time::sleep(Duration::from_millis(50)).await;
        named = named || is_named();
    }
    fault.end(services).await;
    let ended = Instant::now();
    if !fault.answers_meanwhile() {
        users.order(json!({"do": "probe", "name": name})).await;
    }
    let overlap = users.ask(json!({"do": "fault", "name": name, "on": false}), "fault", PROBE_TIMEOUT).await;
    let probe = users.wait_for("probe", PROBE_TIMEOUT).await;
    while !health.present().is_empty() && ended.elapsed() < HEALTH_TIMEOUT {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let milliseconds = |value: &Value| value.as_u64().map(Duration::from_millis);
    let felt = Felt {
        lasted: ended - began,
        named: fault.named().map(|dependency| (dependency, named)),
        unhealthy: health.present(),
        healthy_after: ended.elapsed(),
        sent: overlap["sent"].as_u64().unwrap(),
        under_way: overlap["underWay"].as_u64().unwrap(),
        acknowledged: overlap["acknowledged"].as_u64().unwrap(),
        command: milliseconds(&probe["command"]),
        read: milliseconds(&probe["read"]),
        delivery: milliseconds(&probe["delivery"]),
        library: milliseconds(&probe["library"]),
        name,
    };
    println!("· {felt}");
    felt
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the whole machine"]
async fn nothing_acknowledged_is_lost_doubled_or_hidden_whatever_fails() {
    let crowd = Crowd { sockets: 12, libraries: 10, groups: 24 };
    let duration = Duration::from_secs(90);
    let seed = std::env::var("MESSAGES_SEED").map_or(1, |seed| seed.parse().unwrap());
    survives_every_fault(Size { seed, commands_per_second: 50, duration, crowd, only: String::new() }).await;
}
