//! The OpenAPI document says what the API does: no more, and no less.

use std::path::{Path, PathBuf};

use messages::process::Roles;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::System;
use crate::harness::system::{config, unlimited};

#[tokio::test(flavor = "multi_thread")]
async fn every_process_serves_the_whole_document() {
    let system = System::start().await;
    let whole = system.request("GET", "/openapi.json").send().await;
    assert_eq!((whole.status, &whole.body["openapi"]), (200, &json!("3.1.0")));
    for path in
        ["/api/messages", "/api/messages/{messageId}", "/api/messages/sync", "/api/conversations/{id}", "/readyz"]
    {
        assert!(whole.body["paths"][path].is_object(), "{path}");
    }
    let mut config = config();
    config.query_api_url = Some(system.url.clone());
    for roles in [Roles::COMMAND_API, Roles::QUERY_API, Roles::REALTIME, Roles::PROJECTOR] {
        let process = System::with_roles(config.clone(), roles).await;
        assert_eq!(process.request("GET", "/openapi.json").send().await.body, whole.body, "{roles}");
    }
}

/// A method that a path doesn't have, and those that it has.
struct WrongMethod {
    method: &'static str,
    path: &'static str,
    allowed: &'static str,
}

const WRONG_METHODS: [WrongMethod; 5] = [
    WrongMethod { method: "PUT", path: "/api/messages", allowed: "GET,HEAD,POST" },
    WrongMethod { method: "POST", path: "/api/messages/sync", allowed: "GET,HEAD" },
    WrongMethod { method: "PATCH", path: "/api/messages/sync", allowed: "GET,HEAD" },
    WrongMethod {
        method: "POST",
        path: "/api/messages/0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a47",
        allowed: "GET,HEAD,PATCH,DELETE",
    },
    WrongMethod {
        method: "DELETE",
        path: "/api/conversations/0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a47",
        allowed: "GET,HEAD",
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn every_process_tells_a_wrong_method_from_a_wrong_path() {
    let config = config();
    for roles in [Roles::ALL, Roles::COMMAND_API, Roles::QUERY_API] {
        let system = System::with_roles(config.clone(), roles).await;
        for WrongMethod { method, path, allowed } in WRONG_METHODS {
            let answer = system.ask("alice", method, path).send().await;
            answer.assert_problem(405, "method_not_allowed");
            assert_eq!(answer.header("allow"), allowed, "{roles}: {method} {path}");
        }
        system.ask("alice", "PUT", "/api/message").send().await.assert_problem(404, "no_such_route");
    }
}

/// schemathesis makes up its requests from the document. With ids of things that exist, it also sees successful
/// answers; next to other tests, the projector may be too busy to have these things in time.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the machine for itself: cargo test --workspace --test it -- --ignored --skip proof:: --test-threads 1"]
async fn schemathesis_finds_no_5xx_and_no_answer_outside_the_schema() {
    let system = System::with(unlimited).await;
    schemathesis(&system, "made-up", "", &["--exclude-path", "/internal/memberships"]).await;

    let conversation = system.conversation("alice", &["bob", "carol"]).await;
    let message = system.message("alice", &conversation, "hi @bob").await;
    let reaction = json!({"action": "reaction", "messageId": message, "emoji": "👍", "reaction": "fine"});
    let last = system.post("bob", reaction).await;
    system.wait_until_published(&last).await;
    let settings = settings_for_ids(&conversation, &message);
    schemathesis(&system, "known", &settings, &["--phases", "examples,fuzzing", "--include-path-regex", "^/api/"])
        .await;
}

/// Settings with which every request names this conversation or this message.
fn settings_for_ids(conversation: &str, message: &str) -> String {
    format!(
        "[[operations]]
         include-path = \"/api/messages/{{messageId}}\"
         parameters = {{\"path.messageId\" = \"{message}\"}}
         [[operations]]
         include-path = \"/api/conversations/{{id}}\"
         parameters = {{\"path.id\" = \"{conversation}\"}}
         [[operations]]
         include-path = \"/api/messages\"
         include-method = \"GET\"
         parameters = {{\"query.conversationId\" = \"{conversation}\"}}
        "
    )
}

/// A schema can't say which positions, tokens, cursors and emoji are valid: the API refuses those that schemathesis
/// makes up.
const SETTINGS: &str = "[checks.positive_data_acceptance]\n\
    expected-statuses = [\"2xx\", \"3xx\", \"400\", \"401\", \"403\", \"404\", \"409\", \"422\"]\n";

async fn schemathesis(system: &System, name: &str, settings: &str, arguments: &[&str]) {
    let folder = create_folder(system, name);
    let settings_file = folder.join("schemathesis.toml");
    std::fs::write(&settings_file, format!("{SETTINGS}{settings}")).unwrap();
    let mut run = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("py/.venv/bin/schemathesis"));
    run.current_dir(&folder)
        .arg("--config-file")
        .arg(&settings_file)
        .args(["--no-color", "run", &format!("{}/openapi.json", system.url)])
        .args(["--max-examples", "20", "--seed", "1", "--generation-database", "none", "--continue-on-failure"])
        .args(["-H", &format!("Authorization: Bearer {}", system.token("alice"))])
        .args(arguments)
        .kill_on_drop(true);
    let output = run.output().await.expect("schemathesis can't be started; `make test` installs what it needs");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.contains("passed"), "{printed}");
}

/// Creates a folder for the files of one run.
fn create_folder(system: &System, name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("messages-{}-{name}", system.config.redis_prefix));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_every_operation_of_the_document_and_runs_one() {
    let system = System::start().await;
    let document = system.request("GET", "/openapi.json").send().await.body;
    let operations_of = |path: &Value| path.as_object().unwrap().keys().filter(|key| *key != "parameters").count();
    let operations: usize = document["paths"].as_object().unwrap().values().map(operations_of).sum();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/js/docs-page.mjs");
    let mut node = Command::new("node");
    node.args([script, &system.url, &system.token("alice")]).kill_on_drop(true);
    let output = node.output().await.expect("node can't be started; `make test` installs what it needs");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(result, json!({"ok": true, "operations": operations, "status": "200"}), "{result:#}");
}
