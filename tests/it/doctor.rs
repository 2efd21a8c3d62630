//! `messages doctor` and `messages topic`: what the command line says about a healthy system, and what it advises for
//! any other.

use messages::process::Roles;
use serde_json::json;
use service::config::Config;

use crate::harness::System;
use crate::harness::process::{command, free_port};
use crate::harness::system::{PARTITIONS, SECRET, config};

/// How a command ended.
pub(crate) struct CliOutput {
    pub(crate) succeeded: bool,
    pub(crate) printed: String,
}

/// Runs a command to its end.
pub(crate) async fn run(config: &Config, arguments: &[&str]) -> CliOutput {
    run_with(config, arguments, &[]).await
}

async fn run_with(config: &Config, arguments: &[&str], environment: &[(&str, &str)]) -> CliOutput {
    let output = command(config, arguments).envs(environment.iter().copied()).output().await.unwrap();
    let printed = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    assert!(!printed.contains(SECRET), "{printed}");
    CliOutput { succeeded: output.status.success(), printed }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_every_part_of_a_healthy_system_well() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.post("alice", json!({"conversationId": conversation, "content": "hi"})).await;
    system.wait_until_published(&sent).await;
    let CliOutput { succeeded, printed } = run(&system.config, &["doctor"]).await;
    assert!(succeeded, "{printed}");
    for line in [
        "✓ AUTH_JWT_SECRET is set",
        "✓ Kafka answers",
        "! an acknowledged event is on 1 broker only",
        "✓ Postgres ",
        "✓ the schema ",
        "✓ Redis ",
        "✓ projectors running: 1",
        "✓ the read model is 0 events behind",
        "✓ no dead letters",
    ] {
        assert!(printed.lines().any(|printed| printed.starts_with(line)), "no line begins with {line:?}:\n{printed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_what_to_do_about_a_service_that_does_not_answer() {
    let port = free_port();
    let kafka = format!("127.0.0.1:{port}");
    let postgres = format!("postgres://messages@127.0.0.1:{port}/messages");
    let redis = format!("redis://127.0.0.1:{port}");
    let nothing_answers =
        [("KAFKA_BROKERS", kafka.as_str()), ("DATABASE_URL", postgres.as_str()), ("REDIS_URL", redis.as_str())];
    let CliOutput { succeeded, printed } = run_with(&config(), &["doctor"], &nothing_answers).await;
    assert!(!succeeded, "{printed}");
    for advice in ["or set KAFKA_BROKERS", "or set DATABASE_URL", "or set REDIS_URL"] {
        assert!(printed.contains(advice), "{advice}: {printed}");
    }
    // A system works without Redis.
    assert!(printed.contains("2 checks failed"), "without Redis everything goes on: {printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_advises_each_step_from_nothing_to_a_running_system() {
    let config = config();
    let doctor_advises = async |advice: &str| {
        let CliOutput { printed, .. } = run(&config, &["doctor"]).await;
        assert!(printed.contains(advice), "{advice}: {printed}");
    };

    doctor_advises("create it: messages topic --make").await;
    assert!(!run(&config, &["topic"]).await.succeeded, "the topic exists already");
    let created = run(&config, &["topic", "--make"]).await;
    assert!(created.succeeded && created.printed.contains(&format!("{PARTITIONS} partitions")), "{}", created.printed);

    doctor_advises("run messages migrate").await;
    assert!(run(&config, &["migrate"]).await.succeeded);

    doctor_advises("start a projector").await;
    let mut projector = System::with_roles(config.clone(), Roles::PROJECTOR).await;
    projector.wait_until_projecting().await;
    let healthy = run(&config, &["doctor"]).await;
    assert!(healthy.succeeded, "{}", healthy.printed);

    projector.stop().await;
    doctor_advises("no projector owns partitions [0, 1, 2]").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_a_topics_settings_and_offsets() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let record = system.records_of(&conversation).await.remove(0);
    let CliOutput { succeeded, printed } = run(&system.config, &["topic"]).await;
    assert!(succeeded, "{printed}");
    assert!(printed.contains("cleanup.policy") && printed.contains("LogAppendTime"), "{printed}");
    // The partition, its first offset, and its end.
    let row = [record.partition.to_string(), "0".to_owned(), (record.offset + 1).to_string()];
    assert!(printed.lines().any(|line| line.split_whitespace().eq(&row)), "no {row:?}: {printed}");
}
