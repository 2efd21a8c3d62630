//! The same load on Messages and on the bare pipeline, in turns.

use std::time::Duration;

use crate::context::Context;
use crate::load::chat::{ANSWERED, Chat, ChatSlice};
use crate::report::figures::System;
use crate::server::{self, PIPELINE, Program};
use crate::workload::Population;

/// How many slices each of the two gets.
pub(crate) const SLICES: u32 = 2;
/// The pause before each slice, in which the slice before it comes to an end in Postgres and Redis.
const PAUSE: Duration = Duration::from_secs(1);

/// What the two measured in the same slices.
#[derive(Default)]
pub(crate) struct PairSlice {
    pub(crate) messages: ChatSlice,
    pub(crate) pipeline: ChatSlice,
}

impl PairSlice {
    /// Adds further slices.
    pub(crate) fn add(&mut self, other: &Self) {
        self.messages.add(&other.messages);
        self.pipeline.add(&other.pipeline);
    }

    /// The figures of both, for a load in which most of the work is that of the messages.
    pub(crate) fn systems(&self) -> Vec<System> {
        vec![message_figures(MESSAGES, &self.messages), message_figures(Program::Floor(PIPELINE), &self.pipeline)]
    }
}

/// Messages with all services in one process.
pub(crate) const MESSAGES: Program = Program::Messages("all");

/// Messages and the bare pipeline, both running.
pub(crate) struct Pair {
    messages: Chat,
    pipeline: Chat,
}

impl Pair {
    /// Starts both with the same population, and connects its sockets.
    ///
    /// # Errors
    /// When either doesn't start.
    pub(crate) async fn start(context: &Context, purpose: &str, population: Population) -> anyhow::Result<Self> {
        let mut pair = Self {
            messages: start_messages(context, purpose, population).await?,
            pipeline: start_pipeline(context, purpose, population).await?,
        };
        pair.messages.connect().await?;
        pair.pipeline.connect().await?;
        Ok(pair)
    }

    /// Sends `rate` messages a second to both for `seconds` each, in slices that alternate.
    ///
    /// # Errors
    /// When either process ends.
    pub(crate) async fn measure(&mut self, rate: u32, seconds: f64) -> anyhow::Result<PairSlice> {
        let mut measured = PairSlice::default();
        for _ in 0..SLICES {
            measured.add(&self.measure_slice(rate, seconds / f64::from(SLICES)).await?);
        }
        Ok(measured)
    }

    /// Measures one slice of each.
    ///
    /// # Errors
    /// When either process ends.
    pub(crate) async fn measure_slice(&mut self, rate: u32, seconds: f64) -> anyhow::Result<PairSlice> {
        tokio::time::sleep(PAUSE).await;
        let messages = self.messages.measure(rate, seconds).await?;
        tokio::time::sleep(PAUSE).await;
        Ok(PairSlice { messages, pipeline: self.pipeline.measure(rate, seconds).await? })
    }

    /// Ends both processes.
    ///
    /// # Errors
    /// When one can't be killed.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.messages.stop().await?;
        self.pipeline.stop().await
    }
}

/// Starts Messages, with nobody connected.
///
/// # Errors
/// When it doesn't start.
pub(crate) async fn start_messages(context: &Context, purpose: &str, population: Population) -> anyhow::Result<Chat> {
    let name = context.create_topic(&format!("{purpose}_messages")).await?;
    Chat::start(context, MESSAGES, &name, population).await
}

/// Starts the bare pipeline, with nobody connected.
///
/// # Errors
/// When it doesn't start.
pub(crate) async fn start_pipeline(context: &Context, purpose: &str, population: Population) -> anyhow::Result<Chat> {
    let name = context.create_topic(&format!("{purpose}_pipeline")).await?;
    server::migrate(&context.services, &name).await?;
    Chat::start(context, Program::Floor(PIPELINE), &name, population).await
}

fn message_figures(program: Program, measured: &ChatSlice) -> System {
    System::new(program.to_string())
        .latencies("answered", &measured.answered)
        .latencies("delivered", &measured.delivered)
        .costs(&measured.totals, "a message", measured.totals.get(ANSWERED).unwrap_or_default())
}
