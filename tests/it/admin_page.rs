//! The admin page, in a real browser.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::admin::{admin_token, dead_letter_of};
use crate::harness::System;
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
    let mut node = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut orders = node.stdin.take().unwrap();
    let mut lines = BufReader::new(node.stdout.take().unwrap()).lines();
    let mut lock = None;
    while let Some(line) = lines.next_line().await.unwrap() {
        let said: Value = serde_json::from_str(&line).unwrap();
        match said["please"].as_str() {
            Some("hold") => {
                let mut transaction = system.sql.begin().await.unwrap();
                // Projectors can't write to the table until the transaction ends; everybody can read it.
                sqlx::query("LOCK TABLE messages IN SHARE MODE").execute(&mut *transaction).await.unwrap();
                lock = Some(transaction);
                system.send("alice", &conversation, "unfolded").await;
            }
            Some("release") => lock.take().unwrap().rollback().await.unwrap(),
            _ => {
                assert_eq!(said, json!({"ok": true}), "{said:#}");
                return;
            }
        }
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
