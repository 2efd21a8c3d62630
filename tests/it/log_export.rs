//! `messages replay --folder`: every record of the log is in the folder's files, and each in one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use domain::EventData;
use domain::testing::{Rng, random_history};
use serde_json::{Value, json};
use service::config::Config;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::harness::log::{self, NewRecord, Record};
use crate::harness::process::command;
use crate::harness::system::TIMEOUT;
use crate::harness::{System, eventually};
use crate::log_replay::Replayed;
use crate::open_transaction::{HELD, OpenTransaction};
use crate::topic::replace_topic;
use crate::verify::system_with_history;

/// The options of an export whose files are small.
pub(crate) const SMALL_FILES: [&str; 4] = ["--format", "parquet", "--file-records", "40"];

/// A folder, and what is to be exported into it.
struct Folder {
    directory: TempDir,
    config: Config,
}

impl Folder {
    fn new(config: &Config) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), config: config.clone() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn options<'a>(&'a self, others: &[&'a str]) -> Vec<&'a str> {
        [&["--folder", self.path().to_str().unwrap()], others].concat()
    }

    async fn export(&self, options: &[&str]) -> Replayed {
        Replayed::ok(&self.config, &self.options(options)).await
    }

    /// What an export says that must fail.
    async fn refused(&self, options: &[&str]) -> String {
        let replayed = Replayed::run(&self.config, &self.options(options)).await;
        assert_eq!(replayed.code, Some(1), "{options:?}: {}", replayed.said);
        replayed.said
    }

    /// Starts an export that goes on with the one in the folder.
    fn start(&self) -> Child {
        let options = self.options(&[&SMALL_FILES[..], &["--continue"]].concat());
        let mut command = command(&self.config, &[&["replay"], &options[..]].concat());
        command.stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        files(self.path())
    }

    fn done(&self) -> BTreeMap<String, Vec<u8>> {
        done(self.path())
    }

    /// What DuckDB answers, with the views of the export.
    async fn query(&self, sql: &str) -> Vec<Value> {
        duckdb(self.path(), sql).await
    }
}

/// The names and contents of a folder's files, but not the temporary ones.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| !name.starts_with('.'));
    names.map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect()
}

/// The files of the runs that are done, as their documents describe them. Checks that they are so.
pub(crate) fn done(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let all = files(folder);
    let mut done = BTreeMap::new();
    for (_, document) in all.iter().filter(|(name, _)| name.starts_with("done_")) {
        let document: Value = serde_json::from_slice(document).unwrap();
        for file in document["files"].as_array().unwrap() {
            let name = file["name"].as_str().unwrap().to_owned();
            let content = all.get(&name).unwrap_or_else(|| panic!("{name} is missing")).clone();
            assert_eq!(file["bytes"], content.len(), "{name}");
            assert_eq!(file["sha256"].as_str().unwrap(), sha256(&content), "{name}");
            done.insert(name, content);
        }
    }
    done
}

/// Asserts that every record of the log is in a folder's files once, by its place.
pub(crate) async fn assert_complete(folder: &Path, records: &[Record]) {
    assert_eq!(duckdb(folder, "FROM holes_and_repeats").await, Vec::<Value>::new());
    let found = duckdb(folder, r#"SELECT partition, "offset" FROM records ORDER BY ALL"#).await;
    let place = |record: &Record| json!({"partition": record.partition, "offset": record.offset});
    assert_eq!(found, records.iter().map(place).collect::<Vec<_>>());
}

fn sha256(content: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What DuckDB answers in a folder.
pub(crate) async fn duckdb(folder: &Path, sql: &str) -> Vec<Value> {
    let python = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("py");
    let mut child = Command::new(python.join(".venv/bin/python"))
        .arg(python.join("duckdb_rows.py"))
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python can't be started; `make test` installs what it needs");
    child.stdin.take().unwrap().write_all(sql.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How many records kcat reads of each partition.
async fn counted_by_kcat(config: &Config) -> Vec<usize> {
    let options = ["-b", &config.kafka_brokers, "-t", &config.kafka_topic, "-C", "-o", "beginning", "-e", "-q"];
    let read = Command::new("kcat").args(options).args(["-f", "%p\n"]).output().await;
    let read = read.expect("kcat can't be started; `make test` installs it");
    let mut counts = vec![0; usize::try_from(config.kafka_partitions).unwrap()];
    for partition in String::from_utf8(read.stdout).unwrap().lines() {
        counts[partition.parse::<usize>().unwrap()] += 1;
    }
    counts
}

/// A record as the table must have it, without the reason why it is no event.
fn expected_row(record: &Record) -> Value {
    let (event, data) = (&record.value, &record.value["data"]);
    let is_event = !event["eventId"].is_null();
    let time = domain::Timestamp::from_millis(record.timestamp_ms).unwrap();
    // What an event of another type doesn't have is null, and so is a list.
    let of = |types: &[&str], value: &Value| {
        if types.iter().any(|it| event["type"] == *it) { value.clone() } else { Value::Null }
    };
    let or = |value: &Value, default: Value| if value.is_null() { default } else { value.clone() };
    let attachments: Vec<Value> = data["attachments"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|it| json!({"url": it["url"], "name": it["name"], "mime_type": it["mimeType"], "size": it["size"]}))
        .collect();
    let created = ["CONVERSATION_CREATED"];
    let texts = ["MESSAGE_SENT", "MESSAGE_EDITED"];
    json!({
        "partition": record.partition, "offset": record.offset, "logged_at": time,
        "occurred_at": event["occurredAt"], "type": event["type"], "event_id": event["eventId"],
        "conversation_id": event["conversationId"], "actor_id": event["actorId"], "message_id": data["messageId"],
        "content": of(&texts, &or(&data["content"], json!(""))),
        "message_type": of(&["MESSAGE_SENT"], &or(&data["messageType"], json!("TEXT"))),
        "attachments": of(&["MESSAGE_SENT"], &json!(attachments)),
        "mentions": of(&texts, &or(&data["mentions"], json!([]))),
        "reply_to_id": data["replyToId"], "conversation_type": of(&created, &data["type"]), "title": data["title"],
        "participant_ids": of(&created, &data["participantIds"]), "emoji": data["emoji"], "label": data["label"],
        "user_id": data["userId"], "idempotency_key": event["idempotencyKey"], "request_hash": event["requestHash"],
        "key": if is_event { Value::Null } else { json!(record.key) },
        "value": if is_event { Value::Null } else { json!(String::from_utf8_lossy(&record.bytes)) },
    })
}

/// What an idempotency key of an event belongs to. Typing and notifications use up none.
fn scoped_key(event: &Value) -> (String, bool) {
    let uses_key = !["TYPING_START", "TYPING_STOP", "MENTION_NOTIFICATION"].iter().any(|it| event["type"] == *it);
    (json!([event["conversationId"], event["actorId"], event["idempotencyKey"]]).to_string(), uses_key)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parquet_export_has_every_record_in_typed_columns_and_a_view_for_each_type() {
    let system = system_with_history().await;
    let folder = Folder::new(&system.config);
    let said = folder.export(&["--format", "parquet", "--file-records", "300"]).await.said;
    let records = system.records().await;
    assert!(said.contains(&format!("records in them: {}", records.len())), "{said}");
    assert_complete(folder.path(), &records).await;
    let mut rows = folder.query(r#"FROM records ORDER BY partition, "offset""#).await;
    for row in &mut rows {
        let error = row.as_object_mut().unwrap().remove("error").unwrap();
        assert_eq!(error.is_null(), !row["event_id"].is_null(), "{row}");
    }
    assert_eq!(rows, records.iter().map(expected_row).collect::<Vec<_>>());

    let (mut events, mut keys) = (BTreeSet::new(), BTreeSet::new());
    let mut counts = BTreeMap::<&str, usize>::new();
    for record in &records {
        if let (Some(id), Some(name)) = (record.value["eventId"].as_str(), record.value["type"].as_str())
            && events.insert((record.key.clone(), id))
            && (record.value["idempotencyKey"].is_null() || keys.insert(scoped_key(&record.value)))
        {
            *counts.entry(name).or_default() += 1;
        }
    }
    for name in EventData::TYPE_NAMES {
        let found = folder.query(&format!("SELECT count(*) AS count FROM {}", name.to_lowercase())).await;
        assert_eq!(found[0]["count"], counts.get(name).copied().unwrap_or(0), "{name}");
    }

    // Some readers take the elements of lists by no other name.
    let names = "SELECT DISTINCT name FROM parquet_schema('p*.parquet') WHERE name IN ('item', 'array', 'element')";
    assert_eq!(folder.query(names).await, [json!({"name": "element"})]);

    // Somewhere else, the same part of the log gives the same files.
    let other = Folder::new(&system.config);
    other.export(&["--format", "parquet", "--file-records", "300"]).await;
    assert_eq!(other.files(), folder.files());
    let standard = Replayed::bytes(&system.config, &["--format", "parquet"]).await;
    fs::write(other.path().join("all.parquet"), standard).unwrap();
    let count = duckdb(other.path(), "SELECT count(*) AS count FROM 'all.parquet'").await;
    assert_eq!(count[0]["count"], records.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_go_on_where_the_last_one_ended_in_every_form() {
    let system = system_with_history().await;
    for format in ["jsonl", "csv", "parquet"] {
        let folder = Folder::new(&system.config);
        let options = ["--format", format, "--file-records", "100"];
        folder.export(&[&options[..], &["--to", "0:150,1:7"]].concat()).await;
        let first = folder.done();
        let held_back: usize = first.len();
        folder.export(&[&options[..], &["--continue"]].concat()).await;
        let done = folder.done();
        assert!(first.iter().all(|(name, content)| done.get(name) == Some(content)) && done.len() > held_back);
        let again = folder.export(&[&options[..], &["--continue"]].concat()).await;
        assert!(again.said.contains("✓ the export has everything"), "{}", again.said);
        let rows = match format {
            "jsonl" => {
                "SELECT count(*) AS count FROM read_text('p*.jsonl'), unnest(string_split(rtrim(content, chr(10)), chr(10)))"
            }
            "csv" => "SELECT count(*) AS count FROM read_csv('p*.csv', all_varchar = true, header = true)",
            _ => "SELECT count(*) AS count FROM 'p*.parquet'",
        };
        // A file without records is an empty text, which counts as a line.
        let empty = done.values().filter(|content| content.is_empty()).count();
        let count = duckdb(folder.path(), rows).await;
        assert_eq!(count[0]["count"], system.records().await.len() + empty, "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_that_are_killed_beside_another_writer_leave_no_hole_and_no_repeat() {
    let system = system_with_history().await;
    let folder = Folder::new(&system.config);
    let mut rng = Rng::new(21);
    let mut done = BTreeMap::new();
    let mut finished = 0;
    for round in 0..10 {
        let history = random_history(100 + round, 200);
        log::append(&system.config, &history.iter().map(NewRecord::event).collect::<Vec<_>>()).await;
        let (mut killed, other) = (folder.start(), folder.start());
        let target = folder.files().len() + 1 + rng.below(8);
        eventually("some files are written", async || {
            let has_ended = killed.try_wait().unwrap().is_some();
            (has_ended || folder.files().len() >= target).then_some(())
        })
        .await;
        finished += usize::from(killed.try_wait().unwrap().is_some());
        killed.kill().await.unwrap();
        if rng.percent(50) {
            let other = other.wait_with_output().await.unwrap();
            assert!(other.status.success(), "{}", String::from_utf8_lossy(&other.stderr));
        }
        let now = folder.done();
        assert!(done.iter().all(|(name, content)| now.get(name) == Some(content)), "a finished file has changed");
        done = now;
    }
    assert!(finished < 10, "every export ended before it was killed");
    folder.export(&[&SMALL_FILES[..], &["--continue"]].concat()).await;
    assert_complete(folder.path(), &system.records().await).await;
    let counts = folder.query("SELECT count(*) AS count FROM records GROUP BY partition ORDER BY partition").await;
    let counts: Vec<usize> =
        counts.iter().map(|row| usize::try_from(row["count"].as_u64().unwrap()).unwrap()).collect();
    assert_eq!(counts, counted_by_kcat(&system.config).await);
    let now = folder.done();
    assert!(done.iter().all(|(name, content)| now.get(name) == Some(content)), "a finished file has changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_belongs_to_one_export() {
    let system = system_with_history().await;
    let folder = Folder::new(&system.config);
    folder.export(&SMALL_FILES).await;
    let before = folder.files();
    let other = async |options: &[&str]| folder.refused(&[options, &["--continue"]].concat()).await;
    assert!(folder.refused(&SMALL_FILES).await.contains("to go on with it, add --continue"));
    assert!(other(&["--format", "csv", "--file-records", "40"]).await.contains("its format is \"parquet\""));
    assert!(other(&["--format", "parquet"]).await.contains("its fileRecords is 40"));
    assert!(other(&[&SMALL_FILES[..], &["--type", "MESSAGE_SENT"]].concat()).await.contains("its filter is"));
    assert!(other(&[&SMALL_FILES[..], &["--without", "content"]].concat()).await.contains("its content is \"kept\""));

    let strange = Folder::new(&system.config);
    fs::write(strange.path().join("thesis.txt"), "mine").unwrap();
    assert!(strange.refused(&SMALL_FILES).await.contains("choose an empty folder"));
    assert_eq!(strange.files().len(), 1);

    fs::write(folder.path().join("plan_000002.json"), "{").unwrap();
    assert!(other(&SMALL_FILES).await.contains("plan_000002.json isn't a document of an export"));
    fs::remove_file(folder.path().join("plan_000002.json")).unwrap();

    replace_topic(&system.config).await;
    let said = other(&SMALL_FILES).await;
    assert!(said.contains("the topic was deleted and created again"), "{said}");
    assert_eq!(folder.files(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_ends_a_run_and_control_records_and_empty_partitions_leave_no_hole() {
    let system = System::unlimited().await;
    let conversation = system.conversation("alice", &[&system.peer_on(HELD, "alice", "before")]).await;
    let open = OpenTransaction::begin(&system.config).await;
    system.message("alice", &conversation, "behind").await;
    let folder = Folder::new(&system.config);
    let cut = folder.export(&SMALL_FILES).await;
    assert!(cut.said.contains(&format!("! partition {HELD} ends at offset {}: ", open.offset)), "{}", cut.said);
    let plan: Value = serde_json::from_slice(&folder.files()["plan_000001.json"]).unwrap();
    assert_eq!(plan["held"], json!({HELD.to_string(): open.offset}));
    assert_eq!(folder.query("SELECT type FROM records").await, [json!({"type": "CONVERSATION_CREATED"})]);
    open.abort().await;
    eventually("Kafka gives the records", async || {
        folder.export(&[&SMALL_FILES[..], &["--continue"]].concat()).await;
        (folder.query("FROM records").await.len() == system.records().await.len()).then_some(())
    })
    .await;
    assert_complete(folder.path(), &system.records().await).await;
    assert_eq!(folder.query("SELECT DISTINCT partition FROM files").await.len(), 1, "other partitions are empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_a_run_and_the_next_one_goes_on() {
    let system = system_with_history().await;
    let folder = Folder::new(&system.config);
    let replay = command(&system.config, &[&["replay"], &folder.options(&SMALL_FILES)[..]].concat());
    // A file system of its own, which only these processes see.
    let script = r#"
        mount -t tmpfs -o size=64k full "$0" || exit 9
        "$@" && exit 8
        mount -o remount,size=64m "$0" || exit 7
        "$@" --continue && cp "$0"/* "$COPY"
    "#;
    let copy = Folder::new(&system.config);
    let mut full = Command::new("unshare");
    full.args(["--mount", "--map-root-user", "sh", "-c", script]).arg(folder.path());
    full.arg(replay.as_std().get_program()).args(replay.as_std().get_args());
    full.envs(replay.as_std().get_envs().filter_map(|(name, value)| Some((name, value?)))).env("COPY", copy.path());
    let output = tokio::time::timeout(TIMEOUT, full.output()).await.unwrap().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains("No space left on device") && said.contains("run the same command with --continue"),
        "{said}"
    );
    assert_complete(copy.path(), &system.records().await).await;
}
