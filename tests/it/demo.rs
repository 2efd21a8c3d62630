//! `messages demo`: the community is the same on every topic, folds as every log does, and never gets into a real one by
//! mistake.

use event_log::describe_topic;
use service::config::Config;
use tokio::process::Command;

use crate::harness::fold::{assert_folded, folded_records};
use crate::harness::log::{self, Record};
use crate::harness::process::command;
use crate::harness::system::{System, TIMEOUT, config, eventually};

const SMALL: [&str; 9] = ["demo", "--users", "50", "--conversations", "100", "--messages", "2000", "--seed", "7"];

/// Runs a command that must succeed.
async fn run(mut command: Command) {
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Runs a command that must fail, and returns what it printed.
async fn refused(mut command: Command) -> String {
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Prepares the small community. Tests run in production mode.
fn confirmed(config: &Config) -> Command {
    let mut command = command(config, &SMALL);
    command.arg("--yes");
    command
}

/// Everything of the records but when the log took them.
async fn records(config: &Config) -> Vec<Record> {
    let mut records = log::records(&config.kafka_brokers, &config.kafka_topic).await;
    records.iter_mut().for_each(|record| record.timestamp_ms = 0);
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn a_community_is_the_same_on_every_topic_and_its_people_can_read() {
    let system = System::start().await;
    let other = config();

    run(confirmed(&system.config)).await;
    run(confirmed(&other)).await;

    let appended = records(&system.config).await;
    assert!(appended == records(&other).await, "the second topic has other records");
    let event = appended.iter().find(|record| record.value["type"] == "MESSAGE_SENT").unwrap();
    for header in ["ce_id", "ce_time", "ce_type", "ce_subject", "traceparent"] {
        assert!(event.headers.contains_key(header) && event.log_append_time, "{event:?}");
    }

    assert_folded(&system.read_model(), &appended).await;
    eventually("three records are dead letters", async || {
        let parked = system.row("SELECT count(*) AS parked FROM dead_letters WHERE $1 = ''", "").await;
        (parked["parked"] == 3).then_some(())
    })
    .await;

    let expected = folded_records(&appended);
    let counts = (expected.conversations.len(), expected.messages.len());
    assert_eq!(counts, (100, 2_000), "an event came before what it needs");
    let of_alice = expected.members.keys().filter(|(_, user)| user.as_str() == "alice").count();
    assert_eq!(system.all_pages("alice", "/api/messages?limit=50").await.len(), of_alice);
    let token = command(&system.config, &["token", "alice"]).output().await.unwrap().stdout;
    let token = String::from_utf8(token).unwrap();
    let list = system.get_with(token.trim(), "/api/messages?limit=100").await;
    let newest = &list.data()[0];
    let id = newest["id"].as_str().unwrap();
    let messages = system.get_with(token.trim(), &format!("/api/messages?conversationId={id}")).await;
    assert_eq!((messages.status, &messages.data()[0]["id"]), (200, &newest["lastMessage"]["id"]), "{messages:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_production_nothing_is_appended_without_a_confirmation() {
    let config = config();
    let refusal = refused(command(&config, &SMALL)).await;
    assert!(refusal.contains("production") && refusal.contains("--yes"), "{refusal}");
    assert_eq!(describe_topic(&config.kafka_brokers, &config.kafka_topic).await.unwrap(), None);

    let mut in_development = command(&config, &SMALL);
    in_development.env("MESSAGES_ENV", "development");
    run(in_development).await;
    assert!(!records(&config).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_the_read_model_was_not_folded_from_is_refused() {
    let system = System::start().await;
    let other = Config { kafka_topic: config().kafka_topic, ..system.config.clone() };

    let refusal = refused(confirmed(&other)).await;
    assert!(refusal.contains("doesn't exist") && refusal.contains("KAFKA_TOPIC"), "{refusal}");
    assert_eq!(describe_topic(&other.kafka_brokers, &other.kafka_topic).await.unwrap(), None);

    run(command(&other, &["topic", "--make"])).await;
    let refusal = refused(confirmed(&other)).await;
    assert!(refusal.contains("folded from another topic"), "{refusal}");
    assert!(records(&other).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_says_how_many_records_are_on_the_topic() {
    let config = config();
    let mut endless = command(&config, &["demo", "--messages", "100000000", "--yes"]);
    let child = endless.stderr(std::process::Stdio::piped()).spawn().unwrap();
    eventually("records are appended", async || {
        let topic = describe_topic(&config.kafka_brokers, &config.kafka_topic).await.unwrap();
        topic?;
        (count(&config).await > 0).then_some(())
    })
    .await;

    let process = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &process]).status().await.unwrap().success());

    let output = tokio::time::timeout(TIMEOUT, child.wait_with_output()).await.expect("the command goes on").unwrap();
    let printed = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    let appended = count(&config).await;
    assert!(printed.contains(&format!("stopped after {appended} records")), "{appended} records; {printed}");
}

/// How many records the topic has.
async fn count(config: &Config) -> usize {
    let (brokers, topic) = (config.kafka_brokers.clone(), config.kafka_topic.clone());
    tokio::task::spawn_blocking(move || {
        let mut count = 0;
        log::read(&brokers, &topic, |_| count += 1);
        count
    })
    .await
    .unwrap()
}
