//! A partition on which the projector can't go on holds up no other, and everybody is told which one it is, and why.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::{Postgres, Transaction};

use crate::harness::http::Response;
use crate::harness::process::{ServiceProcess, command};
use crate::harness::system::{System, config, eventually, unlimited};

/// A system in a process of its own, and two conversations of alice and others that live on two partitions.
struct Site {
    process: ServiceProcess,
    system: System,
    held: Conversation,
    free: Conversation,
}

struct Conversation {
    id: String,
    partition: i32,
}

impl Site {
    async fn start() -> Self {
        let mut config = config();
        unlimited(&mut config);
        let process = ServiceProcess::start(&config, &["all"]).await;
        let system = System::attach(config, &process.url);
        let held = conversation(&system, 0).await;
        let mut number = 1;
        let free = loop {
            let free = conversation(&system, number).await;
            if free.partition != held.partition {
                break free;
            }
            number += 1;
        };
        Self { process, system, held, free }
    }

    async fn degraded(&self) -> Value {
        self.system.request("GET", "/readyz").send().await.body["degraded"].clone()
    }
}

async fn conversation(system: &System, number: usize) -> Conversation {
    let body = json!({"action": "conversation", "participantIds": [format!("bob-{number}")]});
    let created = system.post("alice", body).await;
    system.wait_until_projected(&created).await;
    Conversation { id: created.id(), partition: partition(&created) }
}

fn partition(done: &Response) -> i32 {
    done.position().split_once(':').unwrap().0.parse().unwrap()
}

/// Holds the row of a partition's offset, so that nobody can move it.
async fn hold(system: &System, partition: i32) -> Transaction<'static, Postgres> {
    let mut transaction = system.sql.begin().await.unwrap();
    let lock = sqlx::query("SELECT FROM partitions WHERE partition = $1 FOR UPDATE").bind(partition);
    lock.execute(&mut *transaction).await.unwrap();
    transaction
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_held_holds_up_no_other_and_is_named_until_it_moves() {
    let site = Site::start().await;
    let lock = hold(&site.system, site.held.partition).await;
    let stuck = site.system.send("alice", &site.held.id, "stuck").await;
    assert_eq!((stuck.status, partition(&stuck)), (201, site.held.partition));

    // Far more batches than there are attempts at the held partition.
    for number in 0..30 {
        let sent = site.system.send("alice", &site.free.id, &format!("free {number}")).await;
        let path = format!("/api/messages/{}", sent.id());
        let read = site.system.ask("alice", "GET", &path).header("Messages-Position", sent.position()).send().await;
        assert_eq!(read.status, 200, "{read:?}");
    }

    let name = format!(
        "no progress on partitions {0}: another transaction holds the rows of partitions [{0}]",
        site.held.partition
    );
    let unread = format!("can't be read after 10 s: partition {} from offset", site.held.partition);
    eventually("the process names the partition, why, and what can't be read", async || {
        let degraded = site.degraded().await;
        let degraded: BTreeMap<&str, &Value> =
            degraded.as_array()?.iter().map(|it| Some((it["field"].as_str()?, it))).collect::<Option<_>>()?;
        assert!(degraded.keys().all(|field| ["projection", "acknowledged"].contains(field)), "{degraded:?}");
        let (projection, acknowledged) = (degraded.get("projection")?, degraded.get("acknowledged")?);
        assert_eq!((&projection["code"], &acknowledged["code"]), (&json!("half_works"), &json!("half_works")));
        let names_it = projection["detail"].as_str()?.starts_with(&name);
        (names_it && acknowledged["detail"].as_str()?.contains(&unread)).then_some(())
    })
    .await;
    eventually("the metrics count it", async || {
        (site.process.metric("projector_stalled_partitions", "").await == 1.0).then_some(())
    })
    .await;
    assert!(site.process.metric("projector_batch_failures_total", "failure=\"held\"").await > 0.0);
    eventually("the doctor names it", async || {
        let output = command(&site.system.config, &["doctor"]).output().await.unwrap();
        String::from_utf8(output.stdout).unwrap().contains(&name).then_some(())
    })
    .await;
    let elsewhere = ServiceProcess::start(&site.system.config, &["query-api"]).await;
    eventually("a process without a projector names it", async || {
        let ready = System::attach(site.system.config.clone(), &elsewhere.url).request("GET", "/readyz").send().await;
        ready.body["degraded"].to_string().contains(&name).then_some(())
    })
    .await;

    lock.rollback().await.unwrap();
    site.system.wait_until_projected(&stuck).await;
    eventually("nobody names it any more", async || (site.degraded().await == json!([])).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_postgres_refuses_holds_up_no_other_partition() {
    let site = Site::start().await;
    let forbid = format!(
        "ALTER TABLE messages ADD CONSTRAINT messages_test CHECK (conversation_id <> '{}') NOT VALID",
        site.held.id
    );
    sqlx::query(sqlx::AssertSqlSafe(forbid)).execute(&site.system.sql).await.unwrap();
    let refused = site.system.send("alice", &site.held.id, "refused").await;
    let folded = site.system.send("alice", &site.free.id, "folded").await;
    site.system.wait_until_projected(&folded).await;
    eventually("the refusal is counted", async || {
        (site.process.metric("projector_batch_failures_total", "failure=\"refused\"").await > 0.0).then_some(())
    })
    .await;

    sqlx::query("ALTER TABLE messages DROP CONSTRAINT messages_test").execute(&site.system.sql).await.unwrap();
    site.system.wait_until_projected(&refused).await;
}
