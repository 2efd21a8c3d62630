//! One user does the worst that is allowed, while others send and read: none of them is refused, and their requests
//! take at most three times as long as alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::table::{Proof, Row, grouped};
use crate::harness::http::Request;
use crate::harness::process::ServiceProcess;
use crate::harness::system::{System, config};

/// How many others take turns: each stays far below every limit.
const OTHERS: usize = 80;
/// How long each measurement lasts.
const MEASURE: Duration = Duration::from_secs(10);
/// The pause between two of the others' turns.
const TURN_INTERVAL: Duration = Duration::from_millis(50);
/// How many requests of the one user run at a time.
const AT_ONCE: usize = 8;
/// The pause of each between two requests: 320 a second together, if the system answers at once.
const PAUSE: Duration = Duration::from_millis(25);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a release build and the whole machine: make proof"]
async fn the_worst_that_one_user_may_do_slows_others_at_most_three_times() {
    let mut proof = Proof::begin("neighbours");
    let site = Site::start().await;
    proof.progress("everybody has a conversation");
    // The first requests of a process take longer.
    site.measure_others().await;
    // Alone in turn with each of the worst: together that is what others take alone in this run.
    let (mut alone, mut measured) = (Latencies::default(), Vec::new());
    for (what, request) in site.worst() {
        alone.extend(site.measure_others().await);
        let worst = Worst::start(request);
        let beside = site.measure_others().await;
        measured.push((what, beside, worst.stop().await));
        proof.progress(what);
    }
    for (what, beside, Counts { sent, refused }) in measured {
        let (sends, reads) = ([&alone, &beside].map(|it| p99(&it.sends)), [&alone, &beside].map(|it| p99(&it.reads)));
        proof.row(Row {
            what: format!(
                "others next to a user with {what}: {} requests, {} refused",
                grouped(sent),
                grouped(refused)
            ),
            figure: format!(
                "p99 of a send {:.1} → {:.1} ms, of a page {:.1} → {:.1} ms",
                sends[0], sends[1], reads[0], reads[1]
            ),
            bound: "p99 ≤ 3 × of that alone, no other refused",
            holds: sends[1] <= 3.0 * sends[0] && reads[1] <= 3.0 * reads[0],
        });
    }
    proof.end();
}

type MakeRequest = Arc<dyn Fn(usize) -> Request + Send + Sync>;

/// A system in a process of its own, with the default limits.
struct Site {
    _process: ServiceProcess,
    system: Arc<System>,
    /// The conversation of each of the others.
    conversations: Vec<String>,
    /// A small conversation of the one user, with long messages.
    long: String,
    /// A group of 1,000 people that the one user is in.
    group: String,
    /// Commands with keys that the one user has used.
    used: Vec<(String, Value)>,
}

/// How long requests of others took, in milliseconds.
#[derive(Default)]
struct Latencies {
    sends: Vec<f64>,
    reads: Vec<f64>,
}

impl Latencies {
    fn extend(&mut self, more: Self) {
        self.sends.extend(more.sends);
        self.reads.extend(more.reads);
    }
}

impl Site {
    async fn start() -> Self {
        let mut config = config();
        // Tests usually ask more.
        config.limits.limit_queries = 600;
        let process = ServiceProcess::start(&config, &["all"]).await;
        let system = Arc::new(System::attach(config, &process.url));
        system.wait_until_projecting().await;
        let mut conversations = Vec::new();
        for number in 0..OTHERS {
            let conversation = system.conversation(&other(number), &[&format!("friend-{number}")]).await;
            system.message(&other(number), &conversation, "the first message").await;
            conversations.push(conversation);
        }
        let long = system.conversation("mallory", &["alice"]).await;
        let mut used = Vec::new();
        for number in 0..29 {
            let content = format!("{number} {}", "x".repeat(3_990));
            let (key, body) = (Uuid::now_v7().to_string(), json!({"conversationId": long, "content": content}));
            assert_eq!(system.post_with_key("mallory", &key, body.clone()).await.status, 201);
            used.push((key, body));
        }
        let members: Vec<String> = (0..999).map(|number| format!("member-of-a-large-group-{number}")).collect();
        let members: Vec<&str> = members.iter().map(String::as_str).collect();
        let group = system.conversation("mallory", &members).await;
        system.wait_until_caught_up().await;
        Self { _process: process, system, conversations, long, group, used }
    }

    /// What the one user does, as requests with a number.
    fn worst(&self) -> Vec<(&'static str, MakeRequest)> {
        let ask = {
            let system = self.system.clone();
            move |method: &str, path: &str| system.ask("mallory", method, path)
        };
        let post = {
            let ask = ask.clone();
            move |body: &Value| ask("POST", "/api/messages").json(body)
        };
        let (long, used) = (self.long.clone(), self.used.clone());
        let pages = {
            let (ask, long) = (ask.clone(), long.clone());
            move |number: usize| ask("GET", &format!("/api/messages?conversationId={long}&limit={}", number % 100 + 1))
        };
        let far = {
            let (ask, long) = (ask.clone(), long.clone());
            move |_| {
                let path = format!("/api/messages?conversationId={long}");
                ask("GET", &path).header("Messages-Position", "0:9000000000000000000")
            }
        };
        let typing = json!({"action": "typing_stop", "conversationId": long});
        let mention = json!({"conversationId": self.group, "content": "@".repeat(4_000)});
        let unknown = json!({"conversationId": Uuid::now_v7().to_string(), "content": "hi"});
        let [typing, mention, unknown] = [typing, mention, unknown].map(|body| {
            let post = post.clone();
            Arc::new(move |_| post(&body)) as MakeRequest
        });
        let replay = move |number: usize| {
            let (key, body) = &used[number % used.len()];
            post(body).key(key)
        };
        vec![
            ("pages of every size", Arc::new(pages)),
            ("positions that never come", Arc::new(far)),
            ("typing stops", typing),
            ("4,000 times @ in a group of 1,000", mention),
            ("commands in unknown conversations", unknown),
            ("retries with used keys", Arc::new(replay)),
        ]
    }

    /// Lets the others send and read in turn.
    async fn measure_others(&self) -> Latencies {
        let mut latencies = Latencies::default();
        let until = Instant::now() + MEASURE;
        let mut turns = tokio::time::interval(TURN_INTERVAL);
        for number in 0.. {
            turns.tick().await;
            if Instant::now() >= until {
                break;
            }
            let (user, conversation) = (other(number % OTHERS), &self.conversations[number % OTHERS]);
            let began = Instant::now();
            let sent = self.system.send(&user, conversation, "hello").await;
            latencies.sends.push(began.elapsed().as_secs_f64() * 1_000.0);
            assert_eq!(sent.status, 201, "{sent:?}");
            let began = Instant::now();
            let read = self.system.get(&user, &format!("/api/messages?conversationId={conversation}")).await;
            latencies.reads.push(began.elapsed().as_secs_f64() * 1_000.0);
            assert_eq!(read.status, 200, "{read:?}");
        }
        latencies
    }
}

fn other(number: usize) -> String {
    format!("other-{number}")
}

/// Only one in a hundred is larger.
fn p99(latencies: &[f64]) -> f64 {
    let mut latencies = latencies.to_vec();
    latencies.sort_by(f64::total_cmp);
    latencies[latencies.len() * 99 / 100]
}

/// The requests of the one user.
struct Worst {
    stop: CancellationToken,
    running: Vec<tokio::task::JoinHandle<Counts>>,
}

#[derive(Default)]
struct Counts {
    sent: usize,
    refused: usize,
}

impl Worst {
    fn start(request: MakeRequest) -> Self {
        let stop = CancellationToken::new();
        let numbers = Arc::new(AtomicUsize::new(0));
        let run = |_| {
            let (request, stop, numbers) = (request.clone(), stop.clone(), numbers.clone());
            tokio::spawn(async move {
                let mut counts = Counts::default();
                while !stop.is_cancelled() {
                    let response = request(numbers.fetch_add(1, Ordering::Relaxed)).send().await;
                    counts.sent += 1;
                    counts.refused += usize::from(response.status == 429);
                    tokio::time::sleep(PAUSE).await;
                }
                counts
            })
        };
        let running = (0..AT_ONCE).map(run).collect();
        Self { stop, running }
    }

    /// Stops, and returns what they came to.
    async fn stop(self) -> Counts {
        self.stop.cancel();
        let mut total = Counts::default();
        for running in self.running {
            let Counts { sent, refused } = running.await.unwrap();
            (total.sent, total.refused) = (total.sent + sent, total.refused + refused);
        }
        assert!(total.sent > 0, "nothing happened next to the others");
        total
    }
}
