//! What 100,000 commands with keys leave in Redis, and how fast retries with used keys are answered.

use std::time::{Duration, Instant};

use redis::AsyncCommands;
use serde_json::json;
use uuid::Uuid;

use super::table::{Proof, Row, grouped, scaled};
use crate::harness::process::ServiceProcess;
use crate::harness::send_concurrently;
use crate::harness::system::{System, config, eventually, unlimited};

const SENDS: usize = 100_000;
/// How many are on their way at a time.
const AT_ONCE: usize = 64;
const CONVERSATIONS: usize = 200;
const RETRIES: usize = 10_000;
const MIB: f64 = 1_048_576.0;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a release build and the whole machine: make proof"]
async fn keyed_sends_leave_little_in_redis_and_retries_are_answered_fast() {
    let mut proof = Proof::begin("keyed_sends");
    let mut config = config();
    unlimited(&mut config);
    let process = ServiceProcess::start(&config, &["all"]).await;
    let system = System::attach(config, &process.url);
    system.wait_until_projecting().await;
    let mut conversations = Vec::new();
    for number in 0..CONVERSATIONS {
        let user = format!("a-user-with-20-{number:05}");
        conversations.push((system.conversation(&user, &["bob"]).await, user));
    }
    let before = memory(&system).await;
    let mut commands = Vec::new();
    let began = Instant::now();
    while commands.len() < scaled(SENDS) {
        let batch: Vec<_> = (0..AT_ONCE)
            .map(|number| {
                let (conversation, user) = &conversations[(commands.len() + number) % conversations.len()];
                (user, Uuid::now_v7().to_string(), json!({"conversationId": conversation, "content": "hello"}))
            })
            .collect();
        let requests =
            batch.iter().map(|(user, key, body)| system.ask(user, "POST", "/api/messages").key(key).json(body));
        for sent in send_concurrently(requests.collect()).await {
            assert_eq!(sent.status, 201, "{sent:?}");
        }
        commands.extend(batch);
    }
    let sending = began.elapsed();
    let at_once = memory(&system).await - before;
    system.wait_until_caught_up().await;
    let later = memory_after_ten_minutes(&system, before).await;
    proof.row(Row {
        what: format!(
            "memory of Redis after {} sends with keys of 36 bytes, in {:.0} s",
            grouped(commands.len()),
            sending.as_secs_f64()
        ),
        figure: format!("{:+.1} MiB at once, {:+.1} MiB ten minutes later", at_once / MIB, later / MIB),
        bound: "≤ 30 MB at once, ≤ 1 MB ten minutes later",
        holds: at_once <= 30e6 && later <= 1e6,
    });
    let chosen = commands.iter().step_by((commands.len() / scaled(RETRIES)).max(1));
    let chosen: Vec<_> = chosen.collect();
    let began = Instant::now();
    for batch in chosen.chunks(AT_ONCE) {
        let retry =
            |(user, key, body): &&(&String, String, _)| system.ask(user, "POST", "/api/messages").key(key).json(body);
        for retried in send_concurrently(batch.iter().map(retry).collect()).await {
            assert_eq!((retried.status, retried.header("idempotent-replayed")), (200, "true"), "{retried:?}");
        }
    }
    let rate = chosen.len() as f64 / began.elapsed().as_secs_f64();
    proof.row(Row {
        what: format!("{} retries with keys from all over the log, {AT_ONCE} at a time", grouped(chosen.len())),
        figure: format!("{rate:.0} a second"),
        bound: "≥ 1,000 a second",
        holds: rate >= 1_000.0,
    });
    proof.end();
}

/// The memory that Redis uses for everything, in bytes.
async fn memory(system: &System) -> f64 {
    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut system.redis().await).await.unwrap();
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    used.trim().parse().unwrap()
}

/// Moves the time of the system's keys by ten minutes: deletes those that expire until then.
async fn memory_after_ten_minutes(system: &System, before: f64) -> f64 {
    let mut redis = system.redis().await;
    eventually("Redis has been told what is folded", async || {
        for key in system.redis_keys().await {
            let ttl: i64 = redis.pttl(&key).await.unwrap();
            if key.contains(":reservation:") && ttl > 600_000 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                return None;
            }
        }
        Some(())
    })
    .await;
    for key in system.redis_keys().await {
        if (0..=600_000).contains(&redis.pttl::<_, i64>(&key).await.unwrap()) {
            redis.del::<_, ()>(&key).await.unwrap();
        }
    }
    memory(system).await - before
}
