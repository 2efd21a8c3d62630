//! Records that can't be folded: parked and shown, they hold nothing up, and can be tried again.

use std::collections::BTreeMap;

use domain::fold::fold;
use domain::state::{Changes, Touched};
use domain::testing::{Rng, random_history};
use domain::{Event, OffsetAdvance, Position, envelope};
use event_log::{TopicSpec, describe_topic, ensure_topic};
use messages::process::Roles;
use read_model::{ParkedRecord, ReadModel};
use serde_json::{Value, json};
use service::config::Config;

use crate::harness::fold::assert_folded;
use crate::harness::log::{self, NewRecord, Record};
use crate::harness::process::{ServiceProcess, command};
use crate::harness::system::{System, config, eventually, unknown_id};

/// The line of a list that tells of the record at this position. A time that the list names, too, can look like one.
fn line_of<'a>(list: &'a str, position: &str) -> Option<&'a str> {
    list.lines().find(|line| line.split_whitespace().next() == Some(position))
}

/// `messages dead-letters …`: what it printed, and whether it succeeded.
async fn dead_letters(config: &Config, arguments: &[&str]) -> (String, bool) {
    let output = command(config, &[&["dead-letters"], arguments].concat()).output().await.unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&printed).into_owned(), output.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_no_event_is_parked_shown_and_holds_nothing_up() {
    let config = config();
    let running = ServiceProcess::start(&config, &["all"]).await;
    let system = System::attach(config, &running.url);
    let conversation = system.conversation("alice", &["bob"]).await;
    let first = system.post("alice", json!({"conversationId": conversation, "content": "before"})).await;
    let event = system.record_at(&first).await;
    let as_if = |change: &dyn Fn(&mut Value)| {
        let mut value = event.value.clone();
        change(&mut value);
        NewRecord {
            key: conversation.clone(),
            value: value.to_string().into_bytes(),
            event_type: Some("MESSAGE_SENT"),
            timestamp_ms: None,
        }
    };
    let partition = |id: &str| event_log::partition_for(id.as_bytes(), 3);
    let elsewhere = std::iter::repeat_with(unknown_id).find(|id| partition(id) != partition(&conversation)).unwrap();
    let (strange, reasons): (Vec<NewRecord>, Vec<&str>) = [
        (as_if(&|value| value["version"] = json!(7)), "version 7"),
        (as_if(&|value| value["type"] = json!("MESSAGE_PINNED")), "MESSAGE_PINNED"),
        (as_if(&|value| value["enc"] = json!({})), "encrypted"),
        (NewRecord { value: b"\x00not JSON".to_vec(), ..as_if(&|_| {}) }, "object"),
        (as_if(&|value| value["conversationId"] = json!(elsewhere)), "on partition"),
    ]
    .into_iter()
    .unzip();
    let positions = log::append(&system.config, &strange).await;
    let after = system.post("bob", json!({"conversationId": conversation, "content": "after"})).await;
    let seen = system.get_after(&after, "alice", &format!("/api/messages?conversationId={conversation}")).await;
    assert_eq!(seen.ids().len(), 2, "{seen:?}");
    eventually("they are counted", async || (running.metric("projector_dead_letters", "").await == 5.0).then_some(()))
        .await;
    let (list, _) = dead_letters(&system.config, &["list"]).await;
    for (position, reason) in positions.iter().zip(&reasons) {
        let line = line_of(&list, position).unwrap_or_else(|| panic!("{position}: {list}"));
        assert!(line.contains("parked") && line.contains(reason), "{line}");
    }
    let (shown, _) = dead_letters(&system.config, &["show", &positions[1]]).await;
    assert!(shown.contains(&conversation) && shown.contains("MESSAGE_PINNED") && shown.contains("before"), "{shown}");
    // This version still can't read them.
    let (retried, folded) = dead_letters(&system.config, &["retry", &positions[0]]).await;
    assert!(!folded && retried.contains("version 7"), "{retried}");
    let (discarded, done) = dead_letters(&system.config, &["discard", &positions[1], "--because", "from a test"]).await;
    assert!(done, "{discarded}");
    let (_, done) = dead_letters(&system.config, &["discard", "0:99999", "--because", "there is none"]).await;
    assert!(!done);
    let (list, _) = dead_letters(&system.config, &["list"]).await;
    assert!(line_of(&list, &positions[1]).is_none() && line_of(&list, &positions[0]).is_some(), "{list}");
    // A rebuild finds them again, and what somebody decided stays.
    assert!(command(&system.config, &["rebuild", "--reset"]).status().await.unwrap().success());
    let (list, _) = dead_letters(&system.config, &["list", "--all"]).await;
    assert!(list.contains("discarded") && list.contains("from a test"), "{list}");
    assert_eq!(list.matches("parked").count(), 4, "{list}");
    assert_folded(&system.read_model(), &system.records().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_for_dead_letters_makes_nothing() {
    let config = config();
    let (said, done) = dead_letters(&config, &["list"]).await;
    assert!(!done && said.contains("doesn't exist"), "{said}");
    assert!(describe_topic(&config.kafka_brokers, &config.kafka_topic).await.unwrap().is_none());
}

/// Folds the log as an older version does that doesn't know some of its events.
async fn project_as_before(config: &Config, records: &[Record], unknown: impl Fn(&Record) -> bool) {
    let spec = TopicSpec { name: config.kafka_topic.clone(), partitions: config.kafka_partitions };
    let topic = ensure_topic(&config.kafka_brokers, &spec).await.unwrap();
    let read_model = ReadModel::connect(&config.database_url, &config.database_schema, 2).unwrap();
    read_model.migrate().await.unwrap();
    let projection = read_model.open_projection(topic.id, topic.partitions).await.unwrap();
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    for batch in records.chunks(40) {
        let (mut events, mut parked): (Vec<(Position, Event)>, Vec<ParkedRecord>) = (Vec::new(), Vec::new());
        let from = next.clone();
        for record in batch {
            let position = Position { partition: record.partition, offset: record.offset };
            next.insert(position.partition, position.offset + 1);
            if unknown(record) {
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
        let steps = next.iter().map(|(partition, to)| OffsetAdvance {
            partition: *partition,
            from: from.get(partition).copied().unwrap_or(0),
            to: *to,
        });
        let steps: Vec<_> = steps.filter(|step| step.from < step.to).collect();
        read_model.commit(&state, &changes, &parked, &steps, projection).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_folds_conversations_again_and_live_equals_the_fold_of_the_log() {
    let mut config = config();
    crate::harness::system::unlimited(&mut config);
    let spec = TopicSpec { name: config.kafka_topic.clone(), partitions: config.kafka_partitions };
    ensure_topic(&config.kafka_brokers, &spec).await.unwrap();
    let history = random_history(11, 500);
    log::append(&config, &history.iter().map(NewRecord::event).collect::<Vec<_>>()).await;
    let records = log::records(&config.kafka_brokers, &config.kafka_topic).await;
    let mut rng = Rng::new(11);
    // The first conversation's creation is among them.
    let created = records.iter().position(|record| record.headers["ce_type"] == "CONVERSATION_CREATED").unwrap();
    let unknown: Vec<String> = records
        .iter()
        .enumerate()
        .filter(|(index, _)| *index == created || rng.percent(4))
        .map(|(_, record)| record.position())
        .collect();
    project_as_before(&config, &records, |record| unknown.contains(&record.position())).await;

    let system = System::with_roles(config, Roles::ALL).await;
    system.wait_until_projecting().await;
    // Readers have what was folded, and people go on.
    let talk = system.conversation("alice", &["bob"]).await;
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
    let mut before = Vec::new();
    for (user, path) in &paths {
        before.push(system.get(user, path).await.data().clone());
    }
    let going_on = async {
        for number in 0..200 {
            system.message("alice", &talk, &number.to_string()).await;
        }
    };
    let ((), (printed, folded)) = tokio::join!(going_on, dead_letters(&system.config, &["retry", "--all"]));
    assert!(folded, "{printed}");
    assert_eq!(printed.matches("is folded").count(), unknown.len(), "{printed}");
    assert_folded(&system.read_model(), &system.records().await).await;
    let (list, _) = dead_letters(&system.config, &["list"]).await;
    assert!(list.contains("no dead letters"), "{list}");
    // No reader is left with what there was before.
    let cold = System::with_roles(
        Config { redis_prefix: format!("{}cold", system.config.redis_prefix), ..system.config.clone() },
        Roles::QUERY_API,
    )
    .await;
    let mut changed = 0;
    for ((user, path), before) in paths.iter().zip(before) {
        let (now, read) = (system.get(user, path).await, cold.get(user, path).await);
        assert_eq!((now.status, &now.body["data"]), (read.status, &read.body["data"]), "{path}");
        changed += usize::from(now.body["data"] != before);
    }
    assert!(changed > 10, "they had what was different: {changed}");
}
