//! Many users in a Node process, and the checker that compares everything that was recorded of them with a fold of its
//! own: see `tests/js/checker`. Neither shares code with the product, apart from the client library under test.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::TryStreamExt;
use rdkafka::message::Message;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use uuid::Uuid;

use super::system::{System, eventually};
use super::{log, script};

/// The tables that the checker compares with its fold.
const TABLES: [&str; 6] = ["conversations", "members", "messages", "reactions", "applied_events", "partitions"];

/// How many users a run has, and how many groups and pairs they talk in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowd {
    /// Users of plain HTTP with a socket each.
    pub(crate) sockets: usize,
    /// Users of the client library.
    pub(crate) libraries: usize,
    pub(crate) groups: usize,
}

/// The users of a run.
pub(crate) struct Workload {
    _child: Child,
    stdin: ChildStdin,
    lines: UnboundedReceiver<Value>,
    /// Lines that came while the test waited for others.
    unread: Vec<Value>,
    /// Where everything is recorded.
    pub(crate) folder: PathBuf,
}

/// What the checker found.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) sizes: Value,
    /// The first difference, in words.
    pub(crate) first: Option<String>,
    /// How many differences there are, by what was compared.
    pub(crate) differences: Value,
}

impl Workload {
    /// Connects all users, creates their conversations, and waits until every client has caught up.
    pub(crate) async fn start(system: &System, seed: u64, crowd: Crowd) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("checker-{}", Uuid::now_v7().simple()));
        std::fs::create_dir_all(&folder).unwrap();
        let login = |kind: &str, number: usize| {
            let user = format!("{kind}-{number}");
            json!({"user": user, "token": system.token(&user), "kind": kind})
        };
        let sockets = (0..crowd.sockets).map(|number| login("socket", number));
        let users: Vec<Value> = sockets.chain((0..crowd.libraries).map(|number| login("library", number))).collect();
        let (child, stdin, mut printed) = script::start("checker/run.mjs");
        let (sender, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = printed.next_line().await {
                let _ = sender.send(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        let mut workload = Self { _child: child, stdin, lines, unread: Vec::new(), folder: folder.clone() };
        let groups = crowd.groups;
        let order = json!({"url": system.url, "folder": folder, "seed": seed, "users": users, "groups": groups});
        workload.order(order).await;
        workload.wait_for("ready", Duration::from_secs(60)).await;
        workload
    }

    /// Gives the users an order; see `tests/js/checker/run.mjs`.
    pub(crate) async fn order(&mut self, order: Value) {
        self.stdin.write_all(format!("{order}\n").as_bytes()).await.unwrap();
    }

    /// Waits for a line of this kind.
    pub(crate) async fn wait_for(&mut self, kind: &str, timeout: Duration) -> Value {
        if let Some(index) = self.unread.iter().position(|line| line["at"] == kind) {
            return self.unread.remove(index);
        }
        let deadline = tokio::time::Instant::now() + timeout;
        loop {
            let line = tokio::time::timeout_at(deadline, self.lines.recv()).await;
            let line =
                line.unwrap_or_else(|_| panic!("the users never said {kind}")).expect("the users' process ended");
            assert_ne!(line["at"], "failed", "{line}");
            if line["at"] == kind {
                return line;
            }
            self.unread.push(line);
        }
    }

    /// Gives an order and waits for its answer.
    pub(crate) async fn ask(&mut self, order: Value, kind: &str, timeout: Duration) -> Value {
        self.order(order).await;
        self.wait_for(kind, timeout).await
    }

    /// Records the topic, the read model and every answer, and checks the run until the clients have caught up, too.
    /// `brokers` and `sql` reach the services without a proxy.
    pub(crate) async fn check(&mut self, system: &System, brokers: &str, sql: &PgPool) -> Verdict {
        self.record_log(system, brokers, sql).await;
        record_tables(&self.folder, sql).await;
        self.ask(json!({"do": "answers"}), "answers", Duration::from_secs(900)).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            self.ask(json!({"do": "clients"}), "clients", Duration::from_secs(60)).await;
            let verdict = check(&self.folder).await;
            let only_clients = verdict.first.as_ref().is_some_and(|first| first.starts_with("clients: "));
            if !only_clients || tokio::time::Instant::now() > deadline {
                return verdict;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Writes the topic's records, and waits until the read model includes them.
    async fn record_log(&self, system: &System, brokers: &str, sql: &PgPool) {
        let path = self.folder.join("log.jsonl");
        let (brokers, topic) = (brokers.to_owned(), system.config.kafka_topic.clone());
        let ends = tokio::task::spawn_blocking(move || {
            let mut file = BufWriter::new(File::create(path).unwrap());
            let mut ends = std::collections::BTreeMap::new();
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            log::read(&brokers, &topic, |record| {
                let (partition, offset) = (record.partition(), record.offset());
                ends.insert(partition, offset);
                let (key, value) = (text(record.key()), text(record.payload()));
                let line = json!({"partition": partition, "offset": offset, "key": key, "value": value});
                writeln!(file, "{line}").unwrap();
            });
            file.flush().unwrap();
            ends
        });
        let partitions = format!("SELECT next_offset FROM {}.partitions WHERE partition = $1", live_schema(sql).await);
        for (partition, last) in ends.await.unwrap() {
            eventually("the log is folded", async || {
                let query = sqlx::query_scalar(sqlx::AssertSqlSafe(partitions.as_str()));
                let next: Option<i64> = query.bind(partition).fetch_optional(sql).await.unwrap();
                next.filter(|next| *next > last)
            })
            .await;
        }
    }

    /// Deletes what was recorded. A failed test keeps it.
    pub(crate) fn forget(self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// The schema of the rows that are in use. A rebuild makes them in another one than the one before.
async fn live_schema(sql: &PgPool) -> String {
    let live = sqlx::query_scalar("SELECT coalesce(rows_schema, current_schema()) FROM projection");
    live.fetch_one(sql).await.unwrap()
}

/// Writes the rows of the read model.
pub(crate) async fn record_tables(folder: &Path, sql: &PgPool) {
    let schema = live_schema(sql).await;
    for table in TABLES {
        let mut file = BufWriter::new(File::create(folder.join(format!("{table}.jsonl"))).unwrap());
        let query = format!("SELECT row_to_json(found)::text FROM {schema}.{table} AS found");
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(query));
        let mut rows = query.fetch(sql);
        while let Some(row) = rows.try_next().await.unwrap() {
            let row: String = row;
            writeln!(file, "{row}").unwrap();
        }
        file.flush().unwrap();
    }
}

/// Runs the checker on what was recorded in a folder.
pub(crate) async fn check(folder: &Path) -> Verdict {
    let mut checker = Command::new("node");
    checker.arg("--max-old-space-size=8192").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/js/checker/check.mjs"));
    let output = checker.arg(folder).kill_on_drop(true).output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let verdict: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("the checker failed: {errors}"));
    let first = verdict["first"].as_str().map(str::to_owned);
    assert_eq!(output.status.success(), first.is_none(), "the checker's exit code must say what it found");
    Verdict { sizes: verdict["sizes"].clone(), first, differences: verdict["differences"].clone() }
}
