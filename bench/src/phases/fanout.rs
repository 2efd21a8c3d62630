//! Each message goes to a thousand sockets.

use super::pair::{MESSAGES, Pair, PairSlice};
use crate::context::Context;
use crate::load::chat::{ChatSlice, DELIVERED};
use crate::options::{Options, Phase};
use crate::report::figures::{Case, System};
use crate::server::{PIPELINE, Program};
use crate::workload::Population;

/// As many members as a conversation may have.
const MEMBERS: u32 = 1_000;
/// Messages a second.
const RATE: u32 = 20;

/// Measures a conversation of which all members are connected.
///
/// # Errors
/// When a process or a service ends.
pub(crate) async fn measure(context: &Context, options: &Options) -> anyhow::Result<Vec<Case>> {
    let population = Population { conversations: 1, members: MEMBERS, connected: MEMBERS };
    let mut pair = Pair::start(context, "fanout", population).await?;
    let seconds = f64::from(options.seconds);
    let PairSlice { messages, pipeline } = pair.measure(RATE, seconds).await?;
    pair.stop().await?;
    let systems =
        vec![frame_figures(MESSAGES, &messages, seconds), frame_figures(Program::Floor(PIPELINE), &pipeline, seconds)];
    Ok(vec![Case { phase: Phase::Fanout, name: format!("{RATE}/s to {MEMBERS} sockets"), systems }])
}

/// The figures of a load in which most of the work is that of the frames.
fn frame_figures(program: Program, measured: &ChatSlice, seconds: f64) -> System {
    let frames = measured.totals.get(DELIVERED).unwrap_or_default();
    System::new(program.to_string())
        .latencies("answered", &measured.answered)
        .latencies("delivered", &measured.delivered)
        .figure("delivered", "frames/s", frames / seconds)
        .costs(&measured.totals, "a frame", frames)
}
