//! The independent checker (`tests/js/checker`): it finds nothing wrong with a system that works, and names each fault
//! that is planted in what was recorded.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::System;
use crate::harness::checker::{Crowd, Workload, check, record_tables};
use crate::harness::system::TIMEOUT;

/// A fault that is planted in one of the recorded files.
struct Planted {
    file: &'static str,
    plant: fn(&mut Vec<Value>),
    /// How the first difference begins, and what it contains.
    found: [&'static str; 2],
}

fn planted_faults() -> [Planted; 12] {
    let planted = |file, found, plant| Planted { file, plant, found };
    [
        planted("log", ["commands: ", "isn't on the log"], |lines| {
            let index = lines.iter().position(|line| is_event(line, "MESSAGE_SENT", "socket-")).unwrap();
            lines.remove(index);
        }),
        planted("log", ["commands: ", "content"], |lines| change_event(lines, "content", json!("planted"))),
        planted("log", ["commands: ", "has two events"], |lines| {
            let index = lines.iter().position(|line| is_event(line, "MESSAGE_SENT", "socket-")).unwrap();
            let mut copy = vec![lines[index].clone()];
            change_event(&mut copy, "content", json!("planted"));
            copy[0]["offset"] = json!(1_000_000);
            lines.insert(index + 1, copy.remove(0));
        }),
        planted("commands", ["commands: ", "nobody sent"], |lines| {
            let index = lines.iter().position(|line| line["kind"] == "message").unwrap();
            lines.remove(index);
        }),
        planted("commands", ["commands: ", "it was refused"], |lines| {
            let line = lines.iter_mut().find(|line| line["outcome"] == "acknowledged").unwrap();
            line["outcome"] = json!("refused");
        }),
        planted("violations", ["commands: ", "while it ran"], |lines| lines.push(json!({"what": "planted"}))),
        planted("messages", ["rows: ", "sender_id is"], |lines| lines[0]["sender_id"] = json!("planted")),
        planted("reactions", ["rows: ", "has no row"], |lines| drop(lines.remove(0))),
        planted("members", ["rows: ", "last_read_seq"], |lines| {
            lines[0]["last_read_seq"] = json!(lines[0]["last_read_seq"].as_i64().unwrap() + 1);
        }),
        planted("answers", ["answers: ", "unreadCount"], |lines| {
            let hit = lines.iter_mut().find(|line| line["about"] == "conversation" && line["cache"] == "hit").unwrap();
            hit["data"]["unreadCount"] = json!(1_000_000);
        }),
        planted("clients", ["clients: ", "is missing"], |lines| {
            let socket = lines.iter_mut().find(|line| line["kind"] == "socket").unwrap();
            socket["messages"].as_array_mut().unwrap().pop();
        }),
        planted("clients", ["clients: ", "library client"], |lines| {
            let library = lines.iter_mut().find(|line| line["kind"] == "library").unwrap();
            library["conversations"][0]["position"] = json!("0:0");
        }),
    ]
}

fn is_event(line: &Value, kind: &str, actor: &str) -> bool {
    let event: Value = serde_json::from_str(line["value"].as_str().unwrap()).unwrap();
    event["type"] == kind && event["actorId"].as_str().unwrap().starts_with(actor)
}

/// Changes a field of the data of the first message that a user of plain HTTP sent.
fn change_event(lines: &mut [Value], field: &str, to: Value) {
    let line = lines.iter_mut().find(|line| is_event(line, "MESSAGE_SENT", "socket-")).unwrap();
    let mut event: Value = serde_json::from_str(line["value"].as_str().unwrap()).unwrap();
    event["data"][field] = to;
    line["value"] = json!(event.to_string());
}

/// Plants a fault in a recorded file, lets the checker look for it, and takes it back.
async fn assert_found(folder: &Path, fault: &Planted) {
    let path = folder.join(format!("{}.jsonl", fault.file));
    let before = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<Value> = before.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (fault.plant)(&mut lines);
    let planted: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, planted).unwrap();
    let first = check(folder).await.first.unwrap_or_default();
    let [begins, contains] = fault.found;
    assert!(first.starts_with(begins) && first.contains(contains), "{} of {}: {first}", contains, fault.file);
    std::fs::write(&path, before).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checker_finds_nothing_in_a_working_system_and_names_every_planted_fault() {
    // Given a system that many users have used without any fault.
    let system = System::unlimited().await;
    let mut users = Workload::start(&system, 1, Crowd { sockets: 6, libraries: 3, groups: 9 }).await;
    users.order(json!({"do": "start", "rate": 60})).await;
    let mut acknowledged = 0;
    while acknowledged < 300 {
        let counts = users.ask(json!({"do": "counts"}), "counts", TIMEOUT).await;
        acknowledged = counts["acknowledged"].as_u64().unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let counts = users.ask(json!({"do": "stop"}), "stopped", Duration::from_secs(120)).await;

    // Then the checker finds no difference, and it has compared something of each kind.
    let brokers = system.config.kafka_brokers.clone();
    let verdict = users.check(&system, &brokers, &system.sql).await;
    assert_eq!(verdict.first, None, "{:?} {:?} {counts}", verdict.differences, users.folder);
    for size in ["records", "effects", "messages", "answers", "hits", "clients"] {
        assert_ne!(verdict.sizes[size], 0, "{}", verdict.sizes);
    }

    // And it names each fault that is planted in a file, or in Postgres by hand.
    for fault in planted_faults() {
        assert_found(&users.folder, &fault).await;
    }
    let update = "UPDATE messages SET content = 'planted' WHERE deleted_at IS NULL AND seq = 1";
    sqlx::query(update).execute(&system.sql).await.unwrap();
    record_tables(&users.folder, &system.sql).await;
    let first = check(&users.folder).await.first.unwrap_or_default();
    assert!(first.starts_with("rows: Postgres: messages") && first.contains("content is \"planted\""), "{first}");
    users.forget();
}
