//! Thousands of sockets. `make test` runs this by itself, for it needs the machine for itself.

use std::time::Instant;

use serde_json::Value;

use crate::following::{node, unlimited};
use crate::harness::eventually;
use crate::harness::replicas::{Replicas, server_dump};

const USERS: usize = 2_000;
/// How many of them are in the large conversation.
const TOGETHER: usize = 500;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the machine for itself: cargo test --workspace --test it -- --ignored --test-threads 1"]
async fn thousands_of_sockets_of_a_node_that_dies_come_back_on_the_other_and_miss_nothing() {
    let system = unlimited().await;
    let (mut one, two) = tokio::join!(node(&system), node(&system));
    let users: Vec<String> = (0..USERS).map(|number| format!("user-{number}")).collect();
    let mut replicas = Replicas::start(&system, &[&one.url, &two.url], &users).await;
    for node in [&one, &two] {
        // Half of them each, but for those whose connection took too long: they went to the other.
        let sockets = node.metric("realtime_sockets", "").await;
        assert!(sockets >= USERS as f64 / 4.0, "{sockets}");
    }
    let everyone: Vec<&str> = users[1..TOGETHER].iter().map(String::as_str).collect();
    let large = system.conversation("user-0", &everyone).await;
    let small = system.conversation("user-1500", &["user-1501", "user-1"]).await;
    let write = async |from: usize| {
        for number in from..from + 20 {
            system.message("user-0", &large, &format!("large {number}")).await;
            system.message("user-1501", &small, &format!("small {number}")).await;
        }
    };
    write(0).await;
    let (there, before) = (one.metric("realtime_sockets", "").await, replicas.status().await);
    one.child.kill().await.unwrap();
    let died = Instant::now();
    write(20).await;
    eventually("those of the node that died are back", async || {
        let readies = |status: &Value| status["readies"].as_f64().unwrap();
        (readies(&replicas.status().await) >= readies(&before) + there).then_some(())
    })
    .await;
    replicas.all_ready().await;
    println!("all {USERS} were connected and had caught up {:?} after the node died", died.elapsed());
    write(40).await;
    eventually("every client has everything", async || {
        let dumps = replicas.dump().await;
        for index in [0, 1, 2, 499, 1_500, 1_501, 1_999] {
            if dumps[index] != server_dump(&system, &users[index]).await {
                return None;
            }
        }
        let complete = |dump: &Value| dump["messages"].as_array().unwrap().len() >= 60;
        dumps[..TOGETHER].iter().all(complete).then_some(())
    })
    .await;
    assert_eq!(replicas.status().await["again"], 0, "an event had its effect twice");
}
