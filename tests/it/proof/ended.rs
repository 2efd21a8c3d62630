//! A command of the executable, from its start to its end.

use std::process::Stdio;
use std::time::{Duration, Instant};

use service::config::Config;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::harness::process::command;

/// A command that has ended.
pub(super) struct Ended {
    pub(super) took: Duration,
    pub(super) log: String,
    /// The most memory that it had at a time.
    pub(super) peak_bytes: u64,
}

impl Ended {
    /// Runs a command, which must succeed.
    pub(super) async fn run(config: &Config, arguments: &[&str]) -> Self {
        let began = Instant::now();
        let mut command = command(config, arguments);
        command.env("LOG", "info").stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let status = format!("/proc/{}/status", child.id().unwrap());
        let watching = tokio::spawn(async move {
            let mut peak = 0;
            while let Ok(status) = std::fs::read_to_string(&status) {
                let high = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                let kilobytes = high.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
                peak = peak.max(kilobytes.unwrap_or(0) << 10);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            peak
        });
        let output = child.wait_with_output().await.unwrap();
        let (took, log) = (began.elapsed(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{arguments:?}: {log}");
        let peak_bytes = watching.await.unwrap();
        Self { took, log, peak_bytes }
    }

    /// When the log says that a step begins.
    fn began(&self, step: &str) -> OffsetDateTime {
        let line = self.log.lines().find(|line| line.ends_with(step)).unwrap_or_else(|| panic!("{step}: {}", self.log));
        OffsetDateTime::parse(line.split(' ').next().unwrap(), &Rfc3339).unwrap()
    }

    pub(super) fn seconds_between(&self, step: &str, next: &str) -> f64 {
        (self.began(next) - self.began(step)).as_seconds_f64()
    }
}
