//! The published schemas: those of events and the AsyncAPI document. What is released stays valid, the official parser
//! accepts the document, every process serves it, the documents name what it has, and what the system writes is as it
//! says.

mod compatibility;
mod traffic;

use std::collections::BTreeSet;

use messages::process::Roles;
use serde_json::Value;

use crate::harness::System;
use crate::harness::repository::{files, root, text};
use crate::harness::system::config;
use crate::page;

/// The published document.
const DOCUMENT: &str = "schema/asyncapi.json";
/// The schemas as the last release had them.
const RELEASED: &str = "schema/released/";

fn document() -> Value {
    serde_json::from_str(&text(DOCUMENT)).unwrap()
}

#[test]
fn what_is_released_stays_valid() {
    let released: Vec<String> = files().into_iter().filter(|file| file.starts_with(RELEASED)).collect();
    assert!(released.contains(&format!("{RELEASED}asyncapi.json")), "{released:?}");
    let mut changes = Vec::new();
    for file in released {
        let current = file.replace(RELEASED, "schema/");
        if !root().join(&current).exists() {
            changes.push(format!("{current} is gone"));
            continue;
        }
        let [released, now] = [&file, &current].map(|file| serde_json::from_str::<Value>(&text(file)).unwrap());
        let compare = if current == DOCUMENT { compatibility::document_changes } else { compatibility::schema_changes };
        changes.extend(compare(&released, &now).into_iter().map(|change| format!("{current}: {change}")));
    }
    let changes = changes.join("\n");
    assert!(changes.is_empty(), "readers rely on these; CONTRIBUTING.md says what may change instead:\n{changes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_parser_accepts_the_document() {
    let mut node = page::node("asyncapi-document.mjs");
    node.arg(root().join(DOCUMENT));
    page::well(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_process_serves_the_document_and_its_page() {
    let mut config = config();
    for roles in [Roles::ALL, Roles::COMMAND_API, Roles::QUERY_API, Roles::REALTIME, Roles::PROJECTOR] {
        let process = System::with_roles(config.clone(), roles).await;
        config.query_api_url.get_or_insert(process.url.clone());
        let served = process.request("GET", "/asyncapi.json").send().await;
        assert_eq!((served.status, served.header("content-type")), (200, "application/json"), "{roles}");
        assert!(served.body == document(), "{roles} serves another document than {DOCUMENT}");
        let page = process.request("GET", "/asyncapi").send().await;
        assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"), "{roles}");
        assert!(page.header("content-security-policy").starts_with("default-src 'none';"), "{roles}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_every_message_of_the_document_without_script_or_network() {
    let system = System::start().await;
    let mut node = page::node("asyncapi-page.mjs");
    node.arg(&system.url);
    page::well(node).await;
}

/// What stands between backquotes in the first cells of the tables of a section.
fn names_in(file: &str, heading: &str) -> BTreeSet<String> {
    let text = text(file);
    let section = text.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("{file}: no {heading}"));
    let rows = section.split("\n## ").next().unwrap().lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| row.split('|').next());
    cells
        .flat_map(|cell| cell.split('`').step_by(2))
        .map(str::to_owned)
        .filter(|name| !name.trim().is_empty())
        .collect()
}

/// The names of the document's messages whose keys begin like this.
fn names_of_messages(is_meant: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let document = document();
    let messages = document["components"]["messages"].as_object().unwrap();
    let meant = messages.iter().filter(|(key, _)| is_meant(key));
    meant.map(|(_, message)| message["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_documents_name_every_event() {
    let mut of_server = names_of_messages(|key| key.starts_with("server."));
    // In the text, with the operations for which it comes.
    assert!(of_server.remove("message:redirect_to_api"));
    assert_eq!(names_in("docs/realtime.md", "Events"), of_server);
    let text = text("docs/realtime.md");
    let in_text = names_of_messages(|key| key.starts_with("client."));
    for name in in_text.iter().map(String::as_str).chain(["message:redirect_to_api"]) {
        assert!(text.contains(&format!("`{name}`")), "docs/realtime.md doesn't name {name}");
    }
    let types = names_in("docs/events.md", "A record");
    let is_type = |name: &String| name.chars().all(|it| it.is_ascii_uppercase() || it == '_');
    let types: BTreeSet<String> = types.into_iter().filter(is_type).collect();
    assert_eq!(types, names_of_messages(|key| key.contains(".v")));
}
