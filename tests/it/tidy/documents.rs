//! The rules for Markdown documents: their links, the paths that they name, and their width.

use std::path::Path;

use super::VENDORED;
use crate::harness::repository::{files, root, text};

/// The largest number of characters in a line of Markdown.
const MAX_WIDTH: usize = 100;

/// The documents that people write.
fn documents() -> impl Iterator<Item = String> {
    files().into_iter().filter(|file| file.ends_with(".md") && !file.contains(VENDORED))
}

#[test]
fn markdown_is_wrapped() {
    let all = documents().flat_map(|file| {
        let lines = wide_lines(&text(&file));
        lines.into_iter().map(move |line| format!("{file}: line {line}"))
    });
    let all: Vec<String> = all.collect();
    assert!(all.is_empty(), "wrap these lines at {MAX_WIDTH} characters:\n{}", all.join("\n"));
}

/// The numbers of the lines that are too wide. Tables, code, headings and lines that can't be broken may be.
fn wide_lines(markdown: &str) -> Vec<usize> {
    let mut in_code = false;
    let mut wide = Vec::new();
    for (index, line) in markdown.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        let text = line.trim_start();
        let free = in_code || text.starts_with('|') || text.starts_with('#') || text.starts_with('<');
        let breakable = text.trim_start_matches(['-', '*', '>', ' ']).contains(' ');
        if line.chars().count() > MAX_WIDTH && !free && breakable {
            wide.push(index + 1);
        }
    }
    wide
}

#[test]
fn a_wide_line_is_found() {
    let wide = format!("{} x", "x".repeat(99));
    let markdown = format!("{wide}\n| {wide}\n```\n{wide}\n```\n- {}\n", "x".repeat(120));
    assert_eq!(wide_lines(&markdown), [1]);
}

#[test]
fn the_paths_that_documents_name_exist() {
    for file in documents() {
        for path in paths(&text(&file)) {
            assert!(root().join(&path).exists(), "{file} names {path}, which doesn't exist");
        }
    }
}

/// The paths between backquotes: words with a slash that begin with a folder of the repository. What is in `target`
/// depends on what was built.
fn paths(markdown: &str) -> Vec<String> {
    let quoted = markdown.split('`').skip(1).step_by(2);
    let paths = quoted.map(|text| text.split("::").next().unwrap_or_default());
    let is_path = |path: &&str| {
        let folder = path.split('/').next().unwrap_or_default();
        path.contains('/')
            && !path.contains(' ')
            && !folder.is_empty()
            && folder != "target"
            && root().join(folder).is_dir()
    };
    paths.filter(is_path).map(str::to_owned).collect()
}

#[test]
fn paths_are_told_from_other_words() {
    let markdown = "`domain/src/fold.rs::fold`, `GET /api/messages`, `service/nothing.rs`, `a/b`, `/metrics`, `target/a`, `cache/`";
    assert_eq!(paths(markdown), ["domain/src/fold.rs", "service/nothing.rs", "cache/"]);
}

#[test]
fn links_between_documents_lead_somewhere() {
    for file in documents() {
        for link in links(&text(&file)).into_iter().filter(|link| !link.contains(':')) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = Path::new(&file).parent().unwrap().join(path);
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
