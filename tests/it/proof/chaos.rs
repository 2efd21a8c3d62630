//! The scenario of `tests/it/chaos.rs` with other seeds, for minutes.

use super::table::{Proof, Row, grouped, scaled};
use crate::chaos::keeps_every_acknowledged_command_once;

/// How often two runs of the scenario take place, side by side.
const ROUNDS: usize = 4;
/// How many commands each of a run's users sends.
const COMMANDS: usize = 300;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs minutes: make proof"]
async fn every_acknowledged_command_is_kept_once_through_minutes_of_faults() {
    let mut proof = Proof::begin("chaos");
    let (mut acknowledged, mut faults) = (0, 0);
    for round in 0..ROUNDS as u64 {
        let seed = 101 + 2 * round;
        let with_seed = |seed| keeps_every_acknowledged_command_once(seed, scaled(COMMANDS));
        for run in <[_; 2]>::from(tokio::join!(with_seed(seed), with_seed(seed + 1))) {
            acknowledged += run.acknowledged;
            faults += run.faults;
        }
        proof.progress(&format!("seeds {seed} and {}: {acknowledged} commands so far", seed + 1));
    }
    proof.row(Row {
        what: format!(
            "random commands of 4 users on two nodes, {} seeds, {} faults (cut connections, Redis gone or emptied, a \
             node killed), {}",
            2 * ROUNDS,
            grouped(faults),
            proof.took()
        ),
        figure: format!(
            "{} acknowledged, each on the log, in the read model and in the cache once",
            grouped(acknowledged)
        ),
        bound: "all of them",
        holds: true,
    });
    proof.end();
}
