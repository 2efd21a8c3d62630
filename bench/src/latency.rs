//! Measures the latencies of Messages: many users send over HTTP, and a few sockets receive.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};

use crate::messages_process::MessagesProcess;
use crate::options::{Options, Services};
use crate::report::{Failures, Latencies, LatencyRecorder, Progress};
use crate::schedule::{ARRIVAL_TIMEOUT, Schedule};
use crate::socket::Socket;
use crate::workload::{Population, content, number_in, user_id};

/// The number of sockets: few, because receiving must not become what is measured.
const SOCKETS: u32 = 20;
/// How long a response may take.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Sends on schedule and receives at the same time.
pub(crate) async fn measure(
    services: &Services,
    name: &str,
    population: Population,
    options: &Options,
    failures: &Arc<Failures>,
) -> anyhow::Result<Latencies> {
    let mut messages = MessagesProcess::start(services, name, "all")?;
    messages.ready().await?;
    let senders = Arc::new(Senders::prepare(&messages, population).await?);
    let watched = watched_conversations(population);
    let mut sockets = Vec::with_capacity(watched.len());
    for conversation in &watched {
        let member = population.members(*conversation).last().context("a conversation has members")?;
        sockets.push(Socket::connect(&messages.address, &messages.token(&user_id(member)?)?).await?);
    }
    let schedule = Schedule::new(options.rate, options.seconds);
    let responses = Arc::new(LatencyRecorder::new(schedule));
    let frames = Arc::new(LatencyRecorder::new(schedule));
    let mut receivers = JoinSet::new();
    for socket in sockets {
        receivers.spawn(receive(socket, frames.clone(), failures.clone()));
    }
    send(senders, schedule, &responses, failures).await?;
    let is_watched = |number: &u64| watched.contains(&population.conversation_of(population.sender(*number)));
    let expected = (0..schedule.count()).filter(is_watched).count() as u64;
    let deadline = Instant::now() + ARRIVAL_TIMEOUT;
    while frames.recorded() < expected && Instant::now() < deadline {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    failures.add("frames that never arrived", expected.saturating_sub(frames.recorded()));
    messages.ensure_running()?;
    // Before the process ends: its end would count as a failure of each socket.
    receivers.shutdown().await;
    messages.kill().await?;
    Ok(Latencies { responses: responses.take(), frames: frames.take() })
}

/// The conversations that have a socket, evenly spread over all.
fn watched_conversations(population: Population) -> Vec<u32> {
    let sockets = SOCKETS.min(population.conversations);
    (0..sockets).map(|number| number * population.conversations / sockets).collect()
}

/// Records each frame until the socket ends, which is a failure.
async fn receive(socket: Socket, frames: Arc<LatencyRecorder>, failures: Arc<Failures>) {
    let received = socket.receive(|packet| {
        if let Some(number) = number_in(packet.as_bytes()) {
            frames.record(number);
        }
    });
    let reason = received.await.err().map_or_else(|| "closed".to_owned(), |error| error.to_string());
    failures.add(format!("a socket ended: {reason}"), 1);
}

/// Starts each request when it is due, then waits for all responses.
async fn send(
    senders: Arc<Senders>,
    schedule: Schedule,
    responses: &Arc<LatencyRecorder>,
    failures: &Arc<Failures>,
) -> anyhow::Result<()> {
    let (runtime, progress) = (Handle::current(), Progress::new("Messages", schedule.count())?);
    let (responses, failures) = (responses.clone(), failures.clone());
    let requests: Vec<JoinHandle<()>> = tokio::task::spawn_blocking(move || {
        let mut requests = Vec::new();
        schedule.run(|number| {
            let (request, responses, failures) = (senders.request(number), responses.clone(), failures.clone());
            requests.push(runtime.spawn(async move {
                match created(request).await {
                    Ok(_) => responses.record(number),
                    Err(error) => failures.add(format!("{error:#}"), 1),
                }
            }));
            progress.update(number);
        });
        requests
    })
    .await?;
    for request in requests {
        request.await?;
    }
    Ok(())
}

/// Sends a request and returns the body of its response, which must be a 201.
async fn created(request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
    let response =
        request.send().await.map_err(|error| anyhow::anyhow!("a request failed: {}", error.without_url()))?;
    let status = response.status();
    let body: Value = response.json().await?;
    let code = body["code"].as_str().unwrap_or_default();
    anyhow::ensure!(status == 201, "a response with status {status} {code}");
    Ok(body)
}

/// Users with their tokens, in existing conversations.
struct Senders {
    population: Population,
    http: reqwest::Client,
    url: String,
    tokens: Vec<String>,
    conversations: Vec<String>,
}

impl Senders {
    /// Creates the conversations: each by its first user.
    async fn prepare(messages: &MessagesProcess, population: Population) -> anyhow::Result<Self> {
        let tokens =
            (0..population.users).map(|number| messages.token(&user_id(number)?)).collect::<anyhow::Result<_>>()?;
        let mut senders = Self {
            population,
            http: reqwest::Client::builder().timeout(RESPONSE_TIMEOUT).build()?,
            url: format!("http://{}/api/messages", messages.address),
            tokens,
            conversations: Vec::new(),
        };
        for conversation in 0..population.conversations {
            let members = population.members(conversation).map(user_id).collect::<anyhow::Result<Vec<_>>>()?;
            let body = json!({"action": "conversation", "participantIds": members, "title": "A conversation"});
            let response = created(senders.post(conversation, &body)).await?;
            let id = response["data"]["id"].as_str().context("a conversation without an id")?;
            senders.conversations.push(id.to_owned());
        }
        Ok(senders)
    }

    fn post(&self, user: u32, body: &Value) -> reqwest::RequestBuilder {
        self.http.post(&self.url).bearer_auth(&self.tokens[user as usize]).json(body)
    }

    fn request(&self, number: u64) -> reqwest::RequestBuilder {
        let sender = self.population.sender(number);
        let conversation = &self.conversations[self.population.conversation_of(sender) as usize];
        self.post(sender, &json!({"conversationId": conversation, "content": content(number)}))
    }
}
