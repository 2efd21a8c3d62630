//! The rules that the whole repository keeps, checked by a program. Each failure says what to do.

mod admin_routes;
mod crates;
mod documents;
mod limits;
mod lints;
mod metrics;
mod modules;
mod names;
mod origins;
mod sql;

use crate::harness::repository::files;

/// The crates that look at the system from outside.
const OUTSIDE: [&str; 2] = ["tests", "bench"];

/// The folder of other people's code, as they publish it.
const VENDORED: &str = "vendor/";
/// Written by a program. `tests/it/library.rs` checks that it is current.
const GENERATED: &str = "clients/typescript/src/openapi.ts";

/// The source files that people write.
fn sources() -> impl Iterator<Item = String> {
    let is_source = |file: &String| {
        let known = [".rs", ".ts", ".js", ".mjs", ".css", ".html", ".sql", ".lua", ".sh"];
        let script = ["scripts/", ".ci/"].iter().any(|folder| file.starts_with(folder));
        (script || known.iter().any(|ending| file.ends_with(ending))) && !file.contains(VENDORED) && file != GENERATED
    };
    files().into_iter().filter(is_source)
}

fn rust_sources() -> impl Iterator<Item = String> {
    sources().filter(|file| file.ends_with(".rs"))
}

/// Whether a file belongs to a crate that looks at the system from outside.
fn is_outside(file: &str) -> bool {
    OUTSIDE.iter().any(|folder| file.starts_with(&format!("{folder}/")))
}

/// A Rust source without its comments, the contents of its string literals and its unit tests.
fn code_of(source: &str) -> String {
    let source = source.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = source.lines().map(|line| {
        let mut code = String::new();
        let mut in_string = false;
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\\' if in_string => drop(characters.next()),
                '"' => in_string = !in_string,
                '/' if !in_string && characters.peek() == Some(&'/') => break,
                _ if in_string => {}
                _ => code.push(character),
            }
        }
        code
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn comments_strings_and_unit_tests_are_no_code() {
    let source = "use a; // b\nlet c = \"d // \\\" e\"; f\n\n#[cfg(test)]\nmod tests {\n    g\n}\n";
    assert_eq!(code_of(source), "use a; \nlet c = ; f");
}
