//! `messages replay`: the records of a part of the log, all of them and each once, in a form that analysts can use.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::Stdio;

use serde_json::{Value, json};
use service::config::Config;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::changed_topic::delete_records;
use crate::harness::log::Record;
use crate::harness::process::command;
use crate::harness::system::{TIMEOUT, unknown_id};
use crate::harness::{System, eventually};
use crate::open_transaction::{HELD, OpenTransaction};
use crate::verify::system_with_history;

/// What `messages replay` wrote, what it said, and its exit code.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) code: Option<i32>,
    pub(crate) written: String,
    pub(crate) said: String,
}

impl Replayed {
    pub(crate) async fn run(config: &Config, options: &[&str]) -> Self {
        let output = command(config, &[&["replay"], options].concat()).output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), written: text(output.stdout), said: text(output.stderr) }
    }

    /// What it wrote, which need not be a text.
    pub(crate) async fn bytes(config: &Config, options: &[&str]) -> Vec<u8> {
        let output = command(config, &[&["replay"], options].concat()).output().await.unwrap();
        assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// The same, which must succeed.
    pub(crate) async fn ok(config: &Config, options: &[&str]) -> Self {
        let replayed = Self::run(config, options).await;
        assert_eq!(replayed.code, Some(0), "{options:?}: {}", replayed.said);
        replayed
    }

    fn lines(&self) -> Vec<Value> {
        self.written.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The offsets at which the next replay goes on, as it is told.
    fn next(&self) -> &str {
        self.said.lines().find_map(|line| line.split_once("--from ")).unwrap_or_else(|| panic!("{}", self.said)).1
    }
}

/// A record as a line must say it, from a reader that shares nothing with the product.
fn expected(record: &Record) -> Value {
    let time = domain::Timestamp::from_millis(record.timestamp_ms).unwrap();
    let mut line = record.value.clone();
    if line["eventId"].is_null() {
        let text = String::from_utf8(record.bytes.clone()).unwrap();
        line = json!({"key": record.key, "value": text});
    }
    line["partition"] = json!(record.partition);
    line["offset"] = json!(record.offset);
    line["loggedAt"] = json!(time);
    line
}

/// Lines without the reasons why records are no events.
fn without_errors(mut lines: Vec<Value>) -> Vec<Value> {
    for line in &mut lines {
        if let Some(error) = line.as_object_mut().unwrap().remove("error") {
            assert!(error.as_str().is_some_and(|error| !error.is_empty()), "{line}");
        }
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_comes_once_in_the_order_of_its_partition_and_always_the_same() {
    let system = system_with_history().await;
    let first = Replayed::ok(&system.config, &[]).await;
    let records: Vec<Value> = system.records().await.iter().map(expected).collect();
    let lines = first.lines();
    assert_eq!(lines.iter().filter(|line| !line["error"].is_null()).count(), 3, "{}", first.said);
    assert_eq!(without_errors(lines), records);
    assert!(first.said.contains(&format!("✓ records written: {}, of these no events: 3", records.len())));
    let to = first.next();
    let again = Replayed::ok(&system.config, &["--to", to]).await;
    assert_eq!(again.written, first.written);

    let csv = Replayed::ok(&system.config, &["--format", "csv"]).await;
    assert_eq!(csv.written.lines().next().unwrap().split(',').next(), Some("partition"));
    assert!(csv.written.matches("MESSAGE_SENT").count() > 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_follow_each_other_have_every_record_once() {
    let system = system_with_history().await;
    let ends: Vec<i64> = {
        let mut ends = BTreeMap::<i32, i64>::new();
        system.records().await.iter().for_each(|record| *ends.entry(record.partition).or_default() = record.offset + 1);
        ends.into_values().collect()
    };
    let vector = |share: i64| {
        let offsets = ends.iter().enumerate().map(|(partition, end)| format!("{partition}:{}", end * share / 3));
        offsets.collect::<Vec<_>>().join(",")
    };
    let (one, two) = (vector(1), vector(2));
    let mut found = Vec::new();
    for options in [vec!["--to", &one], vec!["--from", &one, "--to", &two], vec!["--from", &two]] {
        let part = Replayed::ok(&system.config, &options).await;
        found.extend(without_errors(part.lines()));
    }
    let place = |line: &Value| (line["partition"].as_i64(), line["offset"].as_i64());
    found.sort_by_key(place);
    assert_eq!(found, system.records().await.iter().map(expected).collect::<Vec<_>>());
    // One partition alone ends where it is told; the others end now.
    let part = Replayed::ok(&system.config, &["--from", &two, "--to", &format!("0:{}", ends[0] * 2 / 3)]).await;
    assert!(part.lines().iter().all(|line| line["partition"] != 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_and_a_token_cut_the_log_where_they_say() {
    let system = System::unlimited().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let early = system.send("alice", &conversation, "early").await;
    let token = system.get_after(&early, "bob", &format!("/api/messages/{}", early.id())).await;
    let token = token.header("messages-position").to_owned();
    let early_record = system.record_at(&early).await;
    // The log's times have whole milliseconds.
    eventually("the clock goes on", async || {
        let now = time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
        (now > i128::from(early_record.timestamp_ms) + 1).then_some(())
    })
    .await;
    let late = system.send("alice", &conversation, "late").await;
    let time = domain::Timestamp::from_millis(system.record_at(&late).await.timestamp_ms).unwrap().to_string();
    let contents = async |options: &[&str]| {
        let replayed = Replayed::ok(&system.config, &[options, &["--type", "MESSAGE_SENT"]].concat()).await;
        let contents = replayed.lines();
        contents.iter().map(|line| line["data"]["content"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for point in [&time, &token] {
        assert_eq!(contents(&["--to", point]).await, ["early"], "{point}");
        assert_eq!(contents(&["--from", point]).await, ["late"], "{point}");
    }
    assert!(contents(&["--actor", "bob"]).await.is_empty());
    assert_eq!(contents(&["--conversation", &conversation]).await, ["early", "late"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_gets_new_records_at_once_and_ends_with_a_signal() {
    let system = System::unlimited().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let mut following = command(&system.config, &["replay", "--follow", "--conversation", &conversation]);
    let mut following = following.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = tokio::time::timeout(TIMEOUT, lines.next_line()).await.unwrap().unwrap().unwrap();
        serde_json::from_str::<Value>(&line).unwrap()
    };
    assert_eq!(next().await["type"], "CONVERSATION_CREATED");
    for number in 0..3 {
        system.message("alice", &conversation, &number.to_string()).await;
        assert_eq!(next().await["data"]["content"], number.to_string());
    }
    let pid = following.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let ended = tokio::time::timeout(TIMEOUT, following.wait_with_output()).await.unwrap().unwrap();
    assert!(ended.status.success() && String::from_utf8(ended.stderr).unwrap().contains("records written: 4"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_ends_the_part_and_its_control_records_are_no_holes() {
    let system = System::unlimited().await;
    let before = system.conversation("alice", &[&system.peer_on(HELD, "alice", "before")]).await;
    system.message("alice", &before, "before").await;
    let open = OpenTransaction::begin(&system.config).await;
    let offset = open.offset;
    let sent = system.send("alice", &before, "behind").await;
    assert_eq!(sent.status, 201, "{sent:?}");
    let cut = Replayed::ok(&system.config, &[]).await;
    assert!(cut.said.contains(&format!("! partition {HELD} ends at offset {offset}: ")), "{}", cut.said);
    assert!(!cut.written.contains("behind") && cut.written.contains("before"));
    let beyond = Replayed::run(&system.config, &["--to", &format!("{HELD}:{}", offset + 2)]).await;
    assert!(
        beyond.said.contains(&format!("partition {HELD} has records up to offset {offset} only")),
        "{}",
        beyond.said
    );
    open.abort().await;
    let next = cut.next();
    eventually("Kafka gives the records", async || {
        let rest = Replayed::ok(&system.config, &["--from", next]).await;
        // The aborted record and the marker of the abortion have offsets, and nobody reads them.
        (rest.lines().len() == 1 && rest.written.contains("behind")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_does_not_have_is_refused_with_the_place_where_it_has_it() {
    let system = system_with_history().await;
    let config = &system.config;
    let complaint = async |options: &[&str]| {
        let replayed = Replayed::run(config, options).await;
        assert_eq!((replayed.code, replayed.written.as_str()), (Some(1), ""), "{options:?}");
        replayed.said
    };
    assert!(complaint(&["--from", "7:0"]).await.contains("the topic has no partition 7"));
    assert!(complaint(&["--from", "0:99999999"]).await.contains("partition 0 has records up to offset"));
    assert!(complaint(&["--from", "0:5", "--to", "0:4"]).await.contains("offset 4, is before the beginning, offset 5"));
    assert!(complaint(&["--from", "yesterday"]).await.contains("must be beginning, now, an RFC 3339 time"));
    assert!(complaint(&["--to", &"x".repeat(60)]).await.contains("--to"));
    let mut other = config.clone();
    other.kafka_topic += "-other";
    let missing = Replayed::run(&other, &[]).await;
    assert!(missing.said.contains("doesn't exist"), "{}", missing.said);

    delete_records(config, 3).await;
    assert!(complaint(&["--from", "1:2"]).await.contains("no longer has its records below offset 3"));
    let rest = Replayed::ok(config, &[]).await;
    assert!(rest.said.contains("! the topic no longer has its first records"), "{}", rest.said);
    assert!(rest.lines().iter().any(|line| line["partition"] == 1 && line["offset"] == 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_it_and_a_closed_pipe_only_ends_it() {
    let system = system_with_history().await;
    let mut full = command(&system.config, &["replay"]);
    let full =
        full.stdout(File::options().write(true).open("/dev/full").unwrap()).stderr(Stdio::piped()).spawn().unwrap();
    let full = full.wait_with_output().await.unwrap();
    let said = String::from_utf8(full.stderr).unwrap();
    assert!(full.status.code() == Some(1) && said.contains("writing the output failed: No space left"), "{said}");

    for options in [&["replay"][..], &["replay", "--follow"]] {
        let mut closed = command(&system.config, options);
        let mut closed = closed.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(closed.stdout.take());
        // Nobody appends anything meanwhile.
        let closed = tokio::time::timeout(TIMEOUT, closed.wait_with_output()).await.unwrap().unwrap();
        assert!(closed.status.success(), "{closed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_can_be_seen_as_its_participants_saw_it_at_a_point_of_the_log() {
    let system = System::unlimited().await;
    let conversation = system.conversation("alice", &["bob", "carol"]).await;
    let deleted = system.message("alice", &conversation, "deleted later").await;
    let edited = system.message("bob", &conversation, "hi @carol").await;
    system.react("carol", &edited, "👍").await;
    let marked = system.mark_read("carol", &conversation, Some(&deleted)).await;
    let messages = format!("/api/messages?conversationId={conversation}");
    let page = system.get_after(&marked, "carol", &messages).await;
    let token = page.header("messages-position").to_owned();
    let single = system.get_after(&marked, "carol", &format!("/api/conversations/{conversation}")).await;

    system.edit("bob", &edited, "ho").await;
    system.delete("alice", &deleted).await;
    let sent = system.send("carol", &conversation, "new").await;
    let later = system.get_after(&sent, "carol", &messages).await;

    let fold = async |options: &[&str]| {
        let options = [&["--fold", "--conversation", &conversation], options].concat();
        Replayed::ok(&system.config, &options).await.lines()
    };
    let of_kind = |lines: &[Value], kind: &str, part: &str| -> Vec<Value> {
        lines.iter().filter(|line| line["kind"] == kind).map(|line| line[part].clone()).collect()
    };
    let newest_first = |page: &Value| page.as_array().unwrap().iter().rev().cloned().collect::<Vec<_>>();
    let then = fold(&["--to", &token]).await;
    assert_eq!(of_kind(&then, "message", "value"), newest_first(&page.body["data"]));
    let marks = of_kind(&then, "readMark", "value");
    let seen = &single.body["data"];
    for (mark, participant) in marks.iter().zip(seen["participants"].as_array().unwrap()) {
        for field in ["userId", "lastReadSeq", "lastReadAt"] {
            assert_eq!(mark[field], participant[field], "{mark}");
        }
    }
    assert_eq!((marks.len(), &marks[2]["unreadCount"]), (3, &seen["unreadCount"]));
    let shown = &of_kind(&then, "conversation", "value")[0];
    for field in ["id", "type", "title", "participantCount", "createdAt", "updatedAt", "position"] {
        assert_eq!(shown[field], seen[field], "{field}");
    }

    let now = fold(&[]).await;
    assert_eq!(of_kind(&now, "message", "value"), newest_first(&later.body["data"]));
    let differing = fold(&["--from", &token]).await;
    assert_eq!(
        of_kind(&differing, "message", "before"),
        [&newest_first(&page.body["data"])[..], &[Value::Null]].concat()
    );
    assert_eq!(of_kind(&differing, "message", "after"), newest_first(&later.body["data"]));
    assert_eq!(
        of_kind(&differing, "readMark", "after").len(),
        3,
        "carol's moved, and the others have one more to read"
    );

    let unknown = Replayed::run(&system.config, &["--fold", "--conversation", &unknown_id()]).await;
    assert!(unknown.code == Some(1) && unknown.said.contains("there is no conversation"), "{}", unknown.said);
}
