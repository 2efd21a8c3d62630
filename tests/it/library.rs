//! The client library: what its users have is what the server has, whatever happens in between.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::Instant;
use uuid::Uuid;

use crate::harness::System;
use crate::harness::process::{ServiceProcess, free_port};
use crate::harness::proxy::Proxy;
use crate::harness::replicas::all;
use crate::harness::repository::{self, text};
use crate::harness::script;
use crate::harness::system::{SECRET, TIMEOUT};

/// Users with a client each, in a Node process: see `tests/js/library.mjs`.
struct Users {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    names: Vec<String>,
}

impl Users {
    /// Connects users to these addresses, in turn.
    async fn start(system: &System, urls: &[&str], names: &[String]) -> Self {
        let (child, stdin, lines) = script::start("library.mjs");
        let login = |(name, url): (&String, &&str)| json!({"user": name, "token": system.token(name), "url": url});
        let users: Vec<Value> = names.iter().zip(urls.iter().cycle()).map(login).collect();
        let mut started = Self { _child: child, stdin, lines, names: names.to_vec() };
        started.order(json!({"users": users})).await;
        started.until("live", names.len()).await;
        started
    }

    async fn order(&mut self, order: Value) {
        self.stdin.write_all(format!("{order}\n").as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> Value {
        let line = tokio::time::timeout(TIMEOUT, self.lines.next_line()).await;
        let line = line.expect("the clients say nothing").unwrap().expect("the clients ended");
        serde_json::from_str(&line).unwrap()
    }

    /// Waits until so many are what the status counts.
    async fn until(&mut self, what: &str, count: usize) {
        let deadline = Instant::now() + 4 * TIMEOUT;
        loop {
            self.order(json!({"do": "status"})).await;
            let status = self.line().await;
            assert_eq!(status["failures"], json!([]), "{status}");
            if status[what] == count {
                return;
            }
            assert!(Instant::now() < deadline, "{what} isn't {count}: {status}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until each user has exactly what the server has for them, and asserts that each was told it once.
    async fn assert_equals_server(&mut self, system: &System) {
        self.until("busy", 0).await;
        self.until("live", self.names.len()).await;
        let deadline = Instant::now() + 2 * TIMEOUT;
        for name in self.names.clone() {
            loop {
                let has = self.dump(&name).await;
                let server = server(system, &name).await;
                let differ = difference(&has, &server);
                if differ.is_none() {
                    assert_eq!(has["wrong"], json!([]), "{name} was told wrongly");
                    break;
                }
                assert!(Instant::now() < deadline, "{name}: {}", differ.unwrap_or_default());
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }

    async fn dump(&mut self, name: &str) -> Value {
        self.order(json!({"do": "dump"})).await;
        let mut found = Value::Null;
        for _ in 0..self.names.len() {
            let dump = self.line().await;
            if dump["user"] == name {
                found = dump;
            }
        }
        found
    }
}

/// What the server has for a user: the list, and each conversation's messages, the oldest first.
async fn server(system: &System, user: &str) -> Value {
    let conversations = all(system, user, "/api/messages?limit=100").await;
    let mut messages = Vec::new();
    for conversation in &conversations {
        let id = conversation["id"].as_str().unwrap();
        let mut of_one = all(system, user, &format!("/api/messages?limit=100&conversationId={id}")).await;
        of_one.reverse();
        messages.extend(of_one);
    }
    json!({"conversations": conversations, "messages": messages})
}

/// The first thing that one has otherwise than the other.
fn difference(has: &Value, server: &Value) -> Option<String> {
    ["conversations", "messages"].into_iter().find_map(|what| {
        let (mine, theirs) = (has[what].as_array().unwrap(), server[what].as_array().unwrap());
        let longest = mine.len().max(theirs.len());
        let differ = (0..longest).find(|i| mine.get(*i) != theirs.get(*i))?;
        Some(format!(
            "{what} {differ} of {} and {} is\n{}\nbut the server has\n{}",
            mine.len(),
            theirs.len(),
            mine.get(differ).unwrap_or(&Value::Null),
            theirs.get(differ).unwrap_or(&Value::Null)
        ))
    })
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("user-{number}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_clients_end_with_the_servers_state_and_are_told_everything_once() {
    let system = Arc::new(System::unlimited().await);
    let (port, other) = (free_port(), free_port());
    let start = |port: u16| ServiceProcess::spawn(port, &system.config, &["all"], &[]);
    let (mut one, mut two) = (start(port), start(other));
    one.ready().await;
    two.ready().await;
    let (near, far) = (Proxy::start(&one.url).await, Proxy::start(&two.url).await);
    let names = names(10);
    let mut users = Users::start(&system, &[&near.url, &far.url], &names).await;
    let everyone: Vec<&str> = names.iter().map(String::as_str).collect();
    let conversations = [
        system.conversation("user-0", &everyone).await,
        system.conversation("user-1", &["user-2"]).await,
        system.conversation("user-3", &["user-0", "user-1", "user-2", "user-4"]).await,
    ];
    users.order(json!({"do": "chat", "conversations": conversations, "seed": 1, "steps": 120})).await;
    for round in 0..3 {
        near.cut();
        tokio::time::sleep(Duration::from_millis(700)).await;
        far.stall();
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        far.restore();
        if round == 1 {
            one.child.kill().await.unwrap();
            one = start(port);
            one.ready().await;
        } else if round == 2 {
            two.stop().await;
            two = start(other);
            two.ready().await;
        }
    }
    users.assert_equals_server(&system).await;
    drop((one, two));
}

/// The library's folder.
const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/typescript");

/// Runs a command of Node's in the library's folder, and gives what it printed.
async fn node(system: &System, arguments: &[&str]) -> String {
    let mut node = Command::new("node");
    node.args(arguments).current_dir(LIBRARY).kill_on_drop(true);
    node.env("MESSAGES_URL", &system.url).env("MESSAGES_SECRET", SECRET);
    let ended = node.output().await.expect("node can't be started; `make test` installs what it needs");
    let printed = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success(), "{printed}{}", String::from_utf8_lossy(&ended.stderr));
    printed
}

#[tokio::test(flavor = "multi_thread")]
async fn its_own_tests_pass() {
    let system = System::start().await;
    let files = repository::files();
    let names = files.iter().filter_map(|file| file.strip_prefix("clients/typescript/"));
    let tests = names.filter(|name| name.ends_with(".test.js"));
    node(&system, &["--test"].into_iter().chain(tests).collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_types_are_those_of_the_document() {
    let system = System::start().await;
    let document = format!("{}/openapi.json", system.url);
    let cli = "node_modules/openapi-typescript/bin/cli.js";
    let generated = node(&system, &[cli, &document, "--alphabetize"]).await;
    let kept = text("clients/typescript/src/openapi.ts");
    assert_eq!(generated.trim(), kept.trim(), "make it anew, as clients/typescript/README.md says");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chat_of_its_readme_works() {
    let system = System::start().await;
    let readme = text("clients/typescript/README.md");
    let chat = readme.split("```js\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert!(chat.lines().count() <= 20, "twenty lines are promised");
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chat-{}", Uuid::now_v7()));
    std::fs::create_dir_all(folder.join("node_modules")).unwrap();
    std::os::unix::fs::symlink(LIBRARY, folder.join("node_modules/messages-client")).unwrap();
    std::fs::write(folder.join("chat.mjs"), chat.replace("http://127.0.0.1:8080", &system.url)).unwrap();
    let mut people = ["alice", "bob"].map(|name| {
        let other = if name == "alice" { "bob" } else { "alice" };
        let mut node = Command::new("node");
        node.args(["chat.mjs", other]).current_dir(&folder).env("MESSAGES_TOKEN", system.token(name));
        node.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = node.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    });
    for (who, says) in [(0, "hello"), (1, "hello to you")] {
        let stdin = people[who].0.stdin.as_mut().unwrap();
        stdin.write_all(format!("{says}\n").as_bytes()).await.unwrap();
        let expected = format!("{}: {says}", ["alice", "bob"][who]);
        for (_, lines) in &mut people {
            let seen = async { while lines.next_line().await.unwrap().expect("the chat ended") != expected {} };
            tokio::time::timeout(TIMEOUT, seen).await.unwrap_or_else(|_| panic!("nobody printed {expected:?}"));
        }
    }
}

/// Runs a program in a folder to its successful end and returns what it printed.
async fn run(folder: &std::path::Path, program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).kill_on_drop(true);
    let output = command.output().await.unwrap_or_else(|error| panic!("{program} can't be started: {error}"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {printed}{}", String::from_utf8_lossy(&output.stderr));
    printed
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_project_installs_the_library_in_one_step() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("install-{}", Uuid::now_v7()));
    for file in repository::files() {
        if let Some(name) = file.strip_prefix("clients/typescript/") {
            let copy = folder.join("library").join(name);
            std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
            std::fs::copy(std::path::Path::new(LIBRARY).join(name), copy).unwrap();
        }
    }
    // The first install finds nothing but the tracked files; the second finds a folder that is built already.
    for project in ["first", "second"].map(|name| folder.join(name)) {
        std::fs::create_dir_all(&project).unwrap();
        run(&project, "npm", &["init", "--yes"]).await;
        run(&project, "npm", &["install", "../library", "--prefer-offline", "--no-audit", "--no-fund"]).await;
        let import = "import { connect } from 'messages-client'; console.log(typeof connect);";
        let printed = run(&project, "node", &["--input-type=module", "--eval", import]).await;
        assert_eq!(printed.trim(), "function");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
