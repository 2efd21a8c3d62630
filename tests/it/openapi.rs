//! The OpenAPI document says what the API does: no more, and no less.

use std::path::{Path, PathBuf};

use messages::process::Roles;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::System;
use crate::harness::system::{config, unlimited};

#[tokio::test(flavor = "multi_thread")]
async fn every_process_has_the_whole_document() {
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
        let alone = System::with_roles(config.clone(), roles).await;
        assert_eq!(alone.request("GET", "/openapi.json").send().await.body, whole.body, "{roles}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_method_is_told_from_a_wrong_path_whoever_serves_it() {
    let config = config();
    for roles in [Roles::ALL, Roles::COMMAND_API, Roles::QUERY_API] {
        let system = System::with_roles(config.clone(), roles).await;
        for (method, path, allow) in [
            ("PUT", "/api/messages", "GET,HEAD,POST"),
            ("POST", "/api/messages/sync", "GET,HEAD"),
            ("PATCH", "/api/messages/sync", "GET,HEAD"),
            ("POST", "/api/messages/0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a47", "GET,HEAD,PATCH,DELETE"),
            ("DELETE", "/api/conversations/0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a47", "GET,HEAD"),
        ] {
            let answer = system.ask("alice", method, path).send().await;
            answer.assert_problem(405, "method_not_allowed");
            assert_eq!(answer.header("allow"), allow, "{roles}: {method} {path}");
        }
        system.ask("alice", "PUT", "/api/message").send().await.assert_problem(404, "no_such_route");
    }
}

/// What schemathesis makes up, it makes up from the document; with ids that lead somewhere it also gets to see what is
/// there. Beside other tests, the projector may be too busy for what was just made.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the machine for itself: cargo test --workspace --test it -- --ignored --test-threads 1"]
async fn schemathesis_finds_no_5xx_and_no_answer_outside_the_schema() {
    let system = System::with(unlimited).await;
    schemathesis(&system, "made-up", "", &["--exclude-path", "/internal/memberships"]).await;
    let conversation = system.conversation("alice", &["bob", "carol"]).await;
    let message = system.message("alice", &conversation, "hi @bob").await;
    let react = json!({"action": "reaction", "messageId": message, "emoji": "👍", "reaction": "fine"});
    let last = system.post("bob", react).await;
    system.wait_until_published(&last).await;
    let ids = format!(
        "[[operations]]\ninclude-path = \"/api/messages/{{messageId}}\"\nparameters = {{\"path.messageId\" = \"{message}\"}}\n\
         [[operations]]\ninclude-path = \"/api/conversations/{{id}}\"\nparameters = {{\"path.id\" = \"{conversation}\"}}\n\
         [[operations]]\ninclude-path = \"/api/messages\"\ninclude-method = \"GET\"\n\
         parameters = {{\"query.conversationId\" = \"{conversation}\"}}\n"
    );
    schemathesis(&system, "known", &ids, &["--phases", "examples,fuzzing", "--include-path-regex", "^/api/"]).await;
}

/// Positions, tokens, cursors and emoji are texts of which a schema can't say which are good: those that it makes up are
/// refused.
const SETTINGS: &str = "[checks.positive_data_acceptance]\n\
    expected-statuses = [\"2xx\", \"3xx\", \"400\", \"401\", \"403\", \"404\", \"409\", \"422\"]\n";

async fn schemathesis(system: &System, name: &str, settings: &str, arguments: &[&str]) {
    let folder = folder(system, name);
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
    let ended = run.output().await.expect("schemathesis can't be started; `make test` installs what it needs");
    let printed = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{printed}\n{}", String::from_utf8_lossy(&ended.stderr));
    assert!(printed.contains("passed"), "{printed}");
}

fn folder(system: &System, name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("messages-{}-{name}", system.config.redis_prefix));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_can_be_read_in_a_browser() {
    let system = System::start().await;
    let document = system.request("GET", "/openapi.json").send().await.body;
    let operations = |item: &Value| item.as_object().unwrap().keys().filter(|key| *key != "parameters").count();
    let count: usize = document["paths"].as_object().unwrap().values().map(operations).sum();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/js/docs-page.mjs");
    let mut node = Command::new("node");
    node.args([script, &system.url, &system.token("alice")]).kill_on_drop(true);
    let ended = node.output().await.expect("node can't be started; `make test` installs what it needs");
    let result: Value = serde_json::from_slice(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    assert_eq!(result, json!({"ok": true, "operations": count, "status": "200"}), "{result:#}");
}
