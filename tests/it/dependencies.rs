//! What is built besides our own code: from where, under which licences, and how often.

use std::collections::{BTreeMap, BTreeSet};

use spdx::{Expression, ParseMode};

use crate::harness::repository::{cargo, packages, text};

/// Licences under which others' code may be part of the executable: none asks more than to be named.
const LICENCES: [&str; 9] =
    ["Apache-2.0", "BSD-3-Clause", "BSL-1.0", "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "Unicode-3.0", "Zlib"];

/// What must not be built, and what to do instead.
const BANNED: [(&str, &str); 4] = [
    ("openssl", "use its rustls feature with aws-lc-rs"),
    ("openssl-sys", "use its rustls feature with aws-lc-rs"),
    ("native-tls", "use its rustls feature with aws-lc-rs"),
    ("ring", "choose aws-lc-rs as the provider: two of them are twice the code to trust"),
];

/// What a process must have once: two of one would each have their own types, pools or settings.
const ONCE: [&str; 9] = ["axum", "http", "hyper", "rdkafka", "redis", "rustls", "serde", "sqlx", "tokio"];

/// What is built for this platform, with its features as they are chosen: `cargo metadata` also lists what only
/// features that are off would need.
fn built() -> BTreeSet<(String, String)> {
    let tree = ["tree", "--workspace", "--locked", "--edges", "all", "--prefix", "none", "--format", "{p}"];
    let printed = cargo(&tree);
    let built = printed.lines().filter_map(|line| {
        let (name, rest) = line.split_once(' ')?;
        let version = rest.split(' ').next()?.strip_prefix('v')?;
        Some((name.to_owned(), version.to_owned()))
    });
    built.collect()
}

#[test]
fn everything_that_is_not_ours_comes_from_crates_io() {
    for line in text("Cargo.lock").lines() {
        if let Some(source) = line.strip_prefix("source = ") {
            let published = source.starts_with("\"registry+") && source.ends_with("/crates.io-index\"");
            assert!(published, "Cargo.lock has {source}: depend on a published version instead of a fork or branch");
        }
    }
    let ours = packages(&["--no-deps"]).len();
    let lock = text("Cargo.lock");
    let (all, foreign) = (lock.matches("[[package]]").count(), lock.matches("\nsource = ").count());
    assert_eq!(all - foreign, ours, "Cargo.lock has a package that is neither of the workspace nor published");
}

#[test]
fn every_licence_is_one_that_we_accept() {
    let built = built();
    for package in packages(&[]) {
        let name = package["name"].as_str().unwrap();
        if !built.contains(&(name.to_owned(), package["version"].as_str().unwrap().to_owned())) {
            continue;
        }
        let licence = package["license"].as_str().unwrap_or_else(|| panic!("{name} has no licence: do without it"));
        // Older manifests write MIT/Apache-2.0.
        let expression = Expression::parse_mode(licence, ParseMode::LAX)
            .unwrap_or_else(|error| panic!("{name}: {licence} is no SPDX expression: {error}"));
        let accepted = expression.evaluate(|wanted| {
            let known = wanted.license.id().is_some_and(|id| LICENCES.contains(&id.name));
            known && wanted.addition.is_none()
        });
        assert!(accepted, "{name} is under {licence}: do without it, or think it over and add to LICENCES");
    }
}

#[test]
fn there_is_one_tls_and_none_of_it_is_the_systems() {
    let built = built();
    for (banned, instead) in BANNED {
        let found = built.iter().any(|(name, _)| name == banned);
        assert!(
            !found,
            "{banned} is built: find who wants it with `cargo tree -i {banned} -e features`, then {instead}"
        );
    }
    assert!(built.iter().any(|(name, _)| name == "aws-lc-rs"), "the list of what is built can't be read");
}

#[test]
fn what_a_process_must_have_once_is_there_in_one_version() {
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, version) in built() {
        versions.entry(name).or_default().push(version);
    }
    for name in ONCE {
        let found = versions.get(name).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(found.len(), 1, "{name} in {found:?}: see `cargo tree -d`, and raise or lower who wants the other");
    }
}
