//! A chat under load: many users send over HTTP, and the sockets of their conversations receive.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::open_loop::OpenLoop;
use super::socket::Socket;
use super::{conversations, http};
use crate::context::Context;
use crate::counters;
use crate::failures::Failures;
use crate::latency::{Latencies, LatencyRecorder};
use crate::observer::Observer;
use crate::progress::Progress;
use crate::schedule::Schedule;
use crate::server::{Program, Server};
use crate::totals::Totals;
use crate::workload::{Population, content, number_in, set_number, user_id};

/// How many sockets connect at a time.
const CONNECTING_SOCKETS: usize = 32;
/// How long the last responses and frames may take once all messages are sent.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How often the progress is shown, in messages.
const PROGRESS_INTERVAL: u64 = 64;

/// The totals that a chat counts itself.
pub(crate) const ANSWERED: &str = "messages answered";
pub(crate) const DELIVERED: &str = "frames delivered";

/// What a slice of the load measured.
#[derive(Default)]
pub(crate) struct ChatSlice {
    /// From when a message was due to its 201.
    pub(crate) answered: Latencies,
    /// From when a message was due to each frame.
    pub(crate) delivered: Latencies,
    /// CPU times and counters of the measured seconds.
    pub(crate) totals: Totals,
}

impl ChatSlice {
    /// Adds another slice of the same measurement.
    pub(crate) fn add(&mut self, other: &Self) {
        self.answered.add(&other.answered);
        self.delivered.add(&other.delivered);
        self.totals.add(&other.totals);
    }
}

/// The recorders of the slice under way.
struct Recorders {
    answered: LatencyRecorder,
    delivered: LatencyRecorder,
    refused: AtomicU64,
}

/// The slice under way, which the sockets of all slices record into.
type CurrentSlice = Arc<Mutex<Option<Arc<Recorders>>>>;

/// A process with users, their conversations, and sockets once they are connected.
pub(crate) struct Chat {
    server: Server,
    pub(crate) observer: Observer,
    program: Program,
    population: Population,
    conversations: Vec<String>,
    /// A request of each user, for any message.
    requests: Arc<Vec<Vec<u8>>>,
    current: CurrentSlice,
    /// The connected sockets.
    receivers: JoinSet<()>,
    next_number: u64,
    failures: Arc<Failures>,
}

impl Chat {
    /// Starts the process and creates the conversations.
    ///
    /// # Errors
    /// When either fails.
    pub(crate) async fn start(
        context: &Context,
        program: Program,
        name: &str,
        population: Population,
    ) -> anyhow::Result<Self> {
        let server = Server::start(program, &context.services, name).await?;
        let conversations = match program {
            Program::Messages(_) => {
                let members = (0..population.conversations).map(|it| population.members_of(it).collect());
                conversations::create(&server, members.collect()).await?
            }
            Program::Floor(_) => (0..population.conversations).map(|_| Uuid::now_v7().to_string()).collect(),
        };
        let requests = (0..population.users()).map(|user| {
            let conversation = &conversations[population.conversation_of(user) as usize];
            let body = json!({"conversationId": conversation, "content": content(0)});
            Ok(http::post("/api/messages", &server.token(&user_id(user)?)?, &body.to_string()))
        });
        let requests = Arc::new(requests.collect::<anyhow::Result<_>>()?);
        Ok(Self {
            observer: Observer::new(&context.services, &server),
            server,
            program,
            population,
            conversations,
            requests,
            current: CurrentSlice::default(),
            receivers: JoinSet::new(),
            next_number: 0,
            failures: context.failures.clone(),
        })
    }

    /// Connects the sockets of the users who have one.
    ///
    /// # Errors
    /// When the process refuses one.
    pub(crate) async fn connect(&mut self) -> anyhow::Result<()> {
        let address = self.server.address.to_string();
        let (population, server) = (self.population, &self.server);
        let connecting = (0..population.conversations)
            .flat_map(|conversation| population.connected_of(conversation).map(move |user| (conversation, user)))
            .map(|(conversation, user)| {
                let (address, room) = (&address, &self.conversations[conversation as usize]);
                async move { Socket::connect(address, &server.token(&user_id(user)?)?, room).await }
            });
        let sockets: Vec<Socket> =
            futures_util::stream::iter(connecting).buffer_unordered(CONNECTING_SOCKETS).try_collect().await?;
        for socket in sockets {
            self.receivers.spawn(receive(socket, self.current.clone(), self.failures.clone()));
        }
        Ok(())
    }

    /// Disconnects all sockets.
    pub(crate) async fn disconnect(&mut self) {
        self.receivers.shutdown().await;
    }

    /// Sends `rate` messages a second for the warm-up and then for `seconds`.
    ///
    /// # Errors
    /// When the process ends.
    pub(crate) async fn measure(&mut self, rate: u32, seconds: f64) -> anyhow::Result<ChatSlice> {
        let schedule = Schedule::new(rate, seconds, self.next_number);
        let numbers = schedule.numbers();
        self.next_number = numbers.end;
        let recorders = Arc::new(Recorders {
            answered: LatencyRecorder::new(schedule.clone()),
            delivered: LatencyRecorder::new(schedule.clone()),
            refused: AtomicU64::new(0),
        });
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(recorders.clone());
        let open_loop = self.open_loop(&recorders);
        let (requests, population) = (self.requests.clone(), self.population);
        let progress = Progress::new(format!("{rate}/s, {}", self.program), numbers.end - numbers.start)?;
        let sending = tokio::task::spawn_blocking({
            let schedule = schedule.clone();
            move || {
                schedule.run(|number| {
                    let mut request = requests[population.sender(number) as usize].clone();
                    set_number(&mut request, number);
                    open_loop.send((number, request));
                    if number.is_multiple_of(PROGRESS_INTERVAL) {
                        progress.update(number - numbers.start);
                    }
                });
            }
        });
        let totals = self.observe(&schedule, &recorders).await?;
        sending.await?;
        self.drain(&schedule, &recorders).await?;
        Ok(ChatSlice { answered: recorders.answered.take(), delivered: recorders.delivered.take(), totals })
    }

    fn open_loop(&self, recorders: &Arc<Recorders>) -> OpenLoop {
        let (recorders, failures) = (recorders.clone(), self.failures.clone());
        let on_response = move |number: u64, response: http::ResponseHead, body: &[u8]| {
            if response.status == 201 {
                recorders.answered.record(number);
            } else {
                recorders.refused.fetch_add(1, Ordering::Relaxed);
                failures.add(http::unexpected(response.status, body), 1);
            }
        };
        OpenLoop::new(self.server.address, self.failures.clone(), Box::new(on_response))
    }

    /// Measures what the measured seconds cost.
    async fn observe(&self, schedule: &Schedule, recorders: &Recorders) -> anyhow::Result<Totals> {
        tokio::time::sleep_until(schedule.measured_from().into()).await;
        // The reading of the counters itself costs CPU time, so it stays outside of the measured time.
        let counters_before = self.counters(recorders).await;
        let cpu_before = self.cpu_times(recorders).await?;
        tokio::time::sleep_until(schedule.end().into()).await;
        let mut totals = self.cpu_times(recorders).await?.since(&cpu_before);
        let answered = totals.get(ANSWERED).unwrap_or_default();
        let counted = self.counters(recorders).await.since(&counters_before);
        // More messages were answered while the counters were read.
        let share = answered / counted.get(ANSWERED).unwrap_or(answered).max(1.0);
        for name in counters::names() {
            totals.set(name, counted.get(name).map(|value| value * share));
        }
        Ok(totals)
    }

    async fn counters(&self, recorders: &Recorders) -> Totals {
        let mut totals = self.observer.counters().await;
        totals.set(ANSWERED, recorders.answered.recorded() as f64);
        totals
    }

    async fn cpu_times(&self, recorders: &Recorders) -> anyhow::Result<Totals> {
        let mut totals = self.observer.cpu_times().await?;
        totals.set(ANSWERED, recorders.answered.recorded() as f64);
        totals.set(DELIVERED, recorders.delivered.recorded() as f64);
        Ok(totals)
    }

    /// Waits for the last responses and frames, and counts those that never come.
    async fn drain(&mut self, schedule: &Schedule, recorders: &Recorders) -> anyhow::Result<()> {
        let sent = schedule.numbers().end - schedule.numbers().start;
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let sockets_of_each = u64::from(if self.receivers.is_empty() { 0 } else { self.population.connected });
        loop {
            let answered = recorders.answered.recorded();
            let unanswered = sent.saturating_sub(answered + recorders.refused.load(Ordering::Relaxed));
            let expected = answered * sockets_of_each;
            let undelivered = expected.saturating_sub(recorders.delivered.recorded());
            if unanswered + undelivered == 0 || Instant::now() > deadline {
                self.failures.add("requests that were never answered", unanswered);
                self.failures.add("frames that never arrived", undelivered);
                return self.server.ensure_running();
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Ends the process.
    ///
    /// # Errors
    /// When it can't be killed.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        // Before the process ends: its end would count as a failure of each socket.
        self.disconnect().await;
        self.server.kill().await
    }
}

/// Records each frame until the socket ends, which is a failure.
async fn receive(socket: Socket, current: CurrentSlice, failures: Arc<Failures>) {
    let received = socket.receive(|packet| {
        let recorders = current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (Some(recorders), Some(number)) = (recorders, number_in(packet.as_bytes())) {
            recorders.delivered.record(number);
        }
    });
    let reason = received.await.err().map_or_else(|| "closed".to_owned(), |error| error.to_string());
    failures.add(format!("a socket ended: {reason}"), 1);
}
