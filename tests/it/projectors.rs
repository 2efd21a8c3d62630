//! Projectors that start, stop, die and compete, and rebuilds: the read model always ends as the fold of the log.
//!
//! The random tests drive `projector` directly, so that a projector can die within a batch, or share its owner name.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cache::Cache;
use domain::Event;
use domain::testing::{Rng, World, random_history};
use event_log::{Topic, TopicSpec, TopicWatch, ensure_topic};
use messages::process::Roles;
use projector::{FoldedKeys, Projector, Stalls};
use read_model::ReadModel;
use serde_json::{Value, json};
use service::config::Config;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::harness::fold::assert_folded;
use crate::harness::http::Response;
use crate::harness::log::{self, NewRecord};
use crate::harness::process::{ServiceProcess, command};
use crate::harness::proxy::Proxy;
use crate::harness::sockets::SLACK;
use crate::harness::system::{PARTITIONS, config, unlimited};
use crate::harness::{System, eventually, unknown_id};

/// The owner names of the two projectors.
const OWNERS: [&str; 2] = ["one", "another"];

/// A projector that runs as a task.
struct RunningProjector {
    task: JoinHandle<()>,
    shutdown: CancellationToken,
}

/// A topic, its read model, and up to two projectors that work on it.
struct Site {
    config: Config,
    topic: Topic,
    read_model: ReadModel,
    rng: Rng,
    projectors: BTreeMap<&'static str, RunningProjector>,
}

impl Site {
    async fn start(seed: u64) -> Self {
        let config = config();
        let spec = TopicSpec { name: config.kafka_topic.clone(), partitions: config.kafka_partitions };
        let topic = ensure_topic(&config.kafka_brokers, &spec).await.unwrap();
        let read_model = ReadModel::connect(&config.database_url, &config.database_schema, 4).unwrap();
        read_model.migrate().await.unwrap();
        Self { config, topic, read_model, rng: Rng::new(seed), projectors: BTreeMap::new() }
    }

    /// Starts, stops or kills one of the projectors at random.
    async fn change_a_projector(&mut self) {
        let name = OWNERS[self.rng.below(2)];
        let same_owner = self.rng.percent(30);
        match self.projectors.remove(name) {
            // A zombie: both projectors believe that they hold the same leases.
            None if same_owner => self.start_projector(name, OWNERS[0]),
            None => self.start_projector(name, name),
            Some(RunningProjector { task, shutdown }) if self.rng.percent(50) => {
                shutdown.cancel();
                task.await.unwrap();
            }
            Some(RunningProjector { task, .. }) => task.abort(),
        }
    }

    fn start_projector(&mut self, name: &'static str, owner: &str) {
        let projector = Projector {
            brokers: self.config.kafka_brokers.clone(),
            topic: self.topic.clone(),
            topic_watch: TopicWatch::start(&self.config.kafka_brokers, self.topic.clone()).unwrap(),
            read_model: self.read_model.clone(),
            cache: Cache::connect(&self.config.redis_url, &self.config.redis_prefix).unwrap(),
            owner: owner.to_owned(),
            stalls: Stalls::default(),
            folded: FoldedKeys::default(),
        };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(projector::run(projector, shutdown.clone()));
        self.projectors.insert(name, RunningProjector { task, shutdown });
    }

    /// Appends the records in pieces of random size, with a change of the projectors after each of them.
    async fn append_while_projectors_change(&mut self, records: &[NewRecord]) {
        let mut rest = records;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + self.rng.below(80)).min(rest.len()));
            log::append(&self.config, piece).await;
            self.change_a_projector().await;
            rest = after;
        }
    }

    /// Lets both projectors run until the read model includes the whole log, and asserts that it is its fold.
    async fn assert_folded_by_both(&mut self) {
        for name in OWNERS {
            if !self.projectors.contains_key(name) {
                self.start_projector(name, name);
            }
        }
        let records = log::records(&self.config.kafka_brokers, &self.topic.name).await;
        assert_folded(&self.read_model, &records).await;
    }
}

/// A record that is no event, or none that this version knows.
fn unreadable_record(rng: &mut Rng, event: &Event) -> NewRecord {
    let mut record = NewRecord::event(event);
    let mut value: Value = serde_json::from_slice(&record.value).unwrap();
    match rng.below(8) {
        0 => value["version"] = json!(2),
        1 => value["enc"] = json!({"alg": "none"}),
        2 => value["type"] = json!("MESSAGE_PINNED"),
        3 => value["data"] = json!({"messageId": Uuid::now_v7(), "content": "a\u{0}b"}),
        4 => value["conversationId"] = json!("nonsense"),
        5 => return NewRecord { key: "a key that is no id".to_owned(), value: Vec::new(), ..record },
        6 => return NewRecord { value: vec![0xff, 0xfe, 0x00], ..record },
        _ => return NewRecord { value: "[".repeat(100_000).into_bytes(), ..record },
    }
    record.value = value.to_string().into_bytes();
    record
}

/// Records of these events, with unreadable ones among them.
fn records_with_noise(rng: &mut Rng, events: &[Event]) -> Vec<NewRecord> {
    let mut records = Vec::new();
    for event in events {
        records.push(NewRecord::event(event));
        if rng.percent(5) {
            records.push(unreadable_record(rng, event));
        }
    }
    records
}

async fn projectors_change_while_a_log_grows(seed: u64) {
    let mut site = Site::start(seed).await;
    let mut world = World::new(seed);
    for round in 1..=5 {
        let appended = world.log.len();
        while world.log.len() < 200 * round {
            world.step();
        }
        let records = records_with_noise(&mut site.rng, &world.log[appended..]);
        site.append_while_projectors_change(&records).await;
        site.assert_folded_by_both().await;
        assert!(!world.state.messages.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn projectors_that_start_stop_die_and_compete_leave_the_fold_of_the_log() {
    let with_seed = projectors_change_while_a_log_grows;
    tokio::join!(with_seed(1), with_seed(2), with_seed(3), with_seed(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_ends_with_the_same_state_and_never_serves_an_old_one() {
    let system = System::unlimited().await;
    let history = random_history(1, 4_000);
    log::append(&system.config, &history.iter().map(NewRecord::event).collect::<Vec<_>>()).await;
    assert_folded(&system.read_model(), &system.records().await).await;
    let conversation = system.conversation("alice", &["bob", "dora"]).await;
    let mut latest = system.post("alice", json!({"conversationId": conversation, "content": "0"})).await;
    let newest_message = format!("/api/messages?conversationId={conversation}&limit=1");
    assert_eq!(system.get_after(&latest, "bob", &newest_message).await.data()[0]["content"], "0");

    for _ in 0..2 {
        let mut rebuild = command(&system.config, &["rebuild", "--reset"]).spawn().unwrap();
        let mut number = 0;
        let status = loop {
            number += 1;
            let body = json!({"conversationId": conversation, "content": number.to_string()});
            let sent = system.post("alice", body).await;
            match sent.status {
                201 => latest = sent,
                // The API doesn't deny what it can't know now.
                _ => sent.assert_problem(503, "projection_behind"),
            }
            assert_newest_or_behind(&system, &newest_message, &latest).await;
            if let Some(status) = rebuild.try_wait().unwrap() {
                break status;
            }
        };
        assert!(status.success());
        assert_folded(&system.read_model(), &system.records().await).await;
        assert_eq!(system.get_after(&latest, "bob", &newest_message).await.data()[0]["id"], latest.id());
    }
    assert_eq!(system.read_model().generation().await.unwrap(), Some(3));
}

/// Asserts that bob reads either the latest message or that the projection is behind, never an older message.
async fn assert_newest_or_behind(system: &System, newest_message: &str, latest: &Response) {
    let request = system.ask("bob", "GET", newest_message).header("Messages-Position", latest.position());
    let read = request.send().await;
    match read.status {
        200 => assert_eq!(read.data()[0]["id"], latest.id(), "{read:?}"),
        _ => read.assert_problem(503, "projection_behind"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_dies_after_its_reset_is_finished_without_any_new_event() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.post("alice", json!({"conversationId": conversation, "content": "hi"})).await;
    system.wait_until_published(&sent).await;
    let spec = TopicSpec { name: system.config.kafka_topic.clone(), partitions: system.config.kafka_partitions };
    let topic = ensure_topic(&system.config.kafka_brokers, &spec).await.unwrap();

    system.read_model().reset(topic.id, topic.partitions).await.unwrap();

    // Nobody told the processes of the reset, and still they deny nothing that exists.
    let read = async |conversation: &str| {
        let path = format!("/api/messages?conversationId={conversation}");
        system.ask("bob", "GET", &path).header("Messages-Position", sent.position()).send().await
    };
    let existing = read(&conversation).await;
    assert!([200, 503].contains(&existing.status), "{existing:?}");
    let unknown = read(&unknown_id()).await;
    assert!([200, 404, 503].contains(&unknown.status), "{unknown:?}");
    assert_folded(&system.read_model(), &system.records().await).await;
}

/// Within this time another projector takes over: the lease expires, and the other one looks for free partitions.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(8);

/// How a projector is interrupted in the middle of its work.
#[derive(Debug, Clone, Copy)]
enum Interruption {
    /// Its process is frozen.
    Paused,
    /// Postgres no longer answers it.
    CutOff,
}

/// Two projectors, of which the first can be interrupted, and a conversation on each partition.
struct TwoProjectors {
    system: System,
    first: ServiceProcess,
    _second: ServiceProcess,
    /// The first projector's connection to Postgres.
    postgres: Proxy,
    conversations: Vec<String>,
}

impl TwoProjectors {
    async fn start() -> Self {
        let mut config = config();
        unlimited(&mut config);
        let system = System::with_roles(config, Roles::COMMAND_API).await;
        let postgres = Proxy::start(&system.config.database_url).await;
        let first_config = Config { database_url: postgres.url.clone(), ..system.config.clone() };
        let first = ServiceProcess::start(&first_config, &["projector"]).await;
        let second = ServiceProcess::start(&system.config, &["projector"]).await;
        let conversations = conversation_on_each_partition(&system).await;
        Self { system, first, _second: second, postgres, conversations }
    }

    async fn interrupt(&self, interruption: Interruption) {
        match interruption {
            Interruption::Paused => self.first.freeze().await,
            Interruption::CutOff => self.postgres.stall(),
        }
    }

    async fn resume(&self) {
        self.first.thaw().await;
        self.postgres.restore();
    }

    /// Sends a message to one of the conversations in turn, until it is accepted.
    async fn send(&self, number: usize, content: &str) -> Response {
        let body = json!({"conversationId": self.conversations[number % self.conversations.len()], "content": content});
        eventually("the message is accepted", async || {
            let sent = self.system.post("alice", body.clone()).await;
            (sent.status == 201).then_some(sent)
        })
        .await
    }
}

async fn conversation_on_each_partition(system: &System) -> Vec<String> {
    let mut by_partition = BTreeMap::new();
    for number in 0.. {
        let body = json!({"action": "conversation", "participantIds": [format!("user-{number}")]});
        let created = system.post("alice", body).await;
        by_partition.insert(created.position().split(':').next().unwrap().to_owned(), created.id());
        if by_partition.len() == usize::try_from(PARTITIONS).unwrap() {
            break;
        }
    }
    by_partition.into_values().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_projector_is_replaced_and_cannot_write_when_it_resumes() {
    let projectors = TwoProjectors::start().await;
    let system = &projectors.system;
    for interruption in [Interruption::Paused, Interruption::CutOff, Interruption::Paused, Interruption::CutOff] {
        // In the middle of its work: the projector always has something to project.
        let mut sent = Vec::new();
        for number in 0..30 {
            sent.push(projectors.send(number, &format!("{interruption:?} {number}")).await);
            if number == 10 {
                projectors.interrupt(interruption).await;
            }
        }
        let began = Instant::now();
        for message in &sent {
            system.wait_until_projected(message).await;
        }
        assert!(began.elapsed() < TAKEN_OVER_WITHIN + SLACK, "{interruption:?}: {:?}", began.elapsed());

        projectors.resume().await;
        for number in 0..3 {
            system.wait_until_projected(&projectors.send(number, "after").await).await;
        }
        // Both projectors work again before the next interruption.
        system.wait_until_projecting().await;
    }
    assert_folded(&system.read_model(), &system.records().await).await;
}
