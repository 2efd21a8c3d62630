//! `messages verify`: a read model that is the fold of the log is found equal, however busy the system is, and each row
//! that isn't is named.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::testing::random_history;
use event_log::describe_topic;
use messages::process::Roles;
use projector::{Verification, VerifyProgress, verify};
use read_model::DerivedTable;
use replay::SortBudget;
use sqlx::AssertSqlSafe;
use tokio::process::Command;

use crate::harness::http::Response;
use crate::harness::log::{self, NewRecord};
use crate::harness::process::command;
use crate::harness::system::{config, unlimited};
use crate::harness::verified::Verified;
use crate::harness::{System, eventually};

/// A system with a random history on its log, and records that are no events.
pub(crate) async fn system_with_history() -> System {
    with_history(System::unlimited().await).await
}

/// Gives a system such a history.
pub(crate) async fn with_history(system: System) -> System {
    let mut records: Vec<NewRecord> = random_history(20, 2_000).iter().map(NewRecord::event).collect();
    for (index, value) in [(100, "no JSON"), (900, "{\"version\": 9}"), (1_500, "")] {
        let damaged = NewRecord { value: value.as_bytes().to_vec(), ..records[index].clone() };
        records.insert(index, damaged);
    }
    log::append(&system.config, &records).await;
    system.wait_until_caught_up().await;
    system
}

/// Sends messages, and reacts to them, until it is told to stop. Returns how many.
async fn chat(system: &System, stop: &AtomicBool) -> usize {
    let conversation = system.conversation("alice", &["bob", "carol"]).await;
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let message = system.message("alice", &conversation, &sent.to_string()).await;
        assert_eq!(system.react("bob", &message, "👍").await.status, 201);
        assert_eq!(system.mark_read("carol", &conversation, Some(&message)).await.status, 200);
        for path in ["/api/messages", &format!("/api/messages?conversationId={conversation}")] {
            system.get("bob", path).await;
        }
        sent += 1;
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_system_is_found_equal_to_its_log_while_commands_keep_coming() {
    let system = system_with_history().await;
    let stop = AtomicBool::new(false);
    let verifying = async {
        for _ in 0..3 {
            let verified = Verified::run(&system.config).await;
            assert_eq!(verified.code, Some(0), "{verified:?}");
            assert!(verified.printed.contains("✓ the read model is the fold of the log"), "{verified:?}");
        }
        stop.store(true, Ordering::Relaxed);
    };
    let ((), sent) = tokio::join!(verifying, chat(&system, &stop));
    assert!(sent > 3, "the system was hardly busy: {sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_depends_on_what_fits_into_memory() {
    let system = system_with_history().await;
    let topic = describe_topic(&system.config.kafka_brokers, &system.config.kafka_topic).await.unwrap().unwrap();
    let verification = |memory_max, bucket_max| Verification {
        brokers: system.config.kafka_brokers.clone(),
        topic: system.config.kafka_topic.clone(),
        topic_id: topic.id,
        partitions: topic.partitions,
        read_model: system.read_model(),
        budget: SortBudget { folder: std::env::temp_dir(), memory_max, bucket_max },
    };
    let in_memory = verify(&verification(1 << 30, 1 << 30), |_| {}).await.unwrap();
    assert!(in_memory.differences.is_empty() && in_memory.rows > 1_000 && in_memory.records > 2_000, "{in_memory:?}");
    let steps = Arc::new(std::sync::Mutex::new(Vec::new()));
    let spilled = verify(&verification(0, 0), |step| steps.lock().unwrap().push(step)).await.unwrap();
    assert_eq!(spilled, in_memory);
    let is_last = |step: &&VerifyProgress| matches!(step, VerifyProgress::Comparison { done, total } if done == total);
    assert_eq!(steps.lock().unwrap().iter().filter(is_last).count(), 1, "it reports its end");
}

/// Two conversations, and no service that would write to them.
struct Quiet {
    system: System,
    /// Alice, bob and carol: with two messages, and two reactions to the first.
    chat: String,
    /// Alice and dora.
    other: String,
    one: Response,
    two: Response,
    /// Carol's reaction, the last event.
    last: Response,
}

/// An id that nothing else has.
const FORGED: &str = "00000000-0000-0000-0000-00000000000a";

impl Quiet {
    async fn start() -> Self {
        let mut system = System::unlimited().await;
        let chat = system.conversation("alice", &["bob", "carol"]).await;
        let other = system.conversation("alice", &["dora"]).await;
        let one = system.send("alice", &chat, "one").await;
        let two = system.send("bob", &chat, "two").await;
        assert_eq!(system.react("bob", &one.id(), "👍").await.status, 201);
        let last = system.react("carol", &one.id(), "🎉").await;
        system.wait_until_caught_up().await;
        system.stop().await;
        Self { system, chat, other, one, two, last }
    }

    /// Changes, deletes and adds a row of each table.
    async fn tamper(&self) {
        let Self { chat, other, two, .. } = self;
        let of_chat = format!("conversation_id = '{chat}'");
        let event = |done: &Response| format!("{of_chat} AND position = {}", offset(done));
        for statement in [
            format!("UPDATE conversations SET title = 'a\nforgery' WHERE id = '{chat}'"),
            format!("DELETE FROM conversations WHERE id = '{other}'"),
            format!(
                "INSERT INTO conversations SELECT '{FORGED}', partition, kind, title, participant_count, created_at,
                        updated_at, last_seq, last_message_id, changed FROM conversations WHERE id = '{chat}'"
            ),
            format!("UPDATE members SET last_read_at = '2020-01-01 00:00:00.5Z' WHERE {of_chat} AND user_id = 'bob'"),
            format!("DELETE FROM members WHERE {of_chat} AND user_id = 'carol'"),
            format!(
                "INSERT INTO members SELECT conversation_id, 'mallory', 9, 0, NULL, position, recent_at, partition,
                        changed FROM members WHERE {of_chat} AND user_id = 'bob'"
            ),
            format!("UPDATE messages SET content = NULL, mentions = '{{\"a\": 1}}' WHERE {of_chat} AND seq = 1"),
            format!("DELETE FROM messages WHERE {of_chat} AND seq = 2"),
            format!(
                "INSERT INTO messages SELECT conversation_id, 9, id, sender_id, content, message_type, attachments,
                        mentions, reply_to_id, created_at, edited_at, deleted_at, position
                 FROM messages WHERE {of_chat} AND seq = 1"
            ),
            format!("UPDATE reactions SET user_ids = '[\"bob\", \"bob\"]' WHERE {of_chat} AND ordinal = 0"),
            format!("DELETE FROM reactions WHERE {of_chat} AND ordinal = 1"),
            format!("INSERT INTO reactions VALUES ('{other}', '{}', 0, '👍', NULL, '[]')", two.id()),
            format!("UPDATE applied_events SET position = position + 1000 WHERE {}", event(&self.one)),
            format!("DELETE FROM applied_events WHERE {}", event(&self.last)),
            format!("INSERT INTO applied_events VALUES ('{chat}', '{FORGED}', NULL, NULL, 0, 1)"),
        ] {
            let done = sqlx::query(AssertSqlSafe(statement.clone())).execute(&self.system.sql).await.unwrap();
            assert_eq!(done.rows_affected(), 1, "{statement}");
        }
    }

    /// How each of these rows is named.
    async fn names(&self) -> [String; 16] {
        let Self { chat, other, one, two, last, .. } = self;
        let of_chat = format!("conversation_id={chat}");
        let reaction = format!("reactions {of_chat} message_id={}", one.id());
        // Bob has read what he sent.
        let read_at = self.occurred_at(two).await;
        let (moved, lost, offset) = (self.event_id(one).await, self.event_id(last).await, offset(one));
        [
            format!("conversations id={chat}: title is \"a\\nforgery\", must be NULL"),
            format!("conversations id={other}: the row is missing"),
            format!("conversations id={FORGED}: the row must not exist"),
            format!(
                "members {of_chat} user_id=bob: last_read_at is \"2020-01-01 00:00:00.5+00\", must be \"{read_at}\""
            ),
            format!("members {of_chat} user_id=carol: the row is missing"),
            format!("members {of_chat} user_id=mallory: the row must not exist"),
            format!("messages {of_chat} seq=1: content is NULL, must be \"one\""),
            format!("messages {of_chat} seq=1: mentions is \"{{\"a\": 1}}\", must be \"[]\""),
            format!("messages {of_chat} seq=2: the row is missing"),
            format!("messages {of_chat} seq=9: the row must not exist"),
            format!("{reaction} ordinal=0: user_ids is \"[\"bob\",\"bob\"]\", must be \"[\"bob\"]\""),
            format!("{reaction} ordinal=1: the row is missing"),
            format!("reactions conversation_id={other} message_id={} ordinal=0: the row must not exist", two.id()),
            format!(
                "applied_events {of_chat} event_id={moved}: position is \"{}\", must be \"{offset}\"",
                offset + 1_000
            ),
            format!("applied_events {of_chat} event_id={lost}: the row is missing"),
            format!("applied_events {of_chat} event_id={FORGED}: the row must not exist"),
        ]
    }

    async fn event_id(&self, done: &Response) -> String {
        self.system.record_at(done).await.value["eventId"].as_str().unwrap().to_owned()
    }

    /// When a command's event occurred, as Postgres writes it.
    async fn occurred_at(&self, done: &Response) -> String {
        let at = self.system.record_at(done).await.value["occurredAt"].as_str().unwrap().replace('T', " ");
        let without_zeros = at.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
        format!("{without_zeros}+00")
    }
}

fn offset(done: &Response) -> i64 {
    let (_, offset) = done.position().split_once(':').unwrap();
    offset.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_that_somebody_changed_deleted_or_added_by_hand_is_named() {
    let quiet = Quiet::start().await;
    let config = &quiet.system.config;
    assert_eq!(Verified::run(config).await.code, Some(0));

    quiet.tamper().await;
    let verified = Verified::run(config).await;
    assert_eq!(verified.code, Some(3), "{verified:?}");
    let names = quiet.names().await;
    assert_eq!(verified.differences(), names.iter().map(String::as_str).collect(), "{verified:?}");
    for table in DerivedTable::ALL {
        let counts = format!("{:<16}{:>10}{:>10}{:>10}", table.name(), 1, 1, 1);
        assert!(verified.printed.contains(&counts), "{verified:?}");
    }
    assert!(verified.printed.contains("rows 15, in conversations 3"), "{verified:?}");

    assert!(command(config, &["rebuild", "--reset"]).status().await.unwrap().success());
    let verified = Verified::run(config).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_differences_the_first_twenty_are_printed_and_all_are_counted() {
    let mut system = System::unlimited().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let mut last = system.send("alice", &conversation, "0").await;
    for number in 1..30 {
        last = system.send("alice", &conversation, &number.to_string()).await;
    }
    system.wait_until_projected(&last).await;
    system.stop().await;
    sqlx::query("UPDATE messages SET content = 'x'").execute(&system.sql).await.unwrap();
    let verified = Verified::run(&system.config).await;
    assert_eq!((verified.code, verified.differences().len()), (Some(3), 20), "{verified:?}");
    assert!(verified.printed.contains("rows 30, in conversations 1"), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_compared_is_no_difference_and_creates_nothing() {
    let mut config = config();
    unlimited(&mut config);
    let verified = Verified::run(&config).await;
    assert!(verified.code == Some(1) && verified.complained.contains("doesn't exist"), "{verified:?}");
    assert!(describe_topic(&config.kafka_brokers, &config.kafka_topic).await.unwrap().is_none());

    assert!(command(&config, &["topic", "--make"]).status().await.unwrap().success());
    let verified = Verified::run(&config).await;
    assert!(verified.code == Some(1) && verified.complained.contains("messages migrate"), "{verified:?}");

    assert!(command(&config, &["migrate"]).status().await.unwrap().success());
    let verified = Verified::run(&config).await;
    assert!(verified.code == Some(1) && verified.complained.contains("no projector"), "{verified:?}");

    let system = System::with_roles(config, Roles::ALL).await;
    let verified = eventually("the projector has begun", async || {
        Some(Verified::run(&system.config).await).filter(|verified| verified.code == Some(0))
    })
    .await;
    assert!(verified.printed.contains("0 rows, 0 records"), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_that_is_told_to_stop_says_that_it_is_not_finished() {
    let Quiet { system, .. } = Quiet::start().await;
    // It waits for somebody who rewrites the table.
    let mut rewriting = system.sql.begin().await.unwrap();
    sqlx::query("LOCK TABLE messages").execute(&mut *rewriting).await.unwrap();
    let verifying = command(&system.config, &["verify"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let process = verifying.id().unwrap().to_string();
    let waiting = "SELECT count(*) AS waiting FROM pg_locks WHERE NOT granted AND relation = $1::regclass";
    eventually("it waits for the table", async || {
        let row = system.row(waiting, &format!("{}.messages", system.config.database_schema)).await;
        (row["waiting"] == 1).then_some(())
    })
    .await;

    assert!(Command::new("kill").args(["-TERM", &process]).status().await.unwrap().success());
    let output = verifying.wait_with_output().await.unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && complained.contains("stopped before"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_and_column_that_is_folded_from_the_log_is_compared() {
    // What isn't folded from the log.
    const OTHERS: [&str; 12] = [
        "_sqlx_migrations",
        "audit",
        "conversation_rebuilds",
        "dead_letters",
        "generations",
        "jobs",
        "leases",
        "partitions",
        "projection",
        "projectors",
        "repairs",
        "unreserved",
    ];
    let system = System::with_roles(config(), Roles::ALL).await;
    let query = "SELECT jsonb_agg(jsonb_build_array(table_name, column_name)) AS columns
                 FROM information_schema.columns WHERE table_schema = $1";
    let found = system.row(query, &system.config.database_schema).await;
    let found: BTreeSet<(&str, &str)> = found["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| (column[0].as_str().unwrap(), column[1].as_str().unwrap()))
        .filter(|(table, _)| !OTHERS.contains(table))
        .collect();
    let compared = DerivedTable::ALL.iter().flat_map(|table| table.columns().iter().map(|it| (table.name(), *it)));
    assert_eq!(found, compared.collect(), "left: the columns in Postgres; right: those that are compared");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_cached_view_is_named_and_making_the_conversation_anew_mends_it() {
    let system = System::unlimited().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.send("alice", &conversation, "true").await;
    let list = format!("/api/messages?conversationId={conversation}&limit=7");
    for path in ["/api/messages", &list, &format!("/api/messages/{}", sent.id())] {
        let read = system.get_after(&sent, "bob", path).await;
        assert!(read.body.to_string().contains("true"), "{read:?}");
    }
    system.wait_until_caught_up().await;
    let verified = Verified::run(&system.config).await;
    assert!(verified.code == Some(0) && verified.printed.contains("✓ the cached views are"), "{verified:?}");

    let client = redis::Client::open(system.config.redis_url.clone()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let pattern = format!("{}:*:messages.*:{conversation}", system.config.redis_prefix);
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut redis).await.unwrap();
    let [key] = &keys[..] else { panic!("{keys:?}") };
    let stored: String = redis::cmd("HGET").arg(key).arg(7).query_async(&mut redis).await.unwrap();
    let forged = stored.replace("\"content\":\"true\"", "\"content\":\"false\"");
    assert_ne!(forged, stored);
    redis::cmd("HSET").arg(key).arg(7).arg(forged).query_async::<()>(&mut redis).await.unwrap();

    let verified = Verified::run(&system.config).await;
    let name = format!(
        "Redis: the first 7 messages of the conversation {conversation}: at [0].content \"false\", must be \"true\""
    );
    assert!(verified.code == Some(3) && verified.printed.contains(&name), "{verified:?}");

    let rebuild = command(&system.config, &["rebuild", "--conversation", &conversation]).status().await.unwrap();
    assert!(rebuild.success());
    let verified = Verified::run(&system.config).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
}
