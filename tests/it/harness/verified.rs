//! What `messages verify` finds.

use std::collections::BTreeSet;

use service::config::Config;

use super::process::command;

/// What `messages verify` printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) code: Option<i32>,
    pub(crate) printed: String,
    pub(crate) complained: String,
}

impl Verified {
    pub(crate) async fn run(config: &Config) -> Self {
        let output = command(config, &["verify"]).output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code(), printed: text(&output.stdout), complained: text(&output.stderr) }
    }

    /// The differences, without the sign before each.
    pub(crate) fn differences(&self) -> BTreeSet<&str> {
        let lines = self.printed.lines().take_while(|line| !line.is_empty());
        lines.filter_map(|line| line.strip_prefix("✗ ")).collect()
    }
}
