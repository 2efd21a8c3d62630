//! The chat page, in a real browser.

use serde_json::Value;
use tokio::process::Command;

use crate::harness::System;

#[tokio::test(flavor = "multi_thread")]
async fn two_people_chat_in_two_browser_windows() {
    let system = System::start().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/js/two-windows.mjs");
    let mut node = Command::new("node");
    node.arg(script).args([&system.url, &system.token("alice"), &system.token("bob"), "bob"]).kill_on_drop(true);
    let ended = node.output().await.expect("node can't be started; `make test` installs what it needs");
    let printed = String::from_utf8_lossy(&ended.stdout);
    let result: Value = serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{ended:?}"));
    assert_eq!(result, serde_json::json!({"ok": true}), "{result:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_its_files_are_served_with_a_strict_policy() {
    let system = System::start().await;
    let page = system.request("GET", "/").send().await;
    let html = page.body.as_str().unwrap().to_owned();
    let mut answers = vec![("/".to_owned(), page)];
    // What the page and its modules load, and what those load.
    let mut names: Vec<String> = html.split('"').filter(|part| part.starts_with("/web/")).map(str::to_owned).collect();
    while let Some(name) = names.pop() {
        let answer = system.request("GET", &name).send().await;
        let text = answer.body.as_str().unwrap_or_default();
        let modules = text.split('\'').filter_map(|part| part.strip_prefix("./").filter(|it| it.ends_with(".js")));
        for module in modules.map(|module| format!("/web/{module}")) {
            if !names.contains(&module) && answers.iter().all(|(known, _)| *known != module) {
                names.push(module);
            }
        }
        answers.push((name, answer));
    }
    let served: Vec<&str> = answers.iter().map(|(name, _)| name.as_str()).collect();
    for needed in [
        "/web/app.js",
        "/web/api.js",
        "/web/model.js",
        "/web/view.js",
        "/web/style.css",
        "/web/vendor/socket.io.min.js",
    ] {
        assert!(served.contains(&needed), "{served:?}");
    }
    for (name, answer) in &answers {
        let kind = match name.rsplit_once('.') {
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
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
    }
    for path in ["/web/", "/web/nothing.js", "/web/../Cargo.toml", "/web/%2e%2e/Cargo.toml", "/web/vendor/"] {
        assert_eq!(system.request("GET", path).send().await.status, 404, "{path}");
    }
}
