//! Which lints are on.

use super::crates::MAY_DEPEND_ON;
use crate::harness::repository::text;

/// The lines of a TOML file's section.
fn section(file: &str, header: &str) -> Vec<String> {
    let text = text(file);
    let after = text.lines().skip_while(|line| *line != header).skip(1);
    after.take_while(|line| !line.starts_with('[')).map(str::to_owned).collect()
}

#[test]
fn clippy_checks_the_rest() {
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
    for (member, _) in MAY_DEPEND_ON {
        let own = section(&format!("{member}/Cargo.toml"), "[lints]");
        assert!(
            own.iter().any(|line| line == "workspace = true"),
            "{member}/Cargo.toml needs [lints] workspace = true"
        );
    }
}
