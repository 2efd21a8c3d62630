//! Dead letters: records that can't be folded are parked and listed, hold nothing up, and can be retried or discarded.
//!
//! The test of a retry projects part of the log through `read-model` directly, as an older version would have done it.

use std::collections::BTreeMap;
use std::process::Stdio;

use domain::fold::fold;
use domain::state::{Changes, Touched};
use domain::testing::{Rng, random_history};
use domain::{Event, OffsetAdvance, Position, envelope};
use event_log::{Topic, TopicSpec, describe_topic, ensure_topic};
use messages::process::Roles;
use read_model::{ParkedRecord, ReadModel};
use serde_json::{Value, json};
use service::config::Config;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::harness::fold::assert_folded;
use crate::harness::log::{self, NewRecord, Record};
use crate::harness::process::{ServiceProcess, command, free_port};
use crate::harness::system::{PARTITIONS, System, TIMEOUT, config, eventually, unknown_id, unlimited};
use crate::harness::verified::Verified;

/// What a `messages dead-letters …` printed, and whether it succeeded.
struct CliOutput {
    printed: String,
    succeeded: bool,
}

impl CliOutput {
    /// The line of a list for the record at this position. A time in the list can look like a position, too.
    fn line_of(&self, position: &str) -> Option<&str> {
        self.printed.lines().find(|line| line.split_whitespace().next() == Some(position))
    }

    fn contains(&self, text: &str) -> bool {
        self.printed.contains(text)
    }
}

async fn dead_letters(config: &Config, arguments: &[&str]) -> CliOutput {
    let output = command(config, &[&["dead-letters"], arguments].concat()).output().await.unwrap();
    let printed = [output.stdout, output.stderr].concat();
    CliOutput { printed: String::from_utf8_lossy(&printed).into_owned(), succeeded: output.status.success() }
}

async fn topic(config: &Config) -> Topic {
    let spec = TopicSpec { name: config.kafka_topic.clone(), partitions: config.kafka_partitions };
    ensure_topic(&config.kafka_brokers, &spec).await.unwrap()
}

/// A record that can't be folded, and a part of the reason that the operator reads.
struct Unreadable {
    record: NewRecord,
    reason: &'static str,
}

/// Five records that are like this event, but can't be folded.
fn unreadable_records_like(event: &Record) -> [Unreadable; 5] {
    let record = |value: Vec<u8>| NewRecord {
        key: event.key.clone(),
        value,
        event_type: Some("MESSAGE_SENT"),
        timestamp_ms: None,
    };
    let with = |field: &str, value: Value| {
        let mut changed = event.value.clone();
        changed[field] = value;
        record(changed.to_string().into_bytes())
    };
    [
        Unreadable { record: with("version", json!(7)), reason: "version 7" },
        Unreadable { record: with("type", json!("MESSAGE_PINNED")), reason: "MESSAGE_PINNED" },
        Unreadable { record: with("enc", json!({})), reason: "encrypted" },
        Unreadable { record: record(b"\x00not JSON".to_vec()), reason: "object" },
        Unreadable {
            record: with("conversationId", json!(conversation_on_another_partition(&event.key))),
            reason: "on partition",
        },
    ]
}

fn conversation_on_another_partition(conversation: &str) -> String {
    let partitions = usize::try_from(PARTITIONS).unwrap();
    let partition = |id: &str| event_log::partition_for(id.as_bytes(), partitions);
    std::iter::repeat_with(unknown_id).find(|id| partition(id) != partition(conversation)).unwrap()
}

/// A running system on whose log five unreadable records lie between two messages.
struct SystemWithDeadLetters {
    running: ServiceProcess,
    system: System,
    conversation: String,
    /// The positions of the unreadable records, and the reasons why they are parked.
    parked: Vec<(String, &'static str)>,
}

impl SystemWithDeadLetters {
    /// Also asserts that the records hold nothing up: both messages are read.
    async fn start() -> Self {
        let config = config();
        let running = ServiceProcess::start(&config, &["all"]).await;
        let system = System::attach(config, &running.url);
        let conversation = system.conversation("alice", &["bob"]).await;
        let before = system.post("alice", json!({"conversationId": conversation, "content": "before"})).await;
        let event = system.record_at(&before).await;

        let unreadable = unreadable_records_like(&event);
        let reasons: Vec<&str> = unreadable.iter().map(|unreadable| unreadable.reason).collect();
        let records = unreadable.map(|unreadable| unreadable.record);
        let positions = log::append(&system.config, &records).await;

        let after = system.post("bob", json!({"conversationId": conversation, "content": "after"})).await;
        let read = system.get_after(&after, "alice", &format!("/api/messages?conversationId={conversation}")).await;
        assert_eq!(read.ids().len(), 2, "{read:?}");
        Self { running, system, conversation, parked: positions.into_iter().zip(reasons).collect() }
    }

    async fn dead_letters(&self, arguments: &[&str]) -> CliOutput {
        dead_letters(&self.system.config, arguments).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_records_are_parked_counted_and_listed_and_hold_nothing_up() {
    let site = SystemWithDeadLetters::start().await;

    eventually("the records are counted", async || {
        (site.running.metric("projector_dead_letters", "").await == 5.0).then_some(())
    })
    .await;
    let list = site.dead_letters(&["list"]).await;
    for (position, reason) in &site.parked {
        let line = list.line_of(position).unwrap_or_else(|| panic!("{position}: {}", list.printed));
        assert!(line.contains("parked") && line.contains(reason), "{line}");
    }
    let (of_unknown_type, _) = &site.parked[1];
    let shown = site.dead_letters(&["show", of_unknown_type]).await;
    for part in [site.conversation.as_str(), "MESSAGE_PINNED", "before"] {
        assert!(shown.contains(part), "no {part}: {}", shown.printed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_retries_and_discards_dead_letters_and_a_rebuild_keeps_the_decision() {
    let site = SystemWithDeadLetters::start().await;
    let (of_later_version, _) = &site.parked[0];
    let (of_unknown_type, _) = &site.parked[1];
    eventually("the records are parked", async || {
        (site.running.metric("projector_dead_letters", "").await == 5.0).then_some(())
    })
    .await;

    // This version still can't read the record.
    let retried = site.dead_letters(&["retry", of_later_version]).await;
    assert!(!retried.succeeded && retried.contains("version 7"), "{}", retried.printed);
    let discarded = site.dead_letters(&["discard", of_unknown_type, "--because", "from a test"]).await;
    assert!(discarded.succeeded, "{}", discarded.printed);
    let unknown = site.dead_letters(&["discard", "0:99999", "--because", "there is none"]).await;
    assert!(!unknown.succeeded, "{}", unknown.printed);
    let list = site.dead_letters(&["list"]).await;
    assert!(list.line_of(of_unknown_type).is_none(), "{}", list.printed);
    assert!(list.line_of(of_later_version).is_some(), "{}", list.printed);

    // A rebuild parks the records again, except for the discarded one.
    let config = &site.system.config;
    assert!(command(config, &["rebuild", "--reset"]).status().await.unwrap().success());
    let list = site.dead_letters(&["list", "--all"]).await;
    assert!(list.contains("discarded") && list.contains("from a test"), "{}", list.printed);
    assert_eq!(list.printed.matches("parked").count(), 4, "{}", list.printed);
    assert_folded(&site.system.read_model(), &site.system.records().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_dead_letters_creates_no_topic() {
    let config = config();
    let list = dead_letters(&config, &["list"]).await;
    assert!(!list.succeeded && list.contains("doesn't exist"), "{}", list.printed);
    assert!(describe_topic(&config.kafka_brokers, &config.kafka_topic).await.unwrap().is_none());
}

/// Projects the log as an older version does that parks the events that it doesn't know.
async fn project_as_older_version(config: &Config, records: &[Record], is_unknown: impl Fn(&Record) -> bool) {
    let topic = topic(config).await;
    let read_model = ReadModel::connect(&config.database_url, &config.database_schema, 2).unwrap();
    read_model.migrate().await.unwrap();
    let projection = read_model.open_projection(topic.id, topic.partitions).await.unwrap();
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    for batch in records.chunks(40) {
        let mut events: Vec<(Position, Event)> = Vec::new();
        let mut parked: Vec<ParkedRecord> = Vec::new();
        let from = next.clone();
        for record in batch {
            let position = Position { partition: record.partition, offset: record.offset };
            next.insert(position.partition, position.offset + 1);
            if is_unknown(record) {
                parked.push(ParkedRecord { position, reason: "not known yet".to_owned() });
            } else {
                events.push((position, envelope::decode(&record.bytes).unwrap()));
            }
        }
        let mut state = read_model.load(&Touched::by(events.iter().map(|(_, event)| event))).await.unwrap();
        let mut changes = Changes::default();
        for (position, event) in &events {
            fold(&mut state, &mut changes, event, *position);
        }
        let advances = next.iter().map(|(partition, to)| OffsetAdvance {
            partition: *partition,
            from: from.get(partition).copied().unwrap_or(0),
            to: *to,
        });
        let advances: Vec<_> = advances.filter(|advance| advance.from < advance.to).collect();
        read_model.commit(&state, &changes, &parked, &advances, projection).await.unwrap();
    }
}

/// Picks the records that the older version doesn't know: some at random, and the first creation of a conversation.
fn pick_unknown(records: &[Record], rng: &mut Rng) -> Vec<String> {
    let creation = records.iter().position(|record| record.headers["ce_type"] == "CONVERSATION_CREATED").unwrap();
    let unknown = records.iter().enumerate().filter(|(index, _)| *index == creation || rng.percent(4));
    unknown.map(|(_, record)| record.position()).collect()
}

/// A query, and its data as it was at first.
struct Query {
    user: &'static str,
    path: String,
    data_before: Value,
}

/// Asks for everything that alice and bob can read, so that it is cached.
async fn read_everything(system: &System) -> Vec<Query> {
    let mut paths = vec![("alice", "/api/messages".to_owned())];
    for user in ["alice", "bob"] {
        for conversation in system.all_pages(user, "/api/messages?limit=100").await {
            let id = conversation["id"].as_str().unwrap();
            paths.push((user, format!("/api/conversations/{id}")));
            let of_conversation = format!("/api/messages?conversationId={id}&limit=100");
            for message in system.all_pages(user, &of_conversation).await {
                paths.push((user, format!("/api/messages/{}", message["id"].as_str().unwrap())));
            }
            paths.push((user, of_conversation));
        }
    }
    let mut queries = Vec::new();
    for (user, path) in paths {
        let data_before = system.get(user, &path).await.data().clone();
        queries.push(Query { user, path, data_before });
    }
    queries
}

/// Asserts that no answer is left in the cache from before: a process without a cache answers the same.
async fn assert_nothing_stale(system: &System, queries: &[Query]) {
    let empty_cache = Config { redis_prefix: format!("{}cold", system.config.redis_prefix), ..system.config.clone() };
    let uncached = System::with_roles(empty_cache, Roles::QUERY_API).await;
    let mut changed = 0;
    for Query { user, path, data_before } in queries {
        let answer = system.get(user, path).await;
        let expected = uncached.get(user, path).await;
        assert_eq!((answer.status, &answer.body["data"]), (expected.status, &expected.body["data"]), "{path}");
        changed += usize::from(answer.body["data"] != *data_before);
    }
    assert!(changed > 10, "the retry changed too few answers to find a stale one: {changed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_folds_conversations_again_until_the_read_model_is_the_fold_of_the_log() {
    // Given a log of which an older version parked some events.
    let mut config = config();
    unlimited(&mut config);
    topic(&config).await;
    let history = random_history(11, 500);
    log::append(&config, &history.iter().map(NewRecord::event).collect::<Vec<_>>()).await;
    let records = log::records(&config.kafka_brokers, &config.kafka_topic).await;
    let unknown = pick_unknown(&records, &mut Rng::new(11));
    project_as_older_version(&config, &records, |record| unknown.contains(&record.position())).await;
    let system = System::with_roles(config, Roles::ALL).await;
    system.wait_until_projecting().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let queries = read_everything(&system).await;

    // When an operator retries them with this version while alice sends messages.
    let sending = async {
        for number in 0..200 {
            system.message("alice", &conversation, &number.to_string()).await;
        }
    };
    let ((), retried) = tokio::join!(sending, dead_letters(&system.config, &["retry", "--all"]));

    // Then every event counts, and no reader keeps an old answer.
    assert!(retried.succeeded, "{}", retried.printed);
    assert_eq!(retried.printed.matches("is folded").count(), unknown.len(), "{}", retried.printed);
    assert_folded(&system.read_model(), &system.records().await).await;
    let list = dead_letters(&system.config, &["list"]).await;
    assert!(list.contains("no dead letters"), "{}", list.printed);
    assert_nothing_stale(&system, &queries).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_counts_a_dead_letter_as_the_read_model_does_whatever_an_operator_decided() {
    // Given a log of which an older version parked some events.
    let config = config();
    topic(&config).await;
    log::append(&config, &random_history(12, 300).iter().map(NewRecord::event).collect::<Vec<_>>()).await;
    let records = log::records(&config.kafka_brokers, &config.kafka_topic).await;
    let unknown = pick_unknown(&records, &mut Rng::new(12));
    project_as_older_version(&config, &records, |record| unknown.contains(&record.position())).await;

    // When this version, which can read them, verifies that read model, then they aren't folded, as it should be.
    let verified = Verified::run(&config).await;
    let readable = format!("dead letters that this version can read: {}", unknown.len());
    assert!(verified.code == Some(0) && verified.printed.contains(&readable), "{verified:?}");

    // When an operator discards all of them, then they still aren't folded.
    for position in &unknown {
        let discarded = dead_letters(&config, &["discard", position, "--because", "from a test"]).await;
        assert!(discarded.succeeded, "{}", discarded.printed);
    }
    let verified = Verified::run(&config).await;
    assert!(verified.code == Some(0) && !verified.printed.contains("can read"), "{verified:?}");

    // When this version rebuilds the read model, then they are folded, and discarded nevertheless.
    assert!(command(&config, &["rebuild", "--reset"]).status().await.unwrap().success());
    let list = dead_letters(&config, &["list", "--all"]).await;
    assert_eq!(list.printed.matches("discarded").count(), unknown.len(), "{}", list.printed);
    let read_model = ReadModel::connect(&config.database_url, &config.database_schema, 2).unwrap();
    assert_folded(&read_model, &records).await;
    let verified = Verified::run(&config).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_an_unreadable_record_that_is_not_parked() {
    let site = SystemWithDeadLetters::start().await;
    let (position, reason) = &site.parked[0];
    let (partition, offset) = position.split_once(':').unwrap();
    assert_eq!(Verified::run(&site.system.config).await.code, Some(0));

    let forget = sqlx::query("DELETE FROM dead_letters WHERE partition = $1 AND position = $2");
    let forget = forget.bind(partition.parse::<i32>().unwrap()).bind(offset.parse::<i64>().unwrap());
    assert_eq!(forget.execute(&site.system.sql).await.unwrap().rows_affected(), 1);

    let verified = Verified::run(&site.system.config).await;
    let named = format!("✗ dead_letters partition={partition} position={offset}: the row is missing");
    let printed = &verified.printed;
    assert!(verified.code == Some(3) && printed.contains(&named) && printed.contains(reason), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_can_neither_move_the_cursor_nor_forge_a_line() {
    let config = config();
    let mut process = command(&config, &["all"]);
    process.env("LOG", "debug").stderr(Stdio::piped());
    let mut running = ServiceProcess::of(process, free_port());
    let mut log = BufReader::new(running.child.stderr.take().unwrap()).lines();
    let (logged, mut lines) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        // A process whose log nobody reads stands still once the pipe is full.
        while let Ok(Some(line)) = log.next_line().await {
            let _ = logged.send(line);
        }
    });
    running.ready().await;
    let system = System::attach(config, &running.url);
    let conversation = system.conversation("alice", &["bob"]).await;

    let hostile = "EVIL\u{1b}[2J\n0:9999 parked\u{202e}\u{9b}1m\u{2028}";
    let mut value = system.records_of(&conversation).await.remove(0).value;
    value["type"] = json!(hostile);
    let record = NewRecord {
        key: conversation.clone(),
        value: value.to_string().replace("\\u001b", "\u{1b}").into_bytes(),
        event_type: Some("EVIL\u{1b}[31m\nce_type"),
        timestamp_ms: None,
    };
    // The first is an object with a hostile type; the second holds the control itself and is therefore no JSON.
    let valid = NewRecord { value: value.to_string().into_bytes(), ..record.clone() };
    let positions = log::append(&system.config, &[valid, record]).await;

    let is_harmless = |text: &str| !text.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\u{2028}']);
    let list = eventually("both are parked", async || {
        let list = dead_letters(&system.config, &["list"]).await;
        positions.iter().all(|position| list.line_of(position).is_some()).then_some(list)
    })
    .await;
    assert!(is_harmless(&list.printed) && list.line_of("0:9999").is_none(), "{}", list.printed);
    assert!(list.contains("EVIL\\u001b[2J\\n0:9999"), "{}", list.printed);
    for position in &positions {
        let shown = dead_letters(&system.config, &["show", position]).await;
        assert!(is_harmless(&shown.printed) && shown.contains("EVIL\\u001b[31m\\nce_type"), "{}", shown.printed);
    }
    let mut is_named = false;
    while !is_named {
        let line = tokio::time::timeout(TIMEOUT, lines.recv()).await.expect("the log doesn't name the record").unwrap();
        assert!(is_harmless(&line) && !line.starts_with("0:9999"), "{line}");
        is_named = line.contains("EVIL");
    }
}
