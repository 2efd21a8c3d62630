//! Which crate may depend on which, and which crate alone knows an outside system.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{OUTSIDE, is_outside, rust_sources};
use crate::harness::repository::{packages, text};

/// The crates that know one outside system each, what every process is made of, and the reads that join them.
const FOUNDATION: [&str; 6] = ["domain", "event-log", "read-model", "cache", "service", "read-path"];

/// Every crate of the workspace, and the crates of the workspace that it may depend on: dependencies point down only.
pub(super) const MAY_DEPEND_ON: [(&str, &[&str]); 16] = [
    ("domain", &[]),
    ("demo", &["domain"]),
    ("event-log", &["domain"]),
    ("read-model", &["domain"]),
    ("cache", &["domain"]),
    ("service", &["domain"]),
    ("read-path", &["domain", "event-log", "read-model", "cache", "service"]),
    ("replay", &["domain", "event-log"]),
    ("command-api", &FOUNDATION),
    ("projector", &["domain", "event-log", "read-model", "cache", "service", "read-path", "replay"]),
    ("query-api", &FOUNDATION),
    ("admin-api", &["domain", "event-log", "read-model", "cache", "service", "read-path", "replay"]),
    // Realtime calls query-api over HTTP.
    ("realtime", &["domain", "event-log", "cache", "service"]),
    ("messages", &ALL_CRATES),
    ("tests", &ALL_CRATES),
    ("bench", &ALL_CRATES),
];

const ALL_CRATES: [&str; 14] = [
    "domain",
    "demo",
    "event-log",
    "read-model",
    "cache",
    "service",
    "read-path",
    "replay",
    "command-api",
    "projector",
    "query-api",
    "admin-api",
    "realtime",
    "messages",
];

/// Libraries of outside systems, and the only crate that may use each.
const OWNERS: [(&str, &str); 4] =
    [("rdkafka", "event-log"), ("sqlx", "read-model"), ("redis", "cache"), ("socketioxide", "realtime")];

/// Crates that the pure core may not use.
const IMPURE: [&str; 6] = ["axum", "rand", "rdkafka", "redis", "sqlx", "tokio"];

/// The dependencies of a package, without those of its build script and its tests.
fn dependencies(package: &Value) -> BTreeSet<&str> {
    let all = package["dependencies"].as_array().unwrap().iter();
    all.filter(|it| it["kind"].is_null()).map(|it| it["name"].as_str().unwrap()).collect()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

#[test]
fn crates_depend_downwards_only() {
    let packages = packages(&["--no-deps"]);
    for package in &packages {
        let crate_name = name(package);
        let (_, allowed) = MAY_DEPEND_ON
            .iter()
            .find(|(listed, _)| *listed == crate_name)
            .unwrap_or_else(|| panic!("{crate_name} is new: add it to MAY_DEPEND_ON"));
        for other in dependencies(package) {
            let upwards = packages.iter().any(|package| name(package) == other) && !allowed.contains(&other);
            assert!(!upwards, "{crate_name} must not depend on {other}: move what it needs down, or into `messages`");
        }
    }
    for (listed, _) in MAY_DEPEND_ON {
        assert!(
            packages.iter().any(|package| name(package) == listed),
            "{listed} no longer exists: remove it from MAY_DEPEND_ON"
        );
    }
}

#[test]
fn one_crate_alone_knows_each_outside_system() {
    for package in packages(&["--no-deps"]) {
        let (crate_name, dependencies) = (name(&package), dependencies(&package));
        for (system, owner) in OWNERS {
            let known = dependencies.contains(system);
            let may = crate_name == owner || OUTSIDE.contains(&crate_name);
            assert!(may || !known, "{crate_name} depends on {system}: only {owner} may; use {owner} instead");
            assert!(known || crate_name != owner, "{owner} no longer depends on {system}: update OWNERS");
        }
        if crate_name == "domain" {
            let impure: Vec<_> = IMPURE.iter().filter(|system| dependencies.contains(**system)).collect();
            assert!(impure.is_empty(), "domain is pure and can't depend on {impure:?}");
        }
    }
}

#[test]
fn the_core_has_neither_clock_nor_randomness() {
    let (clocks, chance) = (["SystemTime", "Instant", "now_utc", "now_local"], ["now_v7", "new_v4", "rand::"]);
    for file in rust_sources().filter(|file| file.starts_with("domain/src/")) {
        let text = text(&file);
        for word in clocks.iter().chain(&chance) {
            assert!(!text.contains(word), "{file}: {word}; take the time or the fresh id as an argument");
        }
    }
}

#[test]
fn one_crate_alone_uses_redis_and_one_file_names_its_keys() {
    for file in rust_sources() {
        let text = text(&file);
        let uses_redis = !is_outside(&file) && !file.starts_with("cache/") && text.contains("redis::");
        assert!(!uses_redis, "{file}: use the cache crate instead of Redis");
        // Every key begins with the prefix.
        let names_a_key = file.starts_with("cache/src/") && text.contains("{prefix}") && file != "cache/src/keys.rs";
        assert!(!names_a_key, "{file}: name the key in cache/src/keys.rs, with its type and TTL");
    }
    assert!(text("cache/src/keys.rs").contains("prefix"), "keys have another form: update this test");
}
