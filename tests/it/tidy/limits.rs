//! The limits that docs/limits.md lists are those of the code.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use domain::limit_rows::{LimitGroup, LimitRow, LimitValue};
use service::config::Config;

use super::{code_of, is_outside, rust_sources};
use crate::harness::repository::{root, text};

const DOCUMENT: &str = "docs/limits.md";

/// The limits of all crates, from the lowest up.
const LIMITS: [&[&[LimitRow]]; 13] = [
    domain::LIMITS,
    event_log::LIMITS,
    read_model::LIMITS,
    cache::LIMITS,
    service::LIMITS,
    read_path::LIMITS,
    replay::LIMITS,
    command_api::LIMITS,
    query_api::LIMITS,
    admin_api::LIMITS,
    projector::LIMITS,
    realtime::LIMITS,
    messages::process::LIMITS,
];

/// The sections of the document, by their headings.
const SECTIONS: [(&str, LimitGroup); 9] = [
    ("## What a user may do in a window", LimitGroup::Rates),
    ("## What a command may contain", LimitGroup::Contents),
    ("## Queries", LimitGroup::Queries),
    ("## Requests and connections", LimitGroup::Requests),
    ("## Sockets", LimitGroup::Sockets),
    ("## The projector", LimitGroup::Projector),
    ("## Memory of a process", LimitGroup::Memory),
    ("## Redis", LimitGroup::Redis),
    ("## Waiting for other services", LimitGroup::Services),
];

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

fn rows() -> impl Iterator<Item = &'static LimitRow> {
    LIMITS.into_iter().flatten().copied().flatten()
}

/// A number with commas between the thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

/// A number of bytes in the largest unit of which it is a multiple.
fn in_bytes(number: u64) -> String {
    let units = [(1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.iter().find(|(size, _)| number.is_multiple_of(*size));
    unit.map_or_else(
        || format!("{} bytes", grouped(number)),
        |(size, unit)| format!("{} {unit}", grouped(number / size)),
    )
}

/// A time in the largest unit of which it is a multiple.
fn in_words(time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap();
    let units = [(86_400_000, "days"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")];
    // "1 day" would be another word.
    let fits = |size: u64| millis.is_multiple_of(size) && (size < 86_400_000 || millis > size);
    let (size, unit) = units.into_iter().find(|(size, _)| fits(*size)).unwrap();
    format!("{} {unit}", grouped(millis / size))
}

/// The default of the setting in a variable.
fn default_of(variable: &str) -> String {
    let command = Settings::command();
    let argument = command.get_arguments().find(|argument| argument.get_env().is_some_and(|env| env == variable));
    let argument = argument.unwrap_or_else(|| panic!("no setting has the variable {variable}"));
    grouped(argument.get_default_values()[0].to_str().unwrap().parse().unwrap())
}

fn line(row: &LimitRow) -> String {
    let (default, variable) = match row.value {
        LimitValue::Count(count) => (grouped(count), None),
        LimitValue::Bytes(bytes) => (in_bytes(bytes), None),
        LimitValue::Time(time) => (in_words(time), None),
        LimitValue::Setting(variable) => (default_of(variable), Some(variable)),
    };
    let variable = variable.map_or_else(|| "–".to_owned(), |variable| format!("`{variable}`"));
    format!("| {} | {default} | {variable} | {} | {} |", row.what, row.beyond, row.protects)
}

/// The lines of a section's table.
fn table(group: LimitGroup) -> Vec<String> {
    let head = ["| Limit | Default | Variable | Beyond it | It protects |", "|---|---|---|---|---|"];
    head.map(str::to_owned).into_iter().chain(rows().filter(|row| row.group == group).map(line)).collect()
}

/// The document with the tables of the code: people write everything else in it.
fn updated(document: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut due: Option<LimitGroup> = None;
    for line in document.lines() {
        if line.starts_with("## ") {
            let section = SECTIONS.iter().find(|(heading, _)| *heading == line);
            due = section.map(|(_, group)| *group);
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
    for (heading, _) in SECTIONS {
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
    let listed = rows().filter_map(|row| match row.value {
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
fn values_are_written_as_people_write_them() {
    assert_eq!([grouped(7), grouped(1_234), grouped(1_000_000)], ["7", "1,234", "1,000,000"]);
    assert_eq!([in_bytes(64 << 10), in_bytes(8 << 20), in_bytes(512)], ["64 KiB", "8 MiB", "512 bytes"]);
    let times = [500, 10_000, 120_000, 24 * 3_600_000, 90 * 86_400_000].map(Duration::from_millis).map(in_words);
    assert_eq!(times, ["500 ms", "10 s", "2 min", "24 h", "90 days"]);
    assert_eq!(limits_in("const MAX_A: u8 = 1; pub const B_MAX: u8 = 1; const MAXIMAL: u8 = 1;"), ["MAX_A", "B_MAX"]);
}
