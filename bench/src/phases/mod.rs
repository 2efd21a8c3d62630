//! The parts of a run. Each measures Messages and its floors in turns.

mod pair;
mod send;

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
        _ => Ok(Vec::new()),
    }
}
