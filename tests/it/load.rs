//! Thousands of sockets on two realtime nodes. `make test` runs this test alone: it needs the whole machine.

use std::time::Instant;

use serde_json::Value;

use crate::client_sync::start_realtime_node;
use crate::harness::replicas::{Replicas, server_dump};
use crate::harness::{System, eventually};

const USERS: usize = 2_000;
/// How many of the users are in the large conversation.
const LARGE_CONVERSATION: usize = 500;
/// Users whose state the test compares with the server's: the first and the last of each conversation, others of the
/// large one, and one who is in none.
const COMPARED: [usize; 7] = [0, 1, 2, 499, 1_500, 1_501, 1_999];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the machine for itself: cargo test --workspace --test it -- --ignored --skip proof:: --test-threads 1"]
async fn thousands_of_clients_of_a_dead_node_reconnect_to_the_other_and_miss_nothing() {
    let system = System::unlimited().await;
    let (mut dying, surviving) = tokio::join!(start_realtime_node(&system), start_realtime_node(&system));
    let users: Vec<String> = (0..USERS).map(|number| format!("user-{number}")).collect();
    let mut clients = Replicas::start(&system, &[&dying.url, &surviving.url], &users).await;
    for node in [&dying, &surviving] {
        // Half of the sockets, except for those whose connection took too long: they went to the other node.
        let sockets = node.metric("realtime_sockets", "").await;
        assert!(sockets >= USERS as f64 / 4.0, "{sockets}");
    }
    let others: Vec<&str> = users[1..LARGE_CONVERSATION].iter().map(String::as_str).collect();
    let large = system.conversation("user-0", &others).await;
    let small = system.conversation("user-1500", &["user-1501", "user-1"]).await;
    let send_twenty_to_each = async |from: usize| {
        for number in from..from + 20 {
            system.message("user-0", &large, &format!("large {number}")).await;
            system.message("user-1501", &small, &format!("small {number}")).await;
        }
    };
    send_twenty_to_each(0).await;

    let sockets_before = dying.metric("realtime_sockets", "").await;
    let readies_before = readies(&clients.status().await);
    dying.child.kill().await.unwrap();
    let died = Instant::now();
    send_twenty_to_each(20).await;
    eventually("the clients of the dead node are connected again", async || {
        (readies(&clients.status().await) >= readies_before + sockets_before).then_some(())
    })
    .await;
    clients.all_ready().await;
    println!("all {USERS} were connected and had caught up {:?} after the node died", died.elapsed());
    send_twenty_to_each(40).await;

    eventually("every client has everything", async || {
        let dumps = clients.dump().await;
        for index in COMPARED {
            if dumps[index] != server_dump(&system, &users[index]).await {
                return None;
            }
        }
        let complete = |dump: &Value| dump["messages"].as_array().unwrap().len() >= 60;
        dumps[..LARGE_CONVERSATION].iter().all(complete).then_some(())
    })
    .await;
    assert_eq!(clients.status().await["again"], 0, "an event had its effect twice");
}

/// How often the clients have received `connection:ready`, in total.
fn readies(status: &Value) -> f64 {
    status["readies"].as_f64().unwrap()
}
