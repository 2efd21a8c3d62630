//! The scenario of `tests/it/client_sync.rs` with other seeds, for minutes.

use super::table::{Proof, Row, grouped, scaled};
use crate::client_sync::clients_end_with_the_servers_state;

const SEEDS: usize = 40;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs minutes: make proof"]
async fn clients_end_with_the_servers_state_through_minutes_of_faults() {
    let mut proof = Proof::begin("sockets");
    let seeds = scaled(SEEDS);
    let mut commands = 0;
    for seed in (101..).step_by(2).take(seeds) {
        commands += clients_end_with_the_servers_state(seed).await;
        proof.progress(&format!("seed {seed}: {commands} commands so far"));
    }
    proof.row(Row {
        what: format!(
            "8 clients on two realtime nodes, {seeds} seeds, {} commands, connections cut and stalled, a node killed, {}",
            grouped(commands),
            proof.took()
        ),
        figure: "every client's store equals the server's state, no event took effect twice".to_owned(),
        bound: "every client",
        holds: true,
    });
    proof.end();
}
