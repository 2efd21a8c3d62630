//! The memory of idle sockets, and what a process keeps after sockets have come and gone.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::pair::{MESSAGES, start_messages, start_pipeline};
use crate::context::Context;
use crate::latency::Latencies;
use crate::load::chat::Chat;
use crate::load::conversations;
use crate::load::socket::Socket;
use crate::observer::Observer;
use crate::options::Phase;
use crate::proc::usage::PROCESS;
use crate::progress::Progress;
use crate::report::figures::{Case, System};
use crate::server::{PIPELINE, Program, SOCKETS, Server};
use crate::workload::{Population, user_id};

/// The first sockets, whose memory includes what a process allocates only once.
const FIRST_SOCKETS: u32 = 1_000;
/// All idle sockets, if the limit of open files allows them.
const IDLE_SOCKETS: u32 = 10_000;
/// The files that this process may have open beside the sockets.
const OTHER_FILES: u64 = 500;
/// How many sockets connect at a time.
const CONNECTING: usize = 32;
/// How long a process settles before its memory is read.
const SETTLE: Duration = Duration::from_secs(3);

/// The sockets that come and go.
const PASSING_SOCKETS: u32 = 4_000;
/// Messages a second, and for how many seconds, before the sockets come and while they are there.
const RATE: u32 = 1_000;
const SECONDS: f64 = 4.0;
/// How long a process has to give memory back after the sockets have gone. Rooms stay for a few seconds.
const GIVE_BACK: Duration = Duration::from_secs(15);

/// Measures both.
///
/// # Errors
/// When a process or a service ends.
pub(crate) async fn measure(context: &Context) -> anyhow::Result<Vec<Case>> {
    let mut idle = Vec::new();
    for program in [MESSAGES, Program::Floor(SOCKETS)] {
        idle.push(measure_idle(context, program).await?);
    }
    let population = Population { conversations: PASSING_SOCKETS / 2, members: 2, connected: 2 };
    let messages = start_messages(context, "passing", population).await?;
    let messages = measure_passing(messages, MESSAGES).await?;
    let pipeline = start_pipeline(context, "passing", population).await?;
    let pipeline = measure_passing(pipeline, Program::Floor(PIPELINE)).await?;
    Ok(vec![
        Case { phase: Phase::Sockets, name: format!("up to {} idle", idle_sockets()), systems: idle },
        Case {
            phase: Phase::Sockets,
            name: format!("{PASSING_SOCKETS} come and go"),
            systems: vec![messages, pipeline],
        },
    ])
}

/// As many sockets as this process and the measured one may open.
fn idle_sockets() -> u32 {
    // At the start, the program has raised it as far as the system allows.
    let files = rlimit::Resource::NOFILE.get_soft().unwrap_or_default();
    u32::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(u32::MAX).clamp(FIRST_SOCKETS, IDLE_SOCKETS)
}

/// Connects users of conversations of two, who then do nothing.
async fn measure_idle(context: &Context, program: Program) -> anyhow::Result<System> {
    let name = context.create_topic(&format!("idle_{}", program.purpose())).await?;
    let server = Server::start(program, &context.services, &name).await?;
    let users = idle_sockets();
    if program == MESSAGES {
        conversations::create(&server, (0..users / 2).map(|pair| vec![2 * pair, 2 * pair + 1]).collect()).await?;
    }
    let observer = Observer::new(&context.services, &server);
    tokio::time::sleep(SETTLE).await;
    let none = observer.resident_mib();
    let progress = Progress::new(format!("idle sockets, {program}"), users.into())?;
    let mut idle = IdleSockets { server: &server, sockets: JoinSet::new(), latencies: Latencies::default() };
    idle.connect(0..FIRST_SOCKETS).await?;
    progress.update(FIRST_SOCKETS.into());
    tokio::time::sleep(SETTLE).await;
    let first = observer.resident_mib();
    let cpu_before = observer.cpu_times().await?;
    idle.connect(FIRST_SOCKETS..users).await?;
    let further = f64::from(users - FIRST_SOCKETS);
    let cpu = observer.cpu_times().await?.since(&cpu_before).get(PROCESS);
    tokio::time::sleep(SETTLE).await;
    let all = observer.resident_mib();
    let ended = std::iter::from_fn(|| idle.sockets.try_join_next()).count();
    context.failures.add("idle sockets that ended", ended as u64);
    let system = System::new(program.to_string())
        .figure("memory without sockets", "MiB", none)
        .figure(&format!("memory with {FIRST_SOCKETS} sockets"), "MiB", first)
        .figure(&format!("memory with {users} sockets"), "MiB", all)
        .figure("memory of each further socket", "KiB", per_socket(first, all, further))
        .latencies("connected", &idle.latencies)
        .figure(PROCESS, "ms a connect", cpu.filter(|_| further > 0.0).map(|cpu| cpu / further));
    server.kill().await?;
    Ok(system)
}

fn per_socket(first: Option<f64>, all: Option<f64>, further: f64) -> Option<f64> {
    Some((all? - first?) * 1_024.0 / further).filter(|_| further > 0.0)
}

/// Sockets that receive nothing.
struct IdleSockets<'a> {
    server: &'a Server,
    /// Each ends when its socket does.
    sockets: JoinSet<anyhow::Result<()>>,
    latencies: Latencies,
}

impl IdleSockets<'_> {
    /// Connects these users, each to a room of its own.
    async fn connect(&mut self, users: std::ops::Range<u32>) -> anyhow::Result<()> {
        let (address, server) = (self.server.address.to_string(), self.server);
        let connecting = users.map(|user| {
            let address = &address;
            async move {
                let (token, room) = (server.token(&user_id(user)?)?, Uuid::now_v7().to_string());
                let started = Instant::now();
                let socket = Socket::connect(address, &token, &room).await?;
                anyhow::Ok((socket, started.elapsed()))
            }
        });
        let connected: Vec<_> =
            futures_util::stream::iter(connecting).buffer_unordered(CONNECTING).try_collect().await?;
        for (socket, latency) in connected {
            self.latencies.record(latency);
            self.sockets.spawn(socket.receive(|_| {}));
        }
        Ok(())
    }
}

/// Compares the memory before sockets come and after they have gone, each time after some traffic.
async fn measure_passing(mut chat: Chat, program: Program) -> anyhow::Result<System> {
    chat.measure(RATE, SECONDS).await?;
    tokio::time::sleep(SETTLE).await;
    let before = chat.observer.resident_mib();
    chat.connect().await?;
    chat.measure(RATE, SECONDS).await?;
    let during = chat.observer.resident_mib();
    chat.disconnect().await;
    tokio::time::sleep(GIVE_BACK).await;
    let after = chat.observer.resident_mib();
    chat.stop().await?;
    let share = before.zip(after).map(|(before, after)| after / before);
    Ok(System::new(program.to_string())
        .figure("memory before", "MiB", before)
        .figure("memory meanwhile", "MiB", during)
        .figure("memory afterwards", "MiB", after)
        .figure("memory afterwards", "times before", share))
}
