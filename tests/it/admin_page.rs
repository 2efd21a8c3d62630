//! The admin page, in a real browser.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::admin::{admin_token, dead_letter_of};
use crate::admin_jobs::Hold;
use crate::harness::System;
use crate::harness::nginx::Nginx;
use crate::harness::process::{ServiceProcess, command, free_port};
use crate::harness::system::{config, unlimited};
use crate::harness::verified::Verified;
use crate::page::{node, well};

/// A record that is no event, and that a page must not take for markup.
const RECORD: &[u8] = b"<img src=x onerror=alert(1)>";

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_settles_a_dead_letter_on_the_page_and_sees_the_lag_within_two_seconds() {
    let system = System::unlimited().await;
    let position = dead_letter_of(&system, RECORD).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let before = system.send("alice", &conversation, "before").await;
    system.wait_until_published(&before).await;
    let mut node = node("admin-page.mjs");
    node.args([&system.url, &admin_token(&system), &system.token("alice"), &position]);
    let lock = Mutex::new(None);
    obey(node, async |order| match order {
        "hold" => {
            let mut transaction = system.sql.begin().await.unwrap();
            // Projectors can't write to the table until the transaction ends; everybody can read it.
            sqlx::query("LOCK TABLE messages IN SHARE MODE").execute(&mut *transaction).await.unwrap();
            *lock.lock().await = Some(transaction);
            system.send("alice", &conversation, "unfolded").await;
        }
        _ => lock.lock().await.take().unwrap().rollback().await.unwrap(),
    })
    .await;
}

/// Runs a script that asks for things on the way, and asserts that all is well in the end.
async fn obey(mut node: Command, order: impl AsyncFn(&str)) {
    let mut node = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut orders = node.stdin.take().unwrap();
    let mut lines = BufReader::new(node.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        let said: Value = serde_json::from_str(&line).unwrap();
        let Some(please) = said["please"].as_str() else {
            assert_eq!(said, json!({"ok": true}), "{said:#}");
            return;
        };
        order(please).await;
        orders.write_all(b"done\n").await.unwrap();
    }
    panic!("the script ended without a result");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_page_shows_jobs_nodes_and_conversations_as_the_api_tells_of_them() {
    let system = System::unlimited().await;
    let mut node = node("admin-jobs.mjs");
    node.args([&system.url, &admin_token(&system)]);
    well(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_page_is_for_keyboards_phones_and_screen_readers() {
    let system = System::unlimited().await;
    let position = dead_letter_of(&system, RECORD).await;
    let mut node = node("admin-accessibility.mjs");
    node.args([&system.url, &admin_token(&system), &position]);
    well(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_rebuilds_the_demo_under_traffic_although_the_process_dies_that_serves_and_runs_it() {
    let mut config = config();
    unlimited(&mut config);
    let demo = ["demo", "--yes", "--users", "50", "--conversations", "60", "--messages", "2000"];
    assert!(command(&config, &demo).status().await.unwrap().success());
    let ports = [free_port(), free_port()];
    let nodes = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let nginx = Nginx::start(nodes, nodes, nodes).await;
    let mut first = ServiceProcess::spawn(ports[0], &config, &["all"], &[]);
    first.ready().await;
    let system = System::attach(config.clone(), &nginx.url);
    let position = dead_letter_of(&system, RECORD).await;
    system.wait_until_caught_up().await;
    let hold = Hold::begin(&system).await;

    let (stop, held) = (AtomicBool::new(false), Mutex::new((first, None, Some(hold))));
    let writing = async {
        let conversation = system.conversation("alice", &["bob"]).await;
        while !stop.load(Ordering::Relaxed) {
            // Some fail while a process dies.
            let _ = system.post("alice", json!({"conversationId": conversation, "content": "meanwhile"})).await;
        }
    };
    let watching = async {
        let mut node = node("admin-rebuild.mjs");
        node.args([&system.url, &admin_token(&system), &position]);
        obey(node, async |order| {
            let (dying, other, hold) = &mut *held.lock().await;
            if order == "release" {
                return hold.take().unwrap().end().await;
            }
            let mut started = ServiceProcess::spawn(ports[1], &config, &["all"], &[]);
            started.ready().await;
            *other = Some(started);
            dying.child.kill().await.unwrap();
        })
        .await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(watching, writing);
    let job = system.read_model().job(1).await.unwrap().unwrap();
    assert_eq!((json!(job.status), job.attempts), (json!("done"), 2), "{job:?}");
    assert_eq!(Verified::run(&config).await.code, Some(0));
}
