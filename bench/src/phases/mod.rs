//! The parts of a run. Each measures Messages and its floors in turns.

mod fanout;
mod hot;
mod pair;
mod projector;
mod reads;
mod send;
mod sockets;

use crate::context::Context;
use crate::options::{Options, Phase};
use crate::report::figures::Case;

/// Runs a phase.
///
/// # Errors
/// When it can't be measured at all. Single failures are only counted.
pub(crate) async fn run(phase: Phase, context: &Context, options: &Options) -> anyhow::Result<Vec<Case>> {
    match phase {
        Phase::Send => send::measure(context, options).await,
        Phase::Reads => reads::measure(context, options).await,
        Phase::Sockets => sockets::measure(context).await,
        Phase::Fanout => fanout::measure(context, options).await,
        Phase::Hot => hot::measure(context, options).await,
        Phase::Projector => projector::measure(context, options).await,
    }
}
