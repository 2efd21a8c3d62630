//! The read model is the fold of the log, whatever happened on the way.

use std::collections::BTreeMap;

use cache::Cache;
use domain::envelope::{decode, encode};
use domain::fold::fold;
use domain::state::{Changes, State, Touched};
use domain::testing::{PARTITIONS, Rng, World, positions, random_history};
use domain::{ConversationId, Event, Position, PositionVector, UserId};
use event_log::{Topic, TopicSpec, ensure_topic};
use projector::Projector;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use read_model::{CommitError, PartitionStep, ReadModel};
use serde_json::{Value, json};
use service::config::Config;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::harness::log::Record;
use crate::harness::process::command;
use crate::harness::system::config;
use crate::harness::{System, eventually, log};

/// An empty read model of one's own.
async fn read_model(config: &Config, topic_id: Uuid, partitions: i32) -> (ReadModel, i64) {
    let read_model = ReadModel::connect(&config.database_url, &config.database_schema, 4).unwrap();
    read_model.migrate().await.unwrap();
    let projection = read_model.open(topic_id, usize::try_from(partitions).unwrap()).await.unwrap();
    (read_model, projection.generation)
}

/// The fold of a log.
fn folded<'a>(log: impl IntoIterator<Item = (Position, &'a Event)>) -> State {
    let mut state = State::default();
    for (position, event) in log {
        fold(&mut state, &mut Changes::default(), event, position);
    }
    state
}

/// What the projector does with a batch, and how far that moves each partition.
async fn project(
    read_model: &ReadModel,
    batch: &[(Position, Event)],
    topic_id: Uuid,
    generation: i64,
) -> Result<(), CommitError> {
    let mut state = read_model.load(&Touched::by(batch.iter().map(|(_, event)| event))).await?;
    let mut changes = Changes::default();
    let mut steps: BTreeMap<i32, PartitionStep> = BTreeMap::new();
    for (position, event) in batch {
        fold(&mut state, &mut changes, event, *position);
        let Position { partition, offset } = *position;
        steps.entry(partition).or_insert(PartitionStep { partition, from: offset, to: 0 }).to = offset + 1;
    }
    let steps: Vec<PartitionStep> = steps.into_values().collect();
    read_model.commit(&state, &changes, &steps, topic_id, generation).await
}

/// A user's list as it follows from the state: ids and unread counts, the most recently active first.
fn list(state: &State, user: &UserId) -> Vec<(ConversationId, i64)> {
    let mine = state.conversations.iter().filter_map(|(id, conversation)| {
        let read = state.members.get(&(*id, user.clone()))?.last_read_seq;
        let unread = state.messages.iter().filter(|((conversation, _), message)| {
            conversation == id && message.seq > read && message.deleted_at.is_none() && message.sender_id != *user
        });
        Some((conversation.updated_at, *id, i64::try_from(unread.count()).unwrap()))
    });
    let mut mine: Vec<_> = mine.collect();
    mine.sort_unstable_by(|one, other| other.cmp(one));
    mine.into_iter().map(|(_, id, unread)| (id, unread)).collect()
}

/// The same as the read model gives it, in pages.
async fn listed(read_model: &ReadModel, user: &UserId) -> Vec<(ConversationId, i64)> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let page = read_model.conversations(user, 3, after).await.unwrap().value;
        after = page.items.last().map(|last| (last.updated_at, last.id));
        items.extend(page.items.iter().map(|item| (item.id, item.unread_count)));
        if !page.more {
            return items;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_read_model_is_the_fold_of_the_log_however_it_is_cut_into_batches() {
    let topic_id = Uuid::now_v7();
    let (read_model, _) = read_model(&config(), topic_id, PARTITIONS).await;
    for seed in 0..24 {
        let mut rng = Rng::new(seed);
        let events = random_history(seed, 200);
        let log: Vec<(Position, Event)> = positions(&events).into_iter().zip(events).collect();
        let generation = read_model.reset(topic_id, usize::try_from(PARTITIONS).unwrap()).await.unwrap().generation;
        let most = [1, 5, 40, 300][rng.below(4)];
        let mut rest = log.as_slice();
        while !rest.is_empty() {
            let (batch, after) = rest.split_at((1 + rng.below(most)).min(rest.len()));
            project(&read_model, batch, topic_id, generation).await.unwrap();
            // Who reads it again can't write it again.
            if rng.percent(10) {
                let again = project(&read_model, batch, topic_id, generation).await;
                assert!(matches!(again, Err(CommitError::Fenced)), "{again:?}");
            }
            rest = after;
        }
        let wanted = folded(log.iter().map(|(position, event)| (*position, event)));
        assert!(wanted.messages.len() > 20, "seed {seed} is dull");
        assert_eq!(read_model.whole_state().await.unwrap(), wanted, "seed {seed}");
        for user in ["alice", "bob", "用户"] {
            let user = user.parse().unwrap();
            assert_eq!(listed(&read_model, &user).await, list(&wanted, &user), "seed {seed}, {user}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_write_one_batch_one_does_and_a_fenced_one_writes_nothing() {
    let (topic_id, config) = (Uuid::now_v7(), config());
    let (read_model, generation) = read_model(&config, topic_id, PARTITIONS).await;
    let events = random_history(7, 120);
    let log: Vec<(Position, Event)> = positions(&events).into_iter().zip(events).collect();
    for batch in log.chunks(30) {
        let tries = (0..4).map(|_| project(&read_model, batch, topic_id, generation));
        let [one, two, three, four] = tries.collect::<Vec<_>>().try_into().unwrap_or_else(|_| unreachable!());
        let outcomes: [Result<(), CommitError>; 4] = tokio::join!(one, two, three, four).into();
        let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(done, 1, "{outcomes:?}");
    }
    let wanted = folded(log.iter().map(|(position, event)| (*position, event)));
    assert_eq!(read_model.whole_state().await.unwrap(), wanted);

    // A conversation that would be new, from the wrong place, generation or topic, or one partition of two at the wrong one.
    let offsets = read_model.offsets().await.unwrap();
    let mut state = wanted.clone();
    let mut changes = Changes::default();
    let created = |event: &&(Position, Event)| wanted.conversations.contains_key(&event.1.conversation_id);
    let (Position { partition, .. }, mut event) = log.iter().find(created).unwrap().clone();
    event.event_id.0 = Uuid::now_v7();
    event.conversation_id.0 = Uuid::now_v7();
    let next = offsets.next(partition);
    fold(&mut state, &mut changes, &event, Position { partition, offset: next });
    assert_eq!(changes.created.len(), 1, "{event:?}");
    let here = PartitionStep { partition, from: next, to: next + 1 };
    let other = (partition + 1) % PARTITIONS;
    let late = PartitionStep { partition: other, from: offsets.next(other) + 1, to: offsets.next(other) + 2 };
    for (what, steps, topic, generation) in [
        ("a step from an earlier offset", vec![PartitionStep { from: next - 1, ..here }], topic_id, generation),
        (
            "a step from a later offset",
            vec![PartitionStep { from: next + 1, to: next + 2, ..here }],
            topic_id,
            generation,
        ),
        ("one step of two from a wrong offset", vec![here, late], topic_id, generation),
        ("another generation", vec![here], topic_id, generation + 1),
        ("another topic", vec![here], Uuid::now_v7(), generation),
        ("no such partition", vec![here, PartitionStep { partition: 99, from: 0, to: 1 }], topic_id, generation),
    ] {
        let outcome = read_model.commit(&state, &changes, &steps, topic, generation).await;
        assert!(matches!(outcome, Err(CommitError::Fenced)), "{what}: {outcome:?}");
        assert_eq!(read_model.offsets().await.unwrap(), offsets, "{what}");
    }
    // Rows that can't be written leave the offsets where they were, and those before them unwritten.
    let mut twice = changes.clone();
    twice.applied.extend(changes.applied.clone());
    let outcome = read_model.commit(&state, &twice, &[here], topic_id, generation).await;
    assert!(matches!(outcome, Err(CommitError::ReadModel(_))), "{outcome:?}");
    assert_eq!(read_model.offsets().await.unwrap(), offsets);
    assert_eq!(read_model.whole_state().await.unwrap(), wanted);
    read_model.commit(&state, &changes, &[here], topic_id, generation).await.unwrap();
    assert_eq!(read_model.whole_state().await.unwrap(), state);
}

/// A topic with a projection, and whoever works on it.
struct Site {
    config: Config,
    topic: Topic,
    read_model: ReadModel,
    producer: FutureProducer,
    rng: Rng,
    /// Two who project, by the name that each goes by.
    projectors: BTreeMap<&'static str, (JoinHandle<()>, CancellationToken)>,
}

impl Site {
    async fn open(seed: u64) -> Self {
        let config = config();
        let spec = TopicSpec { name: config.kafka_topic.clone(), partitions: config.kafka_partitions };
        let topic = ensure_topic(&config.kafka_brokers, &spec).await.unwrap();
        let (read_model, _) = read_model(&config, topic.id, config.kafka_partitions).await;
        Self {
            producer: producer(&config),
            config,
            topic,
            read_model,
            rng: Rng::new(seed),
            projectors: BTreeMap::new(),
        }
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
            read_model: self.read_model.clone(),
            cache: Cache::connect(&self.config.redis_url, &self.config.redis_prefix).unwrap(),
            owner: if zombie { "one" } else { name }.to_owned(),
        };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(projector::run(projector, shutdown.clone()));
        self.projectors.insert(name, (task, shutdown));
    }

    async fn append(&self, records: &[(String, Vec<u8>)]) {
        append(&self.producer, &self.topic.name, records).await;
    }

    /// Both project, until everything that is on the log is in the read model.
    async fn settle(&mut self) -> Vec<Record> {
        for name in ["one", "another"] {
            if !self.projectors.contains_key(name) {
                self.begin(name, false);
            }
        }
        let records = log::records(&self.config.kafka_brokers, &self.topic.name).await;
        reached(&self.read_model, &records).await;
        records
    }
}

fn producer(config: &Config) -> FutureProducer {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", &config.kafka_brokers).set("enable.idempotence", "true");
    settings.set("partitioner", "murmur2_random").create().unwrap()
}

async fn append(producer: &FutureProducer, topic: &str, records: &[(String, Vec<u8>)]) {
    let mut sent = Vec::new();
    for (key, value) in records {
        sent.push(producer.send_result(FutureRecord::to(topic).key(key).payload(value)).unwrap());
    }
    for delivered in sent {
        delivered.await.unwrap().unwrap();
    }
}

/// Waits until the read model includes these records.
async fn reached(read_model: &ReadModel, records: &[Record]) {
    let mut end = PositionVector::zero(3);
    for record in records {
        end.advance(record.partition, record.offset + 1);
    }
    eventually("the read model is at the log's end", async || {
        read_model.offsets().await.unwrap().covers(&end).then_some(())
    })
    .await;
}

/// The fold of records as they were read back; those that are no events are passed over.
fn folded_records(records: &[Record]) -> State {
    let events = records.iter().filter_map(|record| {
        let event = decode(&record.bytes).ok()?;
        Some((Position { partition: record.partition, offset: record.offset }, event))
    });
    let events: Vec<_> = events.collect();
    folded(events.iter().map(|(position, event)| (*position, event)))
}

/// A record that is no event, or none yet.
fn garbage(rng: &mut Rng, event: &Event) -> (String, Vec<u8>) {
    let mut value: Value = serde_json::from_slice(&encode(event)).unwrap();
    match rng.below(8) {
        0 => value["version"] = json!(2),
        1 => value["enc"] = json!({"alg": "none"}),
        2 => value["type"] = json!("MESSAGE_PINNED"),
        3 => value["data"] = json!({"messageId": Uuid::now_v7(), "content": "a\u{0}b"}),
        4 => value["conversationId"] = json!("nonsense"),
        5 => return ("a key that is no id".to_owned(), Vec::new()),
        6 => return (event.conversation_id.to_string(), vec![0xff, 0xfe, 0x00]),
        _ => return (event.conversation_id.to_string(), "[".repeat(100_000).into_bytes()),
    }
    (event.conversation_id.to_string(), value.to_string().into_bytes())
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
            records.push((event.conversation_id.to_string(), encode(event)));
            if site.rng.percent(5) {
                records.push(garbage(&mut site.rng, event));
            }
        }
        let mut rest = records.as_slice();
        while !rest.is_empty() {
            let (some, after) = rest.split_at((1 + site.rng.below(80)).min(rest.len()));
            site.append(some).await;
            site.stir().await;
            rest = after;
        }
        let records = site.settle().await;
        let wanted = folded_records(&records);
        assert_eq!(wanted.messages.len(), world.state.messages.len());
        assert_eq!(site.read_model.whole_state().await.unwrap(), wanted, "seed {seed}, round {round}");
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
    let records: Vec<_> = history.iter().map(|event| (event.conversation_id.to_string(), encode(event))).collect();
    append(&producer(&system.config), &system.config.kafka_topic, &records).await;
    reached(&system.read_model(), &system.records().await).await;
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
        let records = system.records().await;
        reached(&system.read_model(), &records).await;
        assert_eq!(system.read_model().whole_state().await.unwrap(), folded_records(&records));
        assert_eq!(system.get_after(&latest, "bob", &path).await.data()[0]["id"], latest.id());
    }
    assert_eq!(system.read_model().generation().await.unwrap(), Some(3));
}
