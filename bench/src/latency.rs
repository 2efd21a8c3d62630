//! Many users who send, and a few sockets that receive.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};

use crate::child::Child;
use crate::events::{Shape, content, number_in, user};
use crate::pace::Pace;
use crate::report::{Faults, Latencies, Measured, Progress};
use crate::socket::Socket;
use crate::{Options, Services};

/// How many sockets receive: few, so that receiving isn't what is measured.
const SOCKETS: u32 = 20;
/// How long what was sent may take to arrive once nothing more is sent.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// Sends at a pace, and receives at the same time.
pub(crate) async fn measure(
    services: &Services,
    name: &str,
    shape: Shape,
    options: &Options,
    faults: &Arc<Faults>,
) -> anyhow::Result<Measured> {
    let mut child = Child::start(services, name, "all")?;
    child.ready().await?;
    let senders = Arc::new(Senders::prepare(&child, shape).await?);
    let watched = watched(shape);
    let mut sockets = Vec::with_capacity(watched.len());
    for conversation in &watched {
        let member = shape.members(*conversation).last().context("a conversation has members")?;
        sockets.push(Socket::connect(&child.address, &child.token(&user(member)?)?).await?);
    }
    let pace = Pace::new(options.rate, options.seconds);
    let (answers, frames) = (Arc::new(Latencies::new(pace)), Arc::new(Latencies::new(pace)));
    let mut receiving = JoinSet::new();
    for socket in sockets {
        let (frames, faults) = (frames.clone(), faults.clone());
        receiving.spawn(async move {
            let ended =
                socket.receive(|packet| number_in(packet.as_bytes()).into_iter().for_each(|it| frames.note(it)));
            let how = ended.await.err().map_or_else(|| "closed".to_owned(), |error| error.to_string());
            faults.add(format!("a socket ended: {how}"), 1);
        });
    }
    send(senders, pace, &answers, faults).await?;
    let of_watched = |number: &u64| watched.contains(&shape.conversation_of(shape.sender(*number)));
    let expected = (0..pace.count()).filter(of_watched).count() as u64;
    let deadline = Instant::now() + GRACE;
    while frames.seen() < expected && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    faults.add("frames that never came", expected.saturating_sub(frames.seen()));
    child.check()?;
    // Before the process goes, so that nobody takes its end for a fault.
    receiving.shutdown().await;
    child.stop().await?;
    Ok(Measured { answers: answers.take(), frames: frames.take() })
}

/// The conversations in which somebody receives, evenly among all.
fn watched(shape: Shape) -> Vec<u32> {
    let sockets = SOCKETS.min(shape.conversations);
    (0..sockets).map(|number| number * shape.conversations / sockets).collect()
}

/// Begins a request whenever one is due, then waits for all answers.
async fn send(senders: Arc<Senders>, pace: Pace, answers: &Arc<Latencies>, faults: &Arc<Faults>) -> anyhow::Result<()> {
    let (runtime, progress) = (Handle::current(), Progress::new("Messages", pace.count())?);
    let (answers, faults) = (answers.clone(), faults.clone());
    let begun: Vec<JoinHandle<()>> = tokio::task::spawn_blocking(move || {
        let mut begun = Vec::new();
        pace.run(|number| {
            let (request, answers, faults) = (senders.request(number), answers.clone(), faults.clone());
            begun.push(runtime.spawn(async move {
                match created(request).await {
                    Ok(_) => answers.note(number),
                    Err(error) => faults.add(format!("{error:#}"), 1),
                }
            }));
            progress.show(number);
        });
        begun
    })
    .await?;
    for request in begun {
        request.await?;
    }
    Ok(())
}

/// Sends a request and reads its answer, which has to be a 201.
async fn created(request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
    let answer = request.send().await.map_err(|error| anyhow::anyhow!("a request failed: {}", error.without_url()))?;
    let status = answer.status();
    let body: Value = answer.json().await?;
    anyhow::ensure!(status == 201, "an answer {status} {}", body["code"].as_str().unwrap_or_default());
    Ok(body)
}

/// Users with their tokens, in conversations that are there.
struct Senders {
    shape: Shape,
    http: reqwest::Client,
    url: String,
    tokens: Vec<String>,
    conversations: Vec<String>,
}

impl Senders {
    /// Lets the first user of each conversation begin it.
    async fn prepare(child: &Child, shape: Shape) -> anyhow::Result<Self> {
        let tokens = (0..shape.users).map(|number| child.token(&user(number)?)).collect::<anyhow::Result<_>>()?;
        let mut senders = Self {
            shape,
            http: reqwest::Client::builder().timeout(ANSWER).build()?,
            url: format!("http://{}/api/messages", child.address),
            tokens,
            conversations: Vec::new(),
        };
        for conversation in 0..shape.conversations {
            let members = shape.members(conversation).map(user).collect::<anyhow::Result<Vec<_>>>()?;
            let body = json!({"action": "conversation", "participantIds": members, "title": "A conversation"});
            let begun = created(senders.post(conversation, &body)).await?;
            let id = begun["data"]["id"].as_str().context("a conversation without an id")?;
            senders.conversations.push(id.to_owned());
        }
        Ok(senders)
    }

    fn post(&self, user: u32, body: &Value) -> reqwest::RequestBuilder {
        self.http.post(&self.url).bearer_auth(&self.tokens[user as usize]).json(body)
    }

    fn request(&self, number: u64) -> reqwest::RequestBuilder {
        let sender = self.shape.sender(number);
        let conversation = &self.conversations[self.shape.conversation_of(sender) as usize];
        self.post(sender, &json!({"conversationId": conversation, "content": content(number)}))
    }
}
