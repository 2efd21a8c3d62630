//! Many users send to one conversation, so all messages are on one partition and change the same rows.

use super::pair::Pair;
use crate::context::Context;
use crate::options::{Options, Phase};
use crate::report::figures::Case;
use crate::workload::Population;

/// Who sends in turn.
const MEMBERS: u32 = 100;
/// The sockets that receive: few, because fan-out has its own phase.
const CONNECTED: u32 = 2;
/// Messages a second.
const RATE: u32 = 1_000;

/// Measures one conversation with many senders.
///
/// # Errors
/// When a process or a service ends.
pub(crate) async fn measure(context: &Context, options: &Options) -> anyhow::Result<Vec<Case>> {
    let population = Population { conversations: 1, members: MEMBERS, connected: CONNECTED };
    let mut pair = Pair::start(context, "hot", population).await?;
    let measured = pair.measure(RATE, f64::from(options.seconds)).await?;
    pair.stop().await?;
    let name = format!("{RATE}/s from {MEMBERS} users");
    Ok(vec![Case { phase: Phase::Hot, name, systems: measured.systems() }])
}
