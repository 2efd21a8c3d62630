//! The metrics that the code counts are the ones that the documentation lists.

use std::collections::BTreeSet;

use super::{is_outside, rust_sources};
use crate::harness::repository::text;

/// The names of the metrics in the code, wherever the macro's line breaks.
fn counted() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in rust_sources().filter(|file| !is_outside(file)) {
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
    assert_eq!(counted(), documented, "left: the metrics in the code; right: those in docs/operations.md");
}
