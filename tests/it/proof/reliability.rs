//! The run of `tests/it/reliability` with several hundred commands a second for as long as each fault takes to come again
//! and again. `docs/reliability.md` shows its report. `MESSAGES_RELIABILITY_FAULTS` chooses the faults whose names contain
//! its value.

use std::time::Duration;

use super::table::{Proof, Row, grouped, scaled};
use crate::harness::checker::Crowd;
use crate::reliability::{Size, survives_every_fault};

/// How long faults go on, in seconds: `MESSAGES_RELIABILITY_SECONDS`.
const SECONDS: u64 = 1_260;
/// How many commands the users send in a second: `MESSAGES_RELIABILITY_RATE`.
const COMMANDS_PER_SECOND: u64 = 200;

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs twenty minutes: make proof"]
async fn nothing_acknowledged_is_lost_doubled_or_hidden_through_minutes_of_faults() {
    let mut proof = Proof::begin("reliability");
    let seconds = setting("MESSAGES_RELIABILITY_SECONDS", scaled(usize::try_from(SECONDS).unwrap()) as u64);
    let rate = setting("MESSAGES_RELIABILITY_RATE", COMMANDS_PER_SECOND);
    let size = Size {
        seed: setting("MESSAGES_SEED", 101),
        commands_per_second: u32::try_from(rate).unwrap(),
        duration: Duration::from_secs(seconds),
        crowd: Crowd { sockets: 90, libraries: 10, groups: 200 },
        only: std::env::var("MESSAGES_RELIABILITY_FAULTS").unwrap_or_default(),
    };
    let report = survives_every_fault(size.clone()).await;
    if let Ok(path) = std::env::var("MESSAGES_PROOF_REPORT") {
        std::fs::write(path, report.to_string()).unwrap();
    }
    let too_long = report.too_long();
    proof.row(Row {
        what: format!("{rate} commands a second while everything fails in turn, seed {}, {}", size.seed, proof.took()),
        figure: format!(
            "{} commands acknowledged, each kept once; {} faults, of which {} were felt for too long: {too_long:?}",
            grouped(report.acknowledged()),
            report.faults(),
            too_long.len()
        ),
        bound: "none for more than 10 s, by the client library 30 s",
        holds: too_long.is_empty(),
    });
    proof.end();
}
