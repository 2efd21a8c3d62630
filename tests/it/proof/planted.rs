//! What another version would change, said before it counts: an executable whose fold has a fault. The independent
//! checker says which rows are right.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use service::config::Config;

use super::table::{Proof, Row, grouped, scaled};
use crate::harness::checker::{Crowd, Workload, check, record_tables};
use crate::harness::process::{Release, command_of};
use crate::harness::system::{System, config, unlimited};
use crate::rebuild::generation;

/// How long users write, in seconds.
const SECONDS: usize = 30;
const COMMANDS_PER_SECOND: u32 = 100;
const TIMEOUT: Duration = Duration::from_secs(60);

/// What `messages rebuild --dry-run` of a release prints, and its exit code.
async fn dry_run(release: Release, config: &Config) -> (Option<i32>, String) {
    let output = command_of(release, config, &["rebuild", "--dry-run"]).output().await.unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an executable with a planted fault: make proof"]
async fn the_fault_of_another_version_is_named_before_it_counts() {
    let mut proof = Proof::begin("planted");
    let mut config = config();
    unlimited(&mut config);
    let mut system = System::with_config(config.clone()).await;
    let mut users = Workload::start(&system, 7, Crowd { sockets: 12, libraries: 2, groups: 12 }).await;
    users.order(json!({"do": "start", "rate": COMMANDS_PER_SECOND})).await;
    tokio::time::sleep(Duration::from_secs(scaled(SECONDS) as u64)).await;
    users.ask(json!({"do": "stop"}), "stopped", TIMEOUT).await;
    let verdict = users.check(&system, &config.kafka_brokers, &system.sql).await;
    assert_eq!(verdict.first, None, "the rows in use are right");
    let rows = std::fs::read_to_string(users.folder.join("messages.jsonl")).unwrap();
    let rows = rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let deleted: Vec<Value> = rows.filter(|row| !row["deleted_at"].is_null()).collect();
    let conversations: BTreeSet<&str> = deleted.iter().map(|row| row["conversation_id"].as_str().unwrap()).collect();
    assert!(conversations.len() > 1, "hardly anything was deleted: {deleted:?}");

    let (code, printed) = dry_run(Release::Current, &config).await;
    assert!(code == Some(0) && printed.contains("would change nothing"), "{printed}");
    let (code, printed) = dry_run(Release::Planted, &config).await;
    let conclusion = format!("would change rows in conversations: {}", conversations.len());
    assert!(code == Some(3) && printed.contains(&conclusion), "{conclusion}: {printed}");
    let named: Vec<&str> = printed.lines().filter(|line| line.contains(": content is NULL, must be \"")).collect();
    assert!(!named.is_empty(), "{printed}");
    for line in &named {
        let is_row = |row: &&Value| {
            let (conversation, seq) = (row["conversation_id"].as_str().unwrap(), &row["seq"]);
            line.contains(&format!("conversation_id={conversation} seq={seq}:"))
        };
        assert!(deleted.iter().any(|row| is_row(&row)), "{line} isn't a deleted message");
    }
    assert_eq!(generation(&system).await, 1, "nothing has changed");

    // The rows that the other version makes are wrong where it said that it would change them.
    system.stop().await;
    assert!(command_of(Release::Planted, &config, &["rebuild", "--reset"]).status().await.unwrap().success());
    record_tables(&users.folder, &system.sql).await;
    let verdict = check(&users.folder).await;
    let first = verdict.first.expect("the checker finds the fault");
    assert_eq!(verdict.differences["rows"], deleted.len(), "{first}");
    proof.row(Row {
        what: format!(
            "`rebuild --dry-run` by an executable that keeps the content of deleted messages, on {} records",
            grouped(usize::try_from(verdict.sizes["records"].as_u64().unwrap()).unwrap())
        ),
        figure: format!(
            "all {} conversations counted, {} rows shown, each of them wrong by the independent checker",
            conversations.len(),
            named.len()
        ),
        bound: "all of them, and no other",
        holds: true,
    });
    proof.end();
    users.forget();
}
