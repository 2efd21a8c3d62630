//! `messages rebuild`: the rows are made anew next to those in use, and replace them in one moment, if both are equal.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use messages::process::Roles;
use serde_json::json;
use sqlx::AssertSqlSafe;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::harness::postgres::OwnPostgres;
use crate::harness::process::{ServiceProcess, command};
use crate::harness::system::{config, unlimited};
use crate::harness::verified::Verified;
use crate::harness::{Client, System, eventually};
use crate::verify::{system_with_history, with_history};

/// The steps of a rebuild, as its log names them.
pub(crate) const STEPS: [&str; 6] = [
    "reading the log",
    "computed digests of the rows in use",
    "folding and copying",
    "making indexes",
    "comparing with the rows in use",
    "folding what has come meanwhile",
];

/// What `messages rebuild` printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Rebuilt {
    code: Option<i32>,
    printed: String,
    #[expect(dead_code, reason = "printed with Debug")]
    complained: String,
}

impl Rebuilt {
    pub(crate) async fn run(system: &System, options: &[&str]) -> Self {
        let output = command(&system.config, &[&["rebuild"], options].concat()).output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code(), printed: text(&output.stdout), complained: text(&output.stderr) }
    }

    pub(crate) fn has_succeeded(&self) -> bool {
        self.code == Some(0)
    }

    #[track_caller]
    pub(crate) fn assert_printed(&self, code: i32, text: &str) {
        assert!(self.code == Some(code) && self.printed.contains(text), "{self:?}");
    }
}

/// Sends messages and reads each at its position, as its sender and as somebody else, until it is told to stop. Returns
/// how many.
async fn chat(system: &System, stop: &AtomicBool) -> usize {
    let conversation = system.conversation("alice", &["bob"]).await;
    let mut listener = Client::connect(system, "bob").await;
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let content = sent.to_string();
        let message = system.send("alice", &conversation, &content).await;
        assert_eq!(message.status, 201, "{message:?}");
        for (user, path) in [
            ("alice", format!("/api/messages/{}", message.id())),
            ("bob", format!("/api/messages?conversationId={conversation}&limit=1")),
        ] {
            let request = system.ask(user, "GET", &path).header("Messages-Position", message.position());
            let read = request.send().await;
            assert!(read.status == 200 && read.body.to_string().contains(&message.id()), "{path}: {read:?}");
        }
        listener.frames_until("the message arrives once", |frame| frame.is_message(&content)).await;
        sent += 1;
    }
    sent
}

pub(crate) async fn generation(system: &System) -> i64 {
    system.read_model().generation().await.unwrap().unwrap()
}

#[track_caller]
fn assert_equal(verified: &Verified) {
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_chat_on_while_the_rows_are_replaced_and_the_result_is_the_fold_of_the_log() {
    let system = system_with_history().await;
    let stop = AtomicBool::new(false);
    let rebuilding = async {
        for expected in 2..5 {
            Rebuilt::run(&system, &[]).await.assert_printed(0, &format!("✓ generation {expected} is in use"));
            assert_eq!(generation(&system).await, expected);
        }
        assert_equal(&Verified::run(&system.config).await);
        stop.store(true, Ordering::Relaxed);
    };
    let ((), sent) = tokio::join!(rebuilding, chat(&system, &stop));
    assert!(sent > 10, "hardly anybody wrote meanwhile: {sent}");
}

/// Changes the content of a message behind the projector's back. Returns the conversation and the message.
pub(crate) async fn forge(system: &System, peer: &str) -> (String, String) {
    let conversation = system.conversation("alice", &[peer]).await;
    let sent = system.send("alice", &conversation, "true").await;
    system.wait_until_caught_up().await;
    let schema = &system.config.database_schema;
    let forge = format!("UPDATE {schema}.messages SET content = 'forged' WHERE id = '{}'", sent.id());
    assert_eq!(sqlx::query(AssertSqlSafe(forge)).execute(&system.sql).await.unwrap().rows_affected(), 1);
    (conversation, sent.id())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_differ_are_named_and_replaced_only_if_that_is_accepted() {
    let system = system_with_history().await;
    let (conversation, message) = forge(&system, "bob").await;
    let named = format!("✗ messages conversation_id={conversation} seq=1: content is \"forged\", must be \"true\"");

    for (options, said) in [(&["--dry-run"][..], "would change rows in conversations: 1"), (&[], "Nothing was changed")]
    {
        let refused = Rebuilt::run(&system, options).await;
        refused.assert_printed(3, &named);
        refused.assert_printed(3, said);
        assert_eq!(generation(&system).await, 1);
    }

    Rebuilt::run(&system, &["--accept-differences"]).await.assert_printed(0, "with other rows than before: 1");
    let read = system.get("bob", &format!("/api/messages/{message}")).await;
    assert_eq!(read.data()["content"], "true", "{read:?}");
    assert_equal(&Verified::run(&system.config).await);
    Rebuilt::run(&system, &["--dry-run"]).await.assert_printed(0, "✓ this version would change nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_conversation_is_made_anew_also_from_the_cache_while_the_others_stay_as_they_are() {
    let system = system_with_history().await;
    let (conversation, message) = forge(&system, "bob").await;
    let (other, _) = forge(&system, "dora").await;
    let read = async || system.get("bob", &format!("/api/messages/{message}")).await.data()["content"].clone();
    let list = async |conversation: &str| {
        let list = system.get("alice", &format!("/api/messages?conversationId={conversation}")).await;
        list.data()[0]["content"].clone()
    };
    let before = (list(&conversation).await, list(&other).await);
    assert_eq!(before, ("forged".into(), "forged".into()));

    let rebuilt = Rebuilt::run(&system, &["--conversation", &conversation]).await;
    rebuilt.assert_printed(0, &format!("✓ the rows of the conversation {conversation} are those"));

    assert_eq!((read().await, list(&conversation).await), ("true".into(), "true".into()));
    let verified = Verified::run(&system.config).await;
    assert_eq!((verified.code, verified.differences().len()), (Some(3), 1), "{verified:?}");
    assert!(verified.printed.contains(&other), "{verified:?}");
    Rebuilt::run(&system, &["--conversation", &other]).await.assert_printed(0, "✓");
    assert_equal(&Verified::run(&system.config).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_can_go_back_to_the_rows_before_with_what_has_come_since() {
    let system = system_with_history().await;
    let failed = Rebuilt::run(&system, &["--back"]).await;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    let (conversation, message) = forge(&system, "bob").await;
    Rebuilt::run(&system, &["--accept-differences"]).await.assert_printed(0, "✓ generation 2 is in use");
    let later = system.send("bob", &conversation, "later").await;

    Rebuilt::run(&system, &["--back"]).await.assert_printed(0, "✓ generation 3 is in use");

    let list = system.get_after(&later, "bob", &format!("/api/messages?conversationId={conversation}")).await;
    let contents: Vec<&str> =
        list.data().as_array().unwrap().iter().map(|it| it["content"].as_str().unwrap()).collect();
    assert_eq!(contents, ["later", "forged"], "{message}");
    let topic = system.read_model().folded_topic().await.unwrap().unwrap().id;
    assert_eq!(
        system.read_model().dead_letters(topic, false, None, 10).await.unwrap().len(),
        3,
        "they are still parked"
    );
    // And away again.
    Rebuilt::run(&system, &["--back"]).await.assert_printed(0, "✓ generation 4 is in use");
    assert_equal(&Verified::run(&system.config).await);
}

/// Starts a rebuild, and waits until it says that it does this.
pub(crate) async fn rebuild_until(system: &System, step: &str) -> Child {
    let mut command: Command = command(&system.config, &["rebuild"]);
    command.env("LOG", "info");
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains(step) {
            // Otherwise the rebuild couldn't say more.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return child;
        }
    }
    panic!("the rebuild never said: {step}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_killed_at_any_step_changes_nothing_and_the_next_one_succeeds() {
    let system = system_with_history().await;
    let rows = system.read_model().export_state().await.unwrap();
    for step in STEPS {
        let mut child = rebuild_until(&system, step).await;
        child.kill().await.unwrap();
        assert_eq!(generation(&system).await, 1, "{step}");
        assert!(system.read_model().export_state().await.unwrap() == rows, "{step}");
    }
    Rebuilt::run(&system, &[]).await.assert_printed(0, "the same rows as before");
    let schemas = system
        .row(
            "SELECT count(*) AS n FROM pg_namespace WHERE nspname LIKE $1",
            &format!("{}\\_g%", system.config.database_schema),
        )
        .await;
    assert_eq!(schemas["n"], 1, "what the killed ones built is dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_loses_postgres_changes_nothing_and_the_next_one_succeeds() {
    let mut postgres = OwnPostgres::start().await;
    let system = with_history(
        System::with(|config| {
            unlimited(config);
            config.database_url.clone_from(&postgres.url);
        })
        .await,
    )
    .await;
    let rows = system.read_model().export_state().await.unwrap();

    let mut rebuild = rebuild_until(&system, "folding and copying").await;
    postgres.kill().await;
    assert_eq!(rebuild.wait().await.unwrap().code(), Some(1));
    postgres.resume().await;

    assert_eq!(generation(&system).await, 1);
    assert!(system.read_model().export_state().await.unwrap() == rows);
    Rebuilt::run(&system, &[]).await.assert_printed(0, "the same rows as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projector_that_dies_during_a_rebuild_goes_on_with_the_new_rows() {
    let mut config = config();
    unlimited(&mut config);
    let mut projector = ServiceProcess::start(&config, &["projector"]).await;
    let system = with_history(System::with_roles(config, Roles::COMMAND_API).await).await;

    let mut rebuild = rebuild_until(&system, "folding and copying").await;
    projector.child.kill().await.unwrap();
    assert_eq!(rebuild.wait().await.unwrap().code(), Some(0));

    let _projector = ServiceProcess::start(&system.config, &["projector"]).await;
    let created = system.post("alice", json!({"action": "conversation", "participantIds": ["bob"]})).await;
    let position = created.position().parse().unwrap();
    eventually("the event is folded", async || {
        system.read_model().offsets().await.unwrap().includes(position).then_some(())
    })
    .await;
    assert_eq!(generation(&system).await, 2);
    assert_equal(&Verified::run(&system.config).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_rebuilds_at_the_same_time_are_refused() {
    let system = system_with_history().await;
    let read_model = system.read_model();
    let topic = read_model.folded_topic().await.unwrap().unwrap().id;
    let first = read_model.begin_generation(topic, None).await.unwrap();
    let second = Rebuilt::run(&system, &[]).await;
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(format!("{second:?}").contains("another rebuild is at work"), "{second:?}");
    read_model.discard_generation(first).await.unwrap();
    Rebuilt::run(&system, &[]).await.assert_printed(0, "✓ generation 2 is in use");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_read_model_has_nothing_to_rebuild() {
    let config = config();
    let topic = command(&config, &["migrate"]).status().await.unwrap();
    assert!(topic.success());
    let output = command(&config, &["rebuild"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_needs_no_migration_and_names_the_columns_that_it_cannot_compare() {
    let mut system = system_with_history().await;
    let (conversation, _) = forge(&system, "bob").await;
    system.stop().await;
    // The schema as an earlier version has it.
    let schema = &system.config.database_schema;
    let older = format!(
        "SET search_path = {schema}; ALTER TABLE messages DROP COLUMN edited_at; DROP TABLE repairs;
         ALTER TABLE generations DROP COLUMN last_repair; DELETE FROM _sqlx_migrations WHERE version = 7"
    );
    sqlx::raw_sql(AssertSqlSafe(older)).execute(&system.sql).await.unwrap();

    let refused = Rebuilt::run(&system, &[]).await;
    assert!(!refused.has_succeeded() && refused.printed.is_empty(), "{refused:?}");
    let dry_run = Rebuilt::run(&system, &["--dry-run"]).await;
    dry_run.assert_printed(3, "! not compared, because the schema in use has no such columns: messages.edited_at");
    dry_run.assert_printed(3, &format!("✗ messages conversation_id={conversation} seq=1: content is \"forged\""));
    dry_run.assert_printed(3, "would change rows in conversations: 1");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the whole machine"]
async fn a_community_with_a_hundred_thousand_events_is_rebuilt_and_found_equal() {
    let mut config = config();
    unlimited(&mut config);
    let run = async |arguments: &[&str]| {
        let output = command(&config, arguments).output().await.unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    // More than stays in memory, so that the rebuild has to spill.
    run(&["demo", "--yes", "--users", "1000", "--conversations", "563", "--messages", "56300"]).await;
    run(&["rebuild", "--reset"]).await;
    let rebuilt = run(&["rebuild"]).await;
    let (records, _) = rebuilt.split_once(" records, the same rows").unwrap_or_else(|| panic!("{rebuilt}"));
    let records: u64 = records.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(records > 100_000, "{rebuilt}");
    let verified = run(&["verify"]).await;
    assert!(verified.contains(&format!("{records} records")), "{verified}");
}
