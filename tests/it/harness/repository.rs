//! The repository's files and packages, for the tests that enforce its rules.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every file that git tracks or doesn't ignore, as a path from the root with slashes.
pub(crate) fn files() -> Vec<String> {
    let mut git = Command::new("git");
    // In a container the user often doesn't own the checkout, and git then refuses to read it.
    git.args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = output(git);
    let files = listed.split_terminator('\0').filter(|file| root().join(file).is_file());
    files.map(str::to_owned).collect()
}

/// A file's text, with invalid UTF-8 replaced.
pub(crate) fn text(file: &str) -> String {
    let bytes = std::fs::read(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs cargo and returns its output.
pub(crate) fn cargo(arguments: &[&str]) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(arguments);
    output(cargo)
}

/// Runs `cargo metadata` with these arguments and returns the list of packages.
pub(crate) fn packages(arguments: &[&str]) -> Vec<Value> {
    let printed = cargo(&[&["metadata", "--locked", "--format-version", "1"], arguments].concat());
    let mut metadata: Value = serde_json::from_str(&printed).unwrap();
    serde_json::from_value(metadata["packages"].take()).unwrap()
}

fn output(mut command: Command) -> String {
    let output = command.current_dir(root()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
