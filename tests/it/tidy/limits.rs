//! The limits that docs/limits.md lists are those of the code.

use std::collections::BTreeSet;

use clap::{CommandFactory, Parser};
use domain::limit_rows::{LimitGroup, LimitRow, LimitValue, grouped};
use messages::process::limits;
use service::config::Config;

use super::{code_of, is_outside, rust_sources};
use crate::harness::repository::{root, text};

const DOCUMENT: &str = "docs/limits.md";

/// The constants with MAX in their names that limit nothing which the document is about, and what they are.
const UNLISTED: [(&str, &str); 9] = [
    ("MAX", "the largest whole number that every JSON parser reads exactly"),
    ("MAX_AGE", "how long browsers remember the answer to a preflight"),
    ("MAX_BACKOFF", "a pause"),
    ("MAX_IDLE", "a pause"),
    ("MAX_LAG", "what `messages doctor` reports"),
    ("MAX_PAUSE", "a pause"),
    ("MAX_PAYLOAD", "of a server that only tests start"),
    ("MAX_PEOPLE", "of an internal route, which realtime bounds by its own limit"),
    ("PRESENCE_PARTICIPANTS_MAX", "described with the events of sockets"),
];

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    config: Config,
}

/// The default of the setting in a variable.
fn default_of(variable: &str) -> String {
    let command = Settings::command();
    let argument = command.get_arguments().find(|argument| argument.get_env().is_some_and(|env| env == variable));
    let argument = argument.unwrap_or_else(|| panic!("no setting has the variable {variable}"));
    grouped(argument.get_default_values()[0].to_str().unwrap().parse().unwrap())
}

fn line(row: &LimitRow) -> String {
    let variable = match row.value {
        LimitValue::Setting(variable) => format!("`{variable}`"),
        _ => "–".to_owned(),
    };
    let default = row.value.in_words(default_of);
    format!("| {} | {default} | {variable} | {} | {} |", row.what, row.beyond, row.protects)
}

/// The lines of a section's table.
fn table(group: LimitGroup) -> Vec<String> {
    let head = ["| Limit | Default | Variable | Beyond it | It protects |", "|---|---|---|---|---|"];
    head.map(str::to_owned).into_iter().chain(limits().filter(|row| row.group == group).map(line)).collect()
}

/// The document with the tables of the code: people write everything else in it.
fn updated(document: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut due: Option<LimitGroup> = None;
    for line in document.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            due = LimitGroup::ALL.into_iter().find(|group| group.title() == title);
        }
        if !line.starts_with('|') {
            lines.push(line.to_owned());
        } else if let Some(group) = due.take() {
            lines.extend(table(group));
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn every_limit_is_documented_as_the_code_has_it() {
    let document = text(DOCUMENT);
    for heading in LimitGroup::ALL.map(|group| format!("## {}", group.title())) {
        let section = document.split(&format!("\n{heading}\n")).nth(1).unwrap_or_else(|| panic!("no {heading}"));
        let section = section.split("\n## ").next().unwrap();
        assert!(section.contains("\n|"), "{heading} has no table: begin one with any line of it");
    }
    let current = updated(&document);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(root().join(DOCUMENT), &current).unwrap();
        return;
    }
    let update = "UPDATE_GOLDEN=1 cargo test -p tests --test it -- tidy::limits";
    assert!(document == current, "{DOCUMENT} is outdated; run {update}");
}

#[test]
fn every_setting_of_a_limit_has_a_row() {
    let command = Settings::command();
    let settings: BTreeSet<&str> = command
        .get_arguments()
        .filter_map(|argument| argument.get_env()?.to_str())
        .filter(|variable| variable.starts_with("LIMIT_"))
        .collect();
    let listed = limits().filter_map(|row| match row.value {
        LimitValue::Setting(variable) if variable.starts_with("LIMIT_") => Some(variable),
        _ => None,
    });
    assert_eq!(listed.collect::<BTreeSet<_>>(), settings, "left: the rows of service/src/config.rs");
}

/// The names of the constants that the code of a file defines and that say that they are a limit.
fn limits_in(code: &str) -> Vec<&str> {
    let names = code.split("const ").skip(1).filter_map(|rest| rest.split(':').next());
    names.filter(|name| name.split('_').any(|word| word == "MAX")).collect()
}

#[test]
fn every_constant_with_max_in_its_name_has_a_row() {
    let mut without_row: BTreeSet<(String, String)> = BTreeSet::new();
    for file in rust_sources().filter(|file| file.contains("/src/") && !is_outside(file)) {
        let source = text(&file);
        let rows = source.split("limit_rows! {").nth(1).unwrap_or_default().split("\n}\n").next().unwrap();
        let listed: Vec<&str> = rows.split(|it: char| !(it.is_alphanumeric() || it == '_')).collect();
        let code = code_of(&source);
        let missing = limits_in(&code).into_iter().filter(|name| !listed.contains(name));
        without_row.extend(missing.map(|name| (name.to_owned(), file.clone())));
    }
    for (name, _) in UNLISTED {
        assert!(
            without_row.iter().any(|(other, _)| other == name),
            "{name} has a row or is gone: take it from UNLISTED"
        );
    }
    without_row.retain(|(name, _)| UNLISTED.iter().all(|(unlisted, _)| unlisted != name));
    assert!(without_row.is_empty(), "add a row to the file's `limit_rows!` for each of {without_row:?}");
}

#[test]
fn a_constant_is_a_limit_if_a_word_of_its_name_is_max() {
    assert_eq!(limits_in("const MAX_A: u8 = 1; pub const B_MAX: u8 = 1; const MAXIMAL: u8 = 1;"), ["MAX_A", "B_MAX"]);
}
