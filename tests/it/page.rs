//! The chat page, in a real browser; and how both pages are served.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::harness::System;
use crate::harness::http::Response;
use crate::harness::process::{ServiceProcess, free_port};
use crate::harness::repository::root;
use crate::harness::system::{config, unlimited};

/// `tests/js/SCRIPT`.
pub(crate) fn node(name: &str) -> Command {
    let mut node = Command::new("node");
    node.arg(format!("{}/js/{name}", env!("CARGO_MANIFEST_DIR"))).kill_on_drop(true);
    node
}

/// A script with two users of a system.
fn script(name: &str, system: &System) -> Command {
    script_of(name, system, ["alice", "bob"])
}

fn script_of(name: &str, system: &System, users: [&str; 2]) -> Command {
    let mut node = node(name);
    node.arg(&system.url).args(users.map(|user| system.token(user))).args(users);
    node
}

/// Signs in on the page of a system in every way that there is.
async fn sign_in(system: &System, environment: &str) {
    let mut node = node("page-sign-in.mjs");
    node.args([&system.url, environment, &system.token("carol"), "carol"]);
    well(node).await;
}

/// Runs a script to its end: it says that all is well.
pub(crate) async fn well(mut node: Command) {
    let ended = node.output().await.expect("node can't be started; `make test` installs what it needs");
    let printed = String::from_utf8_lossy(&ended.stdout);
    let result: Value = serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{ended:?}"));
    assert_eq!(result, json!({"ok": true}), "{result:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_chat_in_two_browser_windows() {
    let system = System::unlimited().await;
    well(script("two-windows.mjs", &system)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_for_keyboards_phones_and_screen_readers() {
    let system = System::unlimited().await;
    well(script("page-accessibility.mjs", &system)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_others_neither_reorder_the_page_nor_split_a_reaction() {
    let system = System::unlimited().await;
    well(script_of("page-texts.mjs", &system, ["alice", "\u{5d3}\u{5e0}\u{5d9}"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_outlives_a_network_and_a_server_that_go() {
    let mut config = config();
    unlimited(&mut config);
    let port = free_port();
    let mut server = Some(ServiceProcess::spawn(port, &config, &["all"], &[]));
    server.as_mut().unwrap().ready().await;
    let system = System::attach(config.clone(), &format!("http://127.0.0.1:{port}"));
    let mut node = script("page-offline.mjs", &system).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut orders = node.stdin.take().unwrap();
    let mut lines = BufReader::new(node.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        let said: Value = serde_json::from_str(&line).unwrap();
        match said["please"].as_str() {
            Some("stop") => drop(server.take().unwrap().stop().await),
            Some("start") => {
                let again = server.insert(ServiceProcess::spawn(port, &config, &["all"], &[]));
                again.ready().await;
            }
            _ => {
                assert_eq!(said, json!({"ok": true}), "{said:#}");
                return;
            }
        }
        orders.write_all(b"done\n").await.unwrap();
    }
    panic!("it ended without a word");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_are_typed() {
    let mut node = Command::new("node");
    node.args(["tests/js/node_modules/typescript/bin/tsc", "-p", "web"]).current_dir(root());
    let checked = node.output().await.expect("node can't be started; `make test` installs what it needs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

/// The URL path of a module that another one imports by a relative path.
fn imported(importer: &str, import: &str) -> String {
    let mut path: Vec<&str> = importer.split('/').collect();
    path.pop();
    for part in import.split('/') {
        match part {
            "." => {}
            ".." => assert!(path.pop().is_some(), "{importer} imports {import}"),
            part => path.push(part),
        }
    }
    path.join("/")
}

/// A page and every file that it names, among which is every module.
async fn page_and_files(system: &System, path: &str) -> Vec<(String, Response)> {
    let page = system.request("GET", path).send().await;
    let html = page.body.as_str().unwrap().to_owned();
    let mut answers = vec![(path.to_owned(), page)];
    for name in html.split('"').filter(|part| part.starts_with("/web/")) {
        if answers.iter().all(|(known, _)| known != name) {
            answers.push((name.to_owned(), system.request("GET", name).send().await));
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_and_their_files_are_served_with_a_strict_policy() {
    const CHAT_FILES: [&str; 6] = [
        "/web/app.js",
        "/web/conversation-view.js",
        "/web/client/index.js",
        "/web/client/store.js",
        "/web/style.css",
        "/web/vendor/socket.io.esm.min.js",
    ];
    const ADMIN_FILES: [&str; 5] =
        ["/web/admin/app.js", "/web/admin/plot.js", "/web/admin/layout.css", "/web/dom.js", "/web/style.css"];
    let system = System::start().await;
    for (path, needed) in [("/", CHAT_FILES.as_slice()), ("/admin", ADMIN_FILES.as_slice())] {
        let answers = page_and_files(&system, path).await;
        let served: Vec<&str> = answers.iter().map(|(name, _)| name.as_str()).collect();
        assert!(needed.iter().all(|file| served.contains(file)), "{served:?}");
        for (name, answer) in &answers {
            let kind = match name.rsplit_once('.') {
                Some((_, "js")) => "text/javascript; charset=utf-8",
                Some((_, "css")) => "text/css; charset=utf-8",
                Some((_, "svg")) => "image/svg+xml",
                _ => "text/html; charset=utf-8",
            };
            assert_eq!((answer.status, answer.header("content-type")), (200, kind), "{name}");
            let policy = answer.header("content-security-policy");
            for rule in ["default-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"] {
                assert!(policy.contains(rule), "{name}: {policy}");
            }
            assert!(!policy.contains("unsafe"), "{name}: {policy}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{name}");
            assert_eq!(answer.header("referrer-policy"), "no-referrer", "{name}: its address may hold a token");
            // Every module that one imports is there, and preloaded.
            for module in answer.body.as_str().unwrap_or_default().split(['"', '\'']).filter(|it| it.ends_with(".js")) {
                if module.starts_with('.') {
                    assert!(served.contains(&imported(name, module).as_str()), "{name} imports {module}");
                }
            }
        }
    }
    for path in
        ["/web/", "/web/nothing.js", "/web/app.ts", "/web/../Cargo.toml", "/web/%2e%2e/Cargo.toml", "/web/vendor/"]
    {
        assert_eq!(system.request("GET", path).send().await.status, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_known_already_is_not_sent_again() {
    let system = System::start().await;
    let first = system.request("GET", "/web/app.js").send().await;
    let again = system.request("GET", "/web/app.js").header("If-None-Match", first.header("etag"));
    assert_eq!(again.send().await.status, 304);
    let other = system.request("GET", "/web/app.js").header("If-None-Match", "\"other\"");
    assert_eq!(other.send().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn development_gives_a_token_to_anyone_and_production_to_nobody() {
    let ask = |system: &System, body: Value| system.request("POST", "/development/token").json(&body);
    let config = config();
    let development = ServiceProcess::with(&config, &["all"], &[("MESSAGES_ENV", "development")]).await;
    let system = System::attach(config.clone(), &development.url);
    assert!(system.request("GET", "/").send().await.body.as_str().unwrap().contains("data-development"));
    let given = ask(&system, json!({"user": "Zoë-7"})).send().await;
    assert_eq!((given.status, given.header("cache-control")), (200, "no-store"), "{given:?}");
    let token = given.data()["token"].as_str().unwrap();
    assert_eq!(system.auth.authenticate(token).unwrap().user.to_string(), "Zoë-7");
    assert_eq!(system.get_with(token, "/api/messages").await.status, 200);
    for wrong in [json!({}), json!({"user": 1}), json!({"user": ""}), json!({"user": "two words"})] {
        let refused = ask(&system, wrong.clone()).send().await;
        assert_eq!(
            (refused.status, &refused.body["errors"][0]["field"]),
            (422, &json!("user")),
            "{wrong}: {refused:?}"
        );
    }
    let given = ask(&system, json!({"user": "root", "role": "admin"})).send().await;
    let admin = given.data()["token"].as_str().unwrap();
    assert_eq!(system.get_with(admin, "/admin/api/audit").await.status, 200);
    let refused = ask(&system, json!({"user": "root", "role": "boss"})).send().await;
    assert_eq!((refused.status, &refused.body["errors"][0]["field"]), (422, &json!("role")), "{refused:?}");
    assert!(system.request("GET", "/admin").send().await.body.as_str().unwrap().contains("data-development"));
    sign_in(&system, "development").await;
    development.stop().await;

    let production = ServiceProcess::start(&config, &["all"]).await;
    let system = System::attach(config.clone(), &production.url);
    assert!(!system.request("GET", "/").send().await.body.as_str().unwrap().contains("data-development"));
    assert!(!system.request("GET", "/admin").send().await.body.as_str().unwrap().contains("data-development"));
    let refused = ask(&system, json!({"user": "alice"})).send().await;
    assert_eq!((refused.status, &refused.body["code"]), (404, &json!("no_such_route")), "{refused:?}");
    sign_in(&system, "production").await;
    production.stop().await;

    // A single service is never a place to become anyone, not even in development.
    let alone = ServiceProcess::with(&config, &["command-api"], &[("MESSAGES_ENV", "development")]).await;
    let system = System::attach(config, &alone.url);
    assert_eq!(ask(&system, json!({"user": "alice"})).send().await.status, 404);
    alone.stop().await;
}
