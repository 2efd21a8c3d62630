//! A sync through 400 groups of 1,000 people that all changed: what a page reads, and what it costs others when one user
//! runs eight of them in a loop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::event::{MessageSent, MessageType};
use domain::sync_cursor::SyncCursor;
use domain::{ConversationId, Event, EventData, EventId, MessageId, PositionVector, Timestamp, UserId};
use read_model::{ReadModel, SyncOutcome};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::table::{Proof, Row, grouped, scaled};
use crate::harness::buffers::BufferCount;
use crate::harness::log::{self, NewRecord};
use crate::harness::process::ServiceProcess;
use crate::harness::system::{System, config, eventually, unlimited};
use crate::heavy_groups::{PARTICIPANTS, group};

const GROUPS: usize = 400;
/// In how many of the groups the second user is.
const FEW_GROUPS: usize = 100;
const PARTITIONS: i32 = 12;
/// How many people write in each group.
const WRITERS: usize = 5;
/// How many others read it.
const READERS: usize = 20;
/// What changes in each group: the group, its messages, and the read marks. Who writes has read everything.
const CHANGES: usize = 1 + WRITERS + WRITERS + READERS;
const PAGE: usize = 100;
/// How many loops one user runs.
const LOOPS: usize = 8;
/// How much of a response a client looks at, in bytes: the end of a page has the token of the next.
const END: usize = 1_000;
/// How often others are measured without the loops and next to them, in turn.
const ROUNDS: usize = 4;
/// How long each time.
const MEASURE: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a release build and the whole machine: make proof"]
async fn a_page_costs_the_same_in_hundreds_of_groups_and_loops_of_one_user_hardly_slow_others() {
    let mut proof = Proof::begin("sync");
    let site = Site::start().await;
    proof.progress("every group has changed");
    let few = site.pages("bob").await;
    let many = site.pages("alice").await;
    proof.row(comparison(&few, &many));
    site.measure_others(&mut proof).await;
    proof.end();
}

/// A system in a process of its own, with groups that alice is in. Bob is in some of them.
struct Site {
    _process: ServiceProcess,
    system: Arc<System>,
    /// What the read model included before the groups changed.
    before: PositionVector,
    /// Alice's token of then.
    since: String,
}

/// What the pages of a sync had and read.
struct Pages {
    changes: usize,
    /// The buffers that each page read.
    buffers: Vec<i64>,
}

impl Site {
    async fn start() -> Self {
        let mut config = config();
        unlimited(&mut config);
        config.kafka_partitions = PARTITIONS;
        let process = ServiceProcess::start(&config, &["all"]).await;
        let system = Arc::new(System::attach(config, &process.url));
        system.wait_until_projecting().await;
        let groups: Vec<(ConversationId, Vec<UserId>)> =
            (0..scaled(GROUPS)).map(|number| (ConversationId(Uuid::now_v7()), participants(number))).collect();
        append(&system, groups.iter().map(|(id, users)| group(*id, users.clone()))).await;
        let before = system.read_model().offsets().await.unwrap();
        let now = system.get("alice", "/api/messages/sync").await;
        let since = now.body["next"].as_str().unwrap().to_owned();
        append(&system, groups.iter().flat_map(|(id, users)| changes(*id, users))).await;
        Self { _process: process, system, before, since }
    }

    /// Reads all pages of a user, straight from the read model.
    async fn pages(&self, user: &str) -> Pages {
        let counted = BufferCount::of(&self.system.config.database_url).await;
        let read_model = ReadModel::connect(&counted.url, &self.system.config.database_schema, 1).unwrap();
        let user = user.parse().unwrap();
        let mut since = SyncCursor::new(self.before.clone(), 0);
        let mut pages = Pages { changes: 0, buffers: Vec::new() };
        loop {
            counted.take();
            let found = read_model.changes(&user, &since, PAGE).await.unwrap().value;
            let SyncOutcome::Page(page) = found else { panic!("{found:?}") };
            pages.changes += page.items.len();
            pages.buffers.push(counted.take());
            since = page.next;
            if !page.more {
                return pages;
            }
        }
    }

    /// Measures what carol's requests take, with and without alice's loops.
    async fn measure_others(&self, proof: &mut Proof) {
        let others = Others::create(&self.system).await;
        let (mut quiet, mut loud) = (Latencies::default(), Latencies::default());
        let mut pages = 0;
        for round in 1..=ROUNDS {
            others.measure(&mut quiet).await;
            let loops = Loops::start(self);
            others.measure(&mut loud).await;
            pages += loops.stop().await;
            proof.progress(&format!("round {round}: {pages} pages so far"));
        }
        for (what, quiet, loud) in
            [("`sync`", &mut quiet.sync, &mut loud.sync), ("page of messages", &mut quiet.page, &mut loud.page)]
        {
            let requests = quiet.len() + loud.len();
            let (before, next_to) = ((p(quiet, 50), p(quiet, 99)), (p(loud, 50), p(loud, 99)));
            proof.row(Row {
                what: format!(
                    "another user's {what} without and next to {LOOPS} loops of one user through {} groups ({} pages \
                     read), {} requests",
                    scaled(GROUPS),
                    grouped(pages),
                    grouped(requests)
                ),
                figure: format!(
                    "p99 {:.1} → {:.1} ms; median {:.1} → {:.1} ms",
                    before.1, next_to.1, before.0, next_to.0
                ),
                bound: "p99 ≤ 2 × of that without",
                holds: next_to.1 <= 2.0 * before.1,
            });
        }
    }
}

fn participants(group: usize) -> Vec<UserId> {
    let mut users = vec!["alice".to_owned(), if group < scaled(FEW_GROUPS) { "bob" } else { "dora" }.to_owned()];
    users.extend((2..PARTICIPANTS).map(|number| format!("member-{}-{number}", group % 40)));
    users.iter().map(|user| user.parse().unwrap()).collect()
}

/// The messages and read marks of a group.
fn changes(conversation_id: ConversationId, users: &[UserId]) -> Vec<Event> {
    let event = |user: usize, data: EventData| Event {
        event_id: EventId(Uuid::now_v7()),
        occurred_at: Timestamp::from_millis(1_764_000_000_000).unwrap(),
        conversation_id,
        actor_id: users[user].clone(),
        request: None,
        data,
    };
    let message = |user| {
        event(
            user,
            EventData::MessageSent(MessageSent {
                message_id: MessageId(Uuid::now_v7()),
                content: "A message of about the length that messages usually have.".to_owned(),
                message_type: MessageType::Text,
                attachments: Vec::new(),
                mentions: Vec::new(),
                reply_to_id: None,
            }),
        )
    };
    let read = |user| event(user, EventData::MessagesRead { message_id: None });
    (0..WRITERS).map(message).chain((WRITERS..WRITERS + READERS).map(read)).collect()
}

/// Appends events, and waits until they are folded.
async fn append(system: &System, events: impl Iterator<Item = Event>) {
    let records: Vec<NewRecord> = events.map(|event| NewRecord::event(&event)).collect();
    let mut end = PositionVector::zero(usize::try_from(PARTITIONS).unwrap());
    for position in log::append(&system.config, &records).await {
        let (partition, offset) = position.split_once(':').unwrap();
        end.advance(partition.parse().unwrap(), offset.parse::<i64>().unwrap() + 1);
    }
    let read_model = system.read_model();
    eventually("the events are folded", async || read_model.offsets().await.unwrap().covers(&end).then_some(())).await;
}

fn comparison(few: &Pages, many: &Pages) -> Row {
    // The last page is shorter, and also looks for what has changed meanwhile.
    let range = |pages: &Pages| {
        let full = &pages.buffers[..pages.buffers.len() - 1];
        (full[0], *full.iter().min().unwrap(), *full.iter().max().unwrap())
    };
    let ((_, few_min, few_max), (first, min, max)) = (range(few), range(many));
    let in_groups = |pages: &Pages, groups: usize| (pages.changes, groups * CHANGES);
    let (found, expected) = in_groups(many, scaled(GROUPS));
    assert_eq!((found, few.changes), (expected, in_groups(few, scaled(FEW_GROUPS)).1), "each change once");
    Row {
        what: format!(
            "`sync` through {} groups of 1,000 that all changed: {} changes in {} pages of {PAGE}",
            scaled(GROUPS),
            grouped(many.changes),
            many.buffers.len()
        ),
        figure: format!(
            "{min} to {max} buffers a page, the first {first}; for a user in {} of the groups {few_min} to {few_max}",
            scaled(FEW_GROUPS)
        ),
        bound: "≤ 1.5 × the first page, ≤ 1.5 × those in fewer groups",
        holds: 2 * max <= 3 * first && 2 * max <= 3 * few_max,
    }
}

/// A client that doesn't parse what it gets: on a small machine, that would take more than the server's work.
#[derive(Clone)]
struct Reader {
    client: reqwest::Client,
    url: String,
    token: String,
}

impl Reader {
    fn new(system: &System, user: &str) -> Self {
        Self { client: reqwest::Client::new(), url: system.url.clone(), token: system.token(user) }
    }

    /// The end of a response's body.
    async fn get(&self, path: &str) -> String {
        let request = self.client.get(format!("{}{path}", self.url)).bearer_auth(&self.token);
        let response = request.send().await.unwrap();
        let status = response.status();
        let body = response.bytes().await.unwrap();
        let end = String::from_utf8_lossy(&body[body.len().saturating_sub(END)..]).into_owned();
        assert_eq!(status, 200, "{path}: {end}");
        end
    }
}

/// The loops of alice.
struct Loops {
    stop: CancellationToken,
    running: Vec<tokio::task::JoinHandle<usize>>,
}

impl Loops {
    fn start(site: &Site) -> Self {
        let stop = CancellationToken::new();
        let run = |_| {
            let (reader, since, stop) = (Reader::new(&site.system, "alice"), site.since.clone(), stop.clone());
            tokio::spawn(async move {
                let (mut pages, mut next) = (0, since.clone());
                while !stop.is_cancelled() {
                    let end = reader.get(&format!("/api/messages/sync?limit={PAGE}&since={next}")).await;
                    pages += 1;
                    let found = end.split("\"next\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
                    next = if end.ends_with("\"more\":true}") { found.to_owned() } else { since.clone() };
                }
                pages
            })
        };
        let running = (0..LOOPS).map(run).collect();
        Self { stop, running }
    }

    /// Stops, and returns how many pages they read.
    async fn stop(self) -> usize {
        self.stop.cancel();
        let mut pages = 0;
        for running in self.running {
            pages += running.await.unwrap();
        }
        pages
    }
}

/// Another user, who has a conversation with 60 messages.
struct Others {
    reader: Reader,
    sync: String,
    page: String,
}

/// How long requests took, in milliseconds.
#[derive(Default)]
struct Latencies {
    sync: Vec<f64>,
    page: Vec<f64>,
}

impl Others {
    async fn create(system: &System) -> Self {
        let now = system.get("carol", "/api/messages/sync").await;
        let since = now.body["next"].as_str().unwrap();
        let created = system.post("carol", json!({"action": "conversation", "participantIds": ["dan"]})).await;
        let mut last = created.clone();
        for number in 0..60 {
            last = system.send("carol", &created.id(), &format!("message {number}")).await;
            assert_eq!(last.status, 201, "{last:?}");
        }
        system.wait_until_projected(&last).await;
        let sync = format!("/api/messages/sync?limit={PAGE}&since={since}");
        let page = format!("/api/messages?conversationId={}", created.id());
        Self { reader: Reader::new(system, "carol"), sync, page }
    }

    /// Sends one request after the other.
    async fn measure(&self, latencies: &mut Latencies) {
        let until = Instant::now() + MEASURE;
        while Instant::now() < until {
            for (path, latencies) in [(&self.sync, &mut latencies.sync), (&self.page, &mut latencies.page)] {
                let began = Instant::now();
                let end = self.reader.get(path).await;
                latencies.push(began.elapsed().as_secs_f64() * 1_000.0);
                assert!(end.contains("\"more\":false") || end.contains("\"nextCursor\""), "{end}");
            }
        }
    }
}

/// A percentile.
fn p(latencies: &mut [f64], percent: usize) -> f64 {
    latencies.sort_by(f64::total_cmp);
    latencies[latencies.len() * percent / 100]
}
