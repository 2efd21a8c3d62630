//! The rules of the house, so that they hold without anybody's watching. Each failure says what to do.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::harness::repository::{files, packages, root, text};

/// The crates that know one outside system each, what every process is made of, and the reads that join them.
const GROUND: [&str; 6] = ["domain", "event-log", "read-model", "cache", "service", "read-path"];

/// Every crate of the workspace, and those of it that it may depend on: arrows point down only.
const HOUSE: [(&str, &[&str]); 13] = [
    ("domain", &[]),
    ("event-log", &["domain"]),
    ("read-model", &["domain"]),
    ("cache", &["domain"]),
    ("service", &["domain"]),
    ("read-path", &["domain", "read-model", "cache", "service"]),
    ("command-api", &GROUND),
    ("projector", &GROUND),
    ("query-api", &GROUND),
    // It asks query-api over HTTP.
    ("realtime", &["domain", "event-log", "cache", "service"]),
    ("messages", &EVERYTHING),
    ("tests", &EVERYTHING),
    ("bench", &EVERYTHING),
];

const EVERYTHING: [&str; 11] = [
    "domain",
    "event-log",
    "read-model",
    "cache",
    "service",
    "read-path",
    "command-api",
    "projector",
    "query-api",
    "realtime",
    "messages",
];

/// Outside systems and libraries, each known to one crate.
const KNOWN_TO_ONE: [(&str, &str); 4] =
    [("rdkafka", "event-log"), ("sqlx", "read-model"), ("redis", "cache"), ("socketioxide", "realtime")];

/// They look at the system from outside.
const OUTSIDE: [&str; 2] = ["tests", "bench"];

/// What has no place where messaging is decided.
const IMPURE: [&str; 6] = ["axum", "rand", "rdkafka", "redis", "sqlx", "tokio"];

/// Most lines of a source file.
const LINES: usize = 400;

/// Where the tools get packages from, by default or by a setting that is nobody else's.
const REGISTRIES: [&str; 7] = [
    "registry.npmjs.org",
    "index.crates.io",
    "static.crates.io",
    "repo.maven.apache.org",
    "repo1.maven.org",
    "files.pythonhosted.org",
    "artifactory",
];

/// Where code of others lies, as they publish it.
const VENDORED: &str = "vendor/";
/// What a program has written: `tests/it/library.rs` says whether it still would.
const GENERATED: &str = "clients/typescript/src/openapi.ts";

/// The normal dependencies of a package, without those of its build and its tests.
fn dependencies(package: &Value) -> BTreeSet<&str> {
    let all = package["dependencies"].as_array().unwrap().iter();
    all.filter(|it| it["kind"].is_null()).map(|it| it["name"].as_str().unwrap()).collect()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

fn sources() -> impl Iterator<Item = String> {
    let is_source = |file: &String| {
        let known = [".rs", ".ts", ".js", ".mjs", ".css", ".html", ".sql", ".lua", ".sh"];
        let script = ["scripts/", ".ci/"].iter().any(|folder| file.starts_with(folder));
        (script || known.iter().any(|ending| file.ends_with(ending))) && !file.contains(VENDORED) && file != GENERATED
    };
    files().into_iter().filter(is_source)
}

fn rust() -> impl Iterator<Item = String> {
    sources().filter(|file| file.ends_with(".rs"))
}

#[test]
fn crates_depend_downwards_only() {
    let packages = packages(&["--no-deps"]);
    for package in &packages {
        let crate_name = name(package);
        let (_, allowed) = HOUSE
            .iter()
            .find(|(listed, _)| *listed == crate_name)
            .unwrap_or_else(|| panic!("{crate_name} is new: say in HOUSE what it may depend on"));
        for other in dependencies(package) {
            let upwards = packages.iter().any(|package| name(package) == other) && !allowed.contains(&other);
            assert!(!upwards, "{crate_name} must not know {other}: move what it needs down, or into `messages`");
        }
    }
    for (listed, _) in HOUSE {
        assert!(packages.iter().any(|package| name(package) == listed), "{listed} is gone: take it out of HOUSE");
    }
}

#[test]
fn each_outside_system_is_known_to_one_crate() {
    for package in packages(&["--no-deps"]) {
        let (crate_name, dependencies) = (name(&package), dependencies(&package));
        for (system, owner) in KNOWN_TO_ONE {
            let known = dependencies.contains(system);
            let may = crate_name == owner || OUTSIDE.contains(&crate_name);
            assert!(may || !known, "{crate_name} depends on {system}: only {owner} does; ask it instead");
            assert!(known || crate_name != owner, "{owner} no longer depends on {system}: mend KNOWN_TO_ONE");
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
    for file in rust().filter(|file| file.starts_with("domain/src/")) {
        let text = text(&file);
        for word in clocks.iter().chain(&chance) {
            assert!(!text.contains(word), "{file}: {word}; take the time or the fresh id as an argument");
        }
    }
}

#[test]
fn redis_is_spoken_and_its_keys_are_named_in_one_place() {
    for file in rust() {
        let text = text(&file);
        let outside = OUTSIDE.iter().any(|folder| file.starts_with(&format!("{folder}/")));
        let speaks = !outside && !file.starts_with("cache/") && text.contains("redis::");
        assert!(!speaks, "{file}: ask the cache crate instead of Redis");
        // Every key begins with the prefix.
        let names = file.starts_with("cache/src/") && text.contains("{prefix}") && file != "cache/src/keys.rs";
        assert!(!names, "{file}: name the key in cache/src/keys.rs, with its type and TTL");
    }
    assert!(text("cache/src/keys.rs").contains("prefix"), "keys have another form now: mend this test");
}

#[test]
fn source_files_are_short_enough_to_read() {
    for file in sources() {
        let lines = text(&file).lines().count();
        assert!(lines <= LINES, "{file} has {lines} lines, which is more than {LINES}: split it by what it does");
    }
}

/// The lines of a TOML file's section.
fn section(file: &str, header: &str) -> Vec<String> {
    let text = text(file);
    let after = text.lines().skip_while(|line| *line != header).skip(1);
    after.take_while(|line| !line.starts_with('[')).map(str::to_owned).collect()
}

#[test]
fn clippy_is_told_to_hold_the_rest() {
    assert!(
        text("clippy.toml").lines().any(|line| line == "too-many-lines-threshold = 70"),
        "functions have <= 70 lines"
    );
    let lints = section("Cargo.toml", "[workspace.lints.clippy]");
    for lint in [
        "allow_attributes",
        "allow_attributes_without_reason",
        "dbg_macro",
        "expect_used",
        "todo",
        "too_many_lines",
        "unwrap_used",
    ] {
        let on = |line: &String| [format!("{lint} = \"warn\""), format!("{lint} = \"deny\"")].contains(line);
        assert!(lints.iter().any(on), "clippy's {lint} has to be on in Cargo.toml");
    }
    assert!(text("Makefile").contains("cargo clippy --workspace --all-targets --locked -- -D warnings"));
    for (member, _) in HOUSE {
        let own = section(&format!("{member}/Cargo.toml"), "[lints]");
        assert!(
            own.iter().any(|line| line == "workspace = true"),
            "{member}/Cargo.toml needs [lints] workspace = true"
        );
    }
}

#[test]
fn no_file_knows_a_developers_machine_or_a_registrys_host() {
    for file in files().iter().filter(|file| *file != "tests/it/tidy.rs") {
        let text = text(file);
        for folder in ["/home/", "/root/", "/work/", "/Users/"] {
            assert!(!text.contains(folder), "{file}: {folder} is there on one machine; go by the repository's root");
        }
        for host in REGISTRIES {
            assert!(!text.contains(host), "{file}: {host}; leave to the tools where they get packages from");
        }
        if file.ends_with("package-lock.json") {
            let hint = "set omit-lockfile-registry-resolved in .npmrc beside it, and make it anew";
            assert!(!text.contains("\"resolved\""), "{file} says where packages were found: {hint}");
        }
    }
}

#[test]
fn no_module_is_a_drawer_for_leftovers() {
    for file in rust() {
        let stem = Path::new(&file).with_extension("");
        for part in stem.iter().filter_map(|part| part.to_str()) {
            let drawer = ["common", "helper", "helpers", "misc", "util", "utils"].contains(&part);
            assert!(!drawer, "{file}: name it for what it does, or put each thing where it is used");
        }
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for file in files().iter().filter(|file| file.ends_with(".md") && !file.contains(VENDORED)) {
        for link in links(&text(file)).into_iter().filter(|link| !link.contains(':')) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = Path::new(file).parent().unwrap().join(path);
            let target = if path.is_empty() { file.as_str() } else { target.to_str().unwrap() };
            assert!(root().join(target).exists(), "{file}: the link to {link} leads nowhere");
            let found = heading.is_empty() || headings(&text(target)).iter().any(|it| it == heading);
            assert!(found, "{file}: the link to {link} leads to no heading");
        }
    }
}

/// A document's headings as links name them.
fn headings(markdown: &str) -> Vec<String> {
    let lines = markdown.lines().filter_map(|line| line.strip_prefix('#'));
    let named = lines.map(|line| {
        let text = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        text.chars().filter(|character| character.is_alphanumeric() || "-_".contains(*character)).collect()
    });
    named.collect()
}

/// The targets of a document's links, without titles.
fn links(markdown: &str) -> Vec<&str> {
    let targets = markdown.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    targets.collect()
}

#[test]
fn links_and_headings_are_found() {
    let found = links("[one](a.md) and [two](b/c.md#d \"title\"),\n![three](x.png)");
    assert_eq!(found, ["a.md", "b/c.md#d", "x.png"]);
    assert_eq!(headings("# One\ntext\n### `Two`, and three\n"), ["one", "two-and-three"]);
}

#[test]
fn every_constraint_and_index_has_a_name() {
    for file in files().iter().filter(|file| file.starts_with("migrations/") && file.ends_with(".sql")) {
        assert_eq!(nameless(&text(file)), Vec::<String>::new(), "{file}: write CONSTRAINT name before each of these");
    }
}

/// The constraints and indexes of a script that have no name of their own.
fn nameless(sql: &str) -> Vec<String> {
    let code: Vec<&str> = sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    let code = code.join(" ").replace('(', " ( ").replace(')', " ) ").replace(',', " , ").to_uppercase();
    let words: Vec<&str> = code.split_whitespace().collect();
    let word = |index: usize, back: usize| index.checked_sub(back).map_or("", |index| words[index]);
    let mut nameless = Vec::new();
    for index in 0..words.len() {
        let named = match words[index] {
            "PRIMARY" | "FOREIGN" | "CHECK" | "EXCLUDE" => word(index, 2) == "CONSTRAINT",
            "UNIQUE" => word(index, 2) == "CONSTRAINT" || word(index, 1) == "CREATE",
            // In a column; after FOREIGN KEY (…) it belongs to that.
            "REFERENCES" => word(index, 2) == "CONSTRAINT" || word(index, 1) == ")",
            "INDEX" => words.get(index + 1) != Some(&"ON"),
            _ => true,
        };
        if !named {
            nameless.push(words[index.saturating_sub(3)..words.len().min(index + 4)].join(" "));
        }
    }
    nameless
}

#[test]
fn a_constraint_without_a_name_is_found() {
    let good = "CREATE TABLE a (id uuid NOT NULL, b int, -- PRIMARY KEY\n CONSTRAINT a_pkey PRIMARY KEY (id),
        CONSTRAINT a_b FOREIGN KEY (b) REFERENCES c (d)); CREATE UNIQUE INDEX a_b ON a (b);";
    assert_eq!(nameless(good), Vec::<String>::new());
    for bad in [
        "CREATE TABLE a (id uuid PRIMARY KEY);",
        "CREATE TABLE a (id uuid, UNIQUE (id));",
        "CREATE TABLE a (id int CHECK (id > 0));",
        "CREATE TABLE a (id int REFERENCES b (c));",
        "CREATE INDEX ON a (id);",
    ] {
        assert_eq!(nameless(bad).len(), 1, "{bad}");
    }
}

/// The names that the code counts under, wherever the macro's line breaks.
fn counted() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in rust().filter(|file| !OUTSIDE.iter().any(|folder| file.starts_with(&format!("{folder}/")))) {
        let text = text(&file);
        for kind in ["counter!(", "gauge!(", "histogram!("] {
            for rest in text.split(&format!("metrics::{kind}")).skip(1) {
                names.insert(rest.trim_start().trim_start_matches('"').split('"').next().unwrap().to_owned());
            }
        }
    }
    names
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_is_there() {
    let text = text("docs/operations.md");
    let section = text.split("\n## ").find(|section| section.starts_with("Metrics\n")).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<String> = rows.map(str::to_owned).collect();
    assert_eq!(counted(), documented, "what is left is counted, what is right stands in docs/operations.md");
}
