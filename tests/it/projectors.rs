//! Projectors that come, go, die and compete; and rebuilding.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cache::Cache;
use domain::Event;
use domain::testing::{Rng, World, random_history};
use event_log::{Topic, TopicSpec, ensure_topic};
use messages::process::Roles;
use projector::Projector;
use read_model::ReadModel;
use serde_json::{Value, json};
use service::config::Config;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::harness::fold::assert_folded;
use crate::harness::log::{self, NewRecord};
use crate::harness::process::{ServiceProcess, command};
use crate::harness::proxy::Proxy;
use crate::harness::sockets::SLACK;
use crate::harness::system::config;
use crate::harness::{System, eventually, unknown_id};

/// A topic with a projection, and whoever works on it.
struct Site {
    config: Config,
    topic: Topic,
    read_model: ReadModel,
    rng: Rng,
    /// Two who project, by the name that each goes by.
    projectors: BTreeMap<&'static str, (JoinHandle<()>, CancellationToken)>,
}

impl Site {
    async fn open(seed: u64) -> Self {
        let config = config();
        let spec = TopicSpec { name: config.kafka_topic.clone(), partitions: config.kafka_partitions };
        let topic = ensure_topic(&config.kafka_brokers, &spec).await.unwrap();
        let read_model = ReadModel::connect(&config.database_url, &config.database_schema, 4).unwrap();
        read_model.migrate().await.unwrap();
        Self { config, topic, read_model, rng: Rng::new(seed), projectors: BTreeMap::new() }
    }

    /// Somebody begins to project, stops in good order, or dies.
    async fn stir(&mut self) {
        let name = ["one", "another"][self.rng.below(2)];
        let zombie = self.rng.percent(30);
        match self.projectors.remove(name) {
            None => self.begin(name, zombie),
            Some((task, shutdown)) if self.rng.percent(50) => {
                shutdown.cancel();
                task.await.unwrap();
            }
            Some((task, _)) => task.abort(),
        }
    }

    /// Begins to project; as a zombie, under the name of the other, so that both believe to have the same leases.
    fn begin(&mut self, name: &'static str, zombie: bool) {
        let projector = Projector {
            brokers: self.config.kafka_brokers.clone(),
            topic: self.topic.clone(),
            topic_watch: self.topic.watch(&self.config.kafka_brokers).unwrap(),
            read_model: self.read_model.clone(),
            cache: Cache::connect(&self.config.redis_url, &self.config.redis_prefix).unwrap(),
            owner: if zombie { "one" } else { name }.to_owned(),
        };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(projector::run(projector, shutdown.clone()));
        self.projectors.insert(name, (task, shutdown));
    }

    /// Both project, until everything that is on the log is in the read model.
    async fn settle(&mut self) {
        for name in ["one", "another"] {
            if !self.projectors.contains_key(name) {
                self.begin(name, false);
            }
        }
        let records = log::records(&self.config.kafka_brokers, &self.topic.name).await;
        assert_folded(&self.read_model, &records).await;
    }
}

/// A record that is no event, or none yet.
fn garbage(rng: &mut Rng, event: &Event) -> NewRecord {
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

async fn projectors_come_and_go(seed: u64) {
    let mut site = Site::open(seed).await;
    let mut world = World::new(seed);
    for round in 1..=5 {
        let written = world.log.len();
        while world.log.len() < 200 * round {
            world.step();
        }
        let mut records = Vec::new();
        for event in &world.log[written..] {
            records.push(NewRecord::event(event));
            if site.rng.percent(5) {
                records.push(garbage(&mut site.rng, event));
            }
        }
        let mut rest = records.as_slice();
        while !rest.is_empty() {
            let (some, after) = rest.split_at((1 + site.rng.below(80)).min(rest.len()));
            log::append(&site.config, some).await;
            site.stir().await;
            rest = after;
        }
        site.settle().await;
        assert!(!world.state.messages.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn projectors_that_come_go_die_and_compete_leave_the_fold_of_the_log() {
    let come_and_go = projectors_come_and_go;
    tokio::join!(come_and_go(1), come_and_go(2), come_and_go(3), come_and_go(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_ends_with_the_same_state_while_the_system_serves() {
    let system = System::unlimited().await;
    let history = random_history(1, 4_000);
    log::append(&system.config, &history.iter().map(NewRecord::event).collect::<Vec<_>>()).await;
    assert_folded(&system.read_model(), &system.records().await).await;
    let conversation = system.conversation("alice", &["bob", "dora"]).await;
    let mut latest = system.post("alice", json!({"conversationId": conversation, "content": "0"})).await;
    let path = format!("/api/messages?conversationId={conversation}&limit=1");
    assert_eq!(system.get_after(&latest, "bob", &path).await.data()[0]["content"], "0");
    for _ in 0..2 {
        let mut rebuild = command(&system.config, &["rebuild", "--reset"]).spawn().unwrap();
        let mut number = 0;
        let status = loop {
            number += 1;
            let body = json!({"conversationId": conversation, "content": number.to_string()});
            let sent = system.post("alice", body).await;
            match sent.status {
                201 => latest = sent,
                // What can't be known now is never denied.
                _ => sent.assert_problem(503, "projection_behind"),
            }
            let seen = system.ask("bob", "GET", &path).header("Messages-Position", latest.position()).send().await;
            match seen.status {
                200 => assert_eq!(seen.data()[0]["id"], latest.id(), "{seen:?}"),
                _ => seen.assert_problem(503, "projection_behind"),
            }
            if let Some(status) = rebuild.try_wait().unwrap() {
                break status;
            }
        };
        assert!(status.success());
        assert_folded(&system.read_model(), &system.records().await).await;
        assert_eq!(system.get_after(&latest, "bob", &path).await.data()[0]["id"], latest.id());
    }
    assert_eq!(system.read_model().generation().await.unwrap(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_dies_at_once_is_gone_on_with_though_nothing_happens() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.post("alice", json!({"conversationId": conversation, "content": "hi"})).await;
    system.wait_until_published(&sent).await;
    let spec = TopicSpec { name: system.config.kafka_topic.clone(), partitions: system.config.kafka_partitions };
    let topic = ensure_topic(&system.config.kafka_brokers, &spec).await.unwrap();
    system.read_model().reset(topic.id, topic.partitions).await.unwrap();
    // Nobody was told, and nothing is denied.
    let path = format!("/api/messages?conversationId={conversation}");
    for path in [path, format!("/api/messages?conversationId={}", unknown_id())] {
        let answer = system.ask("bob", "GET", &path).header("Messages-Position", sent.position()).send().await;
        assert!([200, 404, 503].contains(&answer.status), "{answer:?}");
        assert!(answer.status != 404 || !path.contains(&conversation), "{answer:?}");
    }
    assert_folded(&system.read_model(), &system.records().await).await;
}

/// How soon somebody else projects what a projector left: its lease, and the time until the next look.
const HANDED_OVER: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn what_a_paused_or_cut_off_projector_left_is_taken_over_and_it_cannot_write_when_it_is_back() {
    let mut config = config();
    crate::harness::system::unlimited(&mut config);
    let system = System::with_roles(config, Roles::COMMAND_API).await;
    let postgres = Proxy::start(&system.config.database_url).await;
    let cut_off = Config { database_url: postgres.url.clone(), ..system.config.clone() };
    let one = ServiceProcess::start(&cut_off, &["projector"]).await;
    let _two = ServiceProcess::start(&system.config, &["projector"]).await;
    // On every partition, whoever has it.
    let mut conversations = BTreeMap::new();
    for other in 0.. {
        let begun = json!({"action": "conversation", "participantIds": [format!("user-{other}")]});
        let begun = system.post("alice", begun).await;
        conversations.insert(begun.position().split(':').next().unwrap().to_owned(), begun.id());
        if conversations.len() == 3 {
            break;
        }
    }
    let conversations: Vec<String> = conversations.into_values().collect();
    let say = async |number: usize, content: &str| {
        let body = json!({"conversationId": conversations[number % 3], "content": content});
        eventually("it is taken", async || {
            let sent = system.post("alice", body.clone()).await;
            (sent.status == 201).then_some(sent)
        })
        .await
    };
    for way in ["paused", "cut off", "paused", "cut off"] {
        // In the middle of its work: there is always something to project.
        let mut sent = Vec::new();
        for number in 0..30 {
            sent.push(say(number, &format!("{way} {number}")).await);
            match (number, way) {
                (10, "paused") => one.freeze().await,
                (10, _) => postgres.stall(),
                _ => {}
            }
        }
        let began = Instant::now();
        for answer in &sent {
            system.wait_until_projected(answer).await;
        }
        assert!(began.elapsed() < HANDED_OVER + SLACK, "{way}: {:?}", began.elapsed());
        one.thaw().await;
        postgres.restore();
        // Both at work again.
        for number in 0..3 {
            system.wait_until_projected(&say(number, "after").await).await;
        }
        system.wait_until_projecting().await;
    }
    assert_folded(&system.read_model(), &system.records().await).await;
}
