//! The modules inside a crate: short files, no leftovers, no cycles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{code_of, rust_sources, sources};
use crate::harness::repository::text;

/// The largest number of lines in a source file.
const MAX_LINES: usize = 400;

#[test]
fn source_files_are_short_enough_to_read() {
    for file in sources() {
        let lines = text(&file).lines().count();
        assert!(lines <= MAX_LINES, "{file} has {lines} lines, more than {MAX_LINES}: split it by what it does");
    }
}

#[test]
fn no_module_is_a_drawer_for_leftovers() {
    for file in rust_sources() {
        let stem = Path::new(&file).with_extension("");
        for part in stem.iter().filter_map(|part| part.to_str()) {
            let drawer = ["common", "helper", "helpers", "misc", "util", "utils"].contains(&part);
            assert!(!drawer, "{file}: name it for what it does, or put each item where it is used");
        }
    }
}

#[test]
fn no_modules_of_a_crate_use_each_other_in_a_circle() {
    let mut crates: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for file in rust_sources() {
        let Some((crate_name, path)) = file.split_once("/src/") else { continue };
        let module = path.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
        // The crate root puts its modules together and holds what all of them share.
        if module != "lib" && module != "main" {
            crates.entry(crate_name.to_owned()).or_default().insert(module, code_of(&text(&file)));
        }
    }
    let circles: Vec<String> = crates
        .iter()
        .filter_map(|(crate_name, modules)| Some(format!("{crate_name}: {}", circle(modules)?.join(" → "))))
        .collect();
    assert!(circles.is_empty(), "move what these modules share into one that uses neither:\n{}", circles.join("\n"));
}

/// A circle of modules that use each other, by their paths from the crate root and their code.
fn circle(modules: &BTreeMap<String, String>) -> Option<Vec<String>> {
    let uses: BTreeMap<&str, BTreeSet<&str>> =
        modules.iter().map(|(module, code)| (module.as_str(), used_modules(module, code, modules))).collect();
    let mut done = BTreeSet::new();
    modules.keys().find_map(|module| circle_from(module, &uses, &mut Vec::new(), &mut done))
}

fn circle_from<'a>(
    module: &'a str,
    uses: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<String>> {
    if let Some(start) = path.iter().position(|it| *it == module) {
        return Some(path[start..].iter().map(|it| (*it).to_owned()).collect());
    }
    if !done.insert(module) {
        return None;
    }
    path.push(module);
    let circle = uses[module].iter().find_map(|used| circle_from(used, uses, path, done));
    path.pop();
    circle
}

/// The modules whose items a module's code names.
fn used_modules<'a>(module: &str, code: &str, modules: &'a BTreeMap<String, String>) -> BTreeSet<&'a str> {
    let children: Vec<String> =
        modules.keys().filter_map(|it| it.strip_prefix(&format!("{module}::"))).map(str::to_owned).collect();
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let mut paths = paths_after(code, "crate::");
    paths.extend(paths_after(code, "super::").into_iter().map(|path| format!("{parent}::{path}")));
    paths.extend(paths_after(code, "self::").into_iter().map(|path| format!("{module}::{path}")));
    for child in children.iter().filter(|child| !child.contains("::")) {
        let named = paths_after(code, &format!("{child}::"));
        paths.extend(named.into_iter().map(|path| format!("{module}::{child}::{path}")));
    }
    let resolved = paths.iter().filter_map(|path| resolve(path.trim_start_matches("::"), modules));
    resolved.filter(|used| *used != module).collect()
}

/// The paths that stand in code after a prefix, with groups such as `a::{b, c::d}` written out.
fn paths_after(code: &str, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (index, _) in code.match_indices(prefix) {
        let before = code[..index].chars().next_back();
        if before.is_none_or(|character| !(character.is_alphanumeric() || "_:".contains(character))) {
            expand("", &code[index + prefix.len()..], &mut found);
        }
    }
    found
}

fn expand(prefix: &str, rest: &str, found: &mut Vec<String>) {
    let end = rest.find(|character: char| !(character.is_alphanumeric() || "_:".contains(character)));
    let (path, rest) = rest.split_at(end.unwrap_or(rest.len()));
    if (path.is_empty() || path.ends_with("::")) && rest.starts_with('{') {
        let mut depth = 0;
        let mut item = 1;
        for (index, character) in rest.char_indices() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if (character == ',' && depth == 1) || depth == 0 {
                expand(&format!("{prefix}{path}"), rest[item..index].trim(), found);
                item = index + 1;
            }
            if depth == 0 {
                return;
            }
        }
    }
    found.push(format!("{prefix}{path}"));
}

/// The deepest module that a path leads to.
fn resolve<'a>(path: &str, modules: &'a BTreeMap<String, String>) -> Option<&'a str> {
    let mut path = path.trim_end_matches("::");
    loop {
        if let Some((module, _)) = modules.get_key_value(path) {
            return Some(module);
        }
        path = path.rsplit_once("::")?.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(sources: &[(&str, &str)]) -> BTreeMap<String, String> {
        sources.iter().map(|(module, code)| ((*module).to_owned(), (*code).to_owned())).collect()
    }

    #[test]
    fn a_planted_circle_is_found() {
        let direct = modules(&[("a", "use crate::b::B;"), ("b", "fn f() { crate::a::g() }")]);
        assert_eq!(circle(&direct), Some(vec!["a".to_owned(), "b".to_owned()]));
        let around =
            modules(&[("a", "use crate::{x, b::{self, B}};"), ("b", "use crate::c;"), ("c", "use crate::{a}")]);
        assert_eq!(circle(&around).map(|circle| circle.len()), Some(3));
        let nested = modules(&[("a", "mod b; use b::B;"), ("a::b", "use super::A;")]);
        assert_eq!(circle(&nested).map(|circle| circle.len()), Some(2));
    }

    #[test]
    fn modules_that_only_use_others_below_them_are_no_circle() {
        let layered = modules(&[("a", "use crate::b::B; use crate::c::C;"), ("b", "use crate::c::C;"), ("c", "")]);
        assert_eq!(circle(&layered), None);
        let root = modules(&[("a", "use crate::Shared; use crate::b;"), ("b", "use crate::Shared; xcrate::a")]);
        assert_eq!(circle(&root), None, "the crate root doesn't count");
    }
}
