//! The scripts of `tests/js`: each runs in its own Node process, reads commands as lines of JSON, and prints events as
//! lines of JSON.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Starts a script. Returns its process, its input and its output. The script ends when the process handle is dropped.
pub(crate) fn start(name: &str) -> (Child, ChildStdin, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new("node")
        .arg(format!("{}/js/{name}", env!("CARGO_MANIFEST_DIR")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node can't be started; `make test` installs what it needs");
    let stdin = child.stdin.take().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, stdin, lines)
}
