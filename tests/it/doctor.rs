//! What the command line says about a system that is well, and about one that isn't.

use messages::process::Roles;
use serde_json::json;
use service::config::Config;

use crate::harness::System;
use crate::harness::process::{command, free_port};
use crate::harness::system::{PARTITIONS, SECRET, config};

/// Whether it was content, and what it printed.
async fn run(config: &Config, arguments: &[&str], environment: &[(&str, &str)]) -> (bool, String) {
    let ended = command(config, arguments).envs(environment.iter().copied()).output().await.unwrap();
    let printed = String::from_utf8(ended.stdout).unwrap() + &String::from_utf8_lossy(&ended.stderr);
    assert!(!printed.contains(SECRET), "{printed}");
    (ended.status.success(), printed)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_a_system_that_runs_well() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.post("alice", json!({"conversationId": conversation, "content": "hi"})).await;
    system.wait_until_published(&sent).await;
    let (well, printed) = run(&system.config, &["doctor"], &[]).await;
    assert!(well, "{printed}");
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
async fn the_doctor_says_what_to_do_about_a_service_that_is_away() {
    let config = config();
    let nowhere = free_port();
    let (kafka, postgres) =
        (format!("127.0.0.1:{nowhere}"), format!("postgres://messages@127.0.0.1:{nowhere}/messages"));
    let redis = format!("redis://127.0.0.1:{nowhere}");
    let away = [("KAFKA_BROKERS", kafka.as_str()), ("DATABASE_URL", &postgres), ("REDIS_URL", &redis)];
    let (well, printed) = run(&config, &["doctor"], &away).await;
    assert!(!well, "{printed}");
    for advice in ["or set KAFKA_BROKERS", "or set DATABASE_URL", "or set REDIS_URL"] {
        assert!(printed.contains(advice), "{advice}: {printed}");
    }
    assert!(printed.contains("2 checks failed"), "without Redis everything goes on: {printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_leads_from_nothing_to_a_system_that_runs() {
    let config = config();
    let advised = async |advice: &str| {
        let (_, printed) = run(&config, &["doctor"], &[]).await;
        assert!(printed.contains(advice), "{advice}: {printed}");
    };
    advised("create it: messages topic --make").await;
    assert!(!run(&config, &["topic"], &[]).await.0, "there is none yet");
    let (made, printed) = run(&config, &["topic", "--make"], &[]).await;
    assert!(made && printed.contains(&format!("{PARTITIONS} partitions")), "{printed}");
    advised("run messages migrate").await;
    assert!(run(&config, &["migrate"], &[]).await.0);
    advised("start a projector").await;
    let mut projector = System::with_roles(config.clone(), Roles::PROJECTOR).await;
    projector.wait_until_projecting().await;
    let (well, printed) = run(&config, &["doctor"], &[]).await;
    assert!(well, "{printed}");
    projector.stop().await;
    advised("no projector owns partitions [0, 1, 2]").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_shown_as_it_is() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let record = system.records_of(&conversation).await.remove(0);
    let (well, printed) = run(&system.config, &["topic"], &[]).await;
    assert!(well, "{printed}");
    assert!(printed.contains("cleanup.policy") && printed.contains("LogAppendTime"), "{printed}");
    let (partition, offset) =
        record.position().split_once(':').map(|(one, other)| (one.to_owned(), other.to_owned())).unwrap();
    let next = (offset.parse::<i64>().unwrap() + 1).to_string();
    let row = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert!(printed.lines().any(|line| row(line) == [partition.as_str(), "0", next.as_str()]), "{printed}");
}
