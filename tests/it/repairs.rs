//! Rows that were made anew and are other ones than before: whoever can see them learns of it, and nobody else.

use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::harness::http::Response;
use crate::harness::log::{self, NewRecord};
use crate::harness::process::command;
use crate::harness::{Client, System, eventually};
use crate::rebuild::{Rebuilt, forge};

/// The token of an answer of `sync`.
fn next(response: &Response) -> String {
    response.body["next"].as_str().unwrap_or_else(|| panic!("{response:?}")).to_owned()
}

async fn token(system: &System, user: &str) -> String {
    next(&system.get(user, "/api/messages/sync").await)
}

async fn sync(system: &System, user: &str, token: &str) -> Response {
    system.get(user, &format!("/api/messages/sync?since={token}")).await
}

/// Waits until a user's token is refused, and asserts that the user can start anew at once.
async fn assert_starts_anew(system: &System, user: &str, token_before: &str) {
    let refused = eventually("the token is refused", async || {
        let answer = sync(system, user, token_before).await;
        (answer.status == 400).then_some(answer)
    })
    .await;
    refused.assert_field_refused(400, "since", "outdated_token");
    for _ in 0..2 {
        let answer = sync(system, user, &token(system, user).await).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(sync(system, user, &next(&answer)).await.status, 200);
    }
}

async fn assert_goes_on(system: &System, user: &str, token_before: &str) {
    let answer = sync(system, user, token_before).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Three users: bob is in a conversation whose rows somebody changes, and dora is in another one with alice.
struct Site {
    system: System,
    conversation: String,
    tokens: [String; 3],
}

const USERS: [&str; 3] = ["alice", "bob", "dora"];

impl Site {
    async fn start() -> Self {
        let system = System::unlimited().await;
        system.conversation("alice", &["dora"]).await;
        let (conversation, _) = forge(&system, "bob").await;
        let mut tokens = Vec::new();
        for user in USERS {
            tokens.push(token(&system, user).await);
        }
        Self { system, conversation, tokens: tokens.try_into().unwrap() }
    }

    /// Asserts that all in the repaired conversation start anew, and dora doesn't.
    async fn assert_repaired(&self) {
        let [alice, bob, dora] = &self.tokens;
        assert_starts_anew(&self.system, "bob", bob).await;
        assert_starts_anew(&self.system, "alice", alice).await;
        assert_goes_on(&self.system, "dora", dora).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rebuild_with_other_rows_those_start_anew_who_can_see_them() {
    let site = Site::start().await;
    let (mut bob, mut dora) = tokio::join!(Client::connect(&site.system, "bob"), Client::connect(&site.system, "dora"));

    Rebuilt::run(&site.system, &["--accept-differences"]).await.assert_printed(0, "✓ generation 2 is in use");

    let ready = bob.frame("connection:ready").await;
    assert_goes_on(&site.system, "bob", ready.data["position"].as_str().unwrap()).await;
    site.assert_repaired().await;
    dora.assert_no_unread_frames("nothing of hers has changed").await;

    // Going back shows the old rows again.
    let again = [token(&site.system, "bob").await, token(&site.system, "dora").await];
    Rebuilt::run(&site.system, &["--back"]).await.assert_printed(0, "✓ generation 3 is in use");
    assert_starts_anew(&site.system, "bob", &again[0]).await;
    assert_goes_on(&site.system, "dora", &again[1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_one_conversation_is_made_anew_those_in_it_start_anew_if_its_rows_are_other_ones() {
    let site = Site::start().await;
    Rebuilt::run(&site.system, &["--conversation", &site.conversation]).await.assert_printed(0, "✓");
    site.assert_repaired().await;

    let bob = token(&site.system, "bob").await;
    Rebuilt::run(&site.system, &["--conversation", &site.conversation]).await.assert_printed(0, "✓");
    assert_goes_on(&site.system, "bob", &bob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_folded_late_reaches_those_in_the_conversation() {
    let system = System::unlimited().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    system.conversation("alice", &["dora"]).await;
    let first = system.post("alice", json!({"conversationId": conversation, "content": "first"})).await;
    // A record that nobody folded, as an older version leaves it.
    let mut late = system.record_at(&first).await.value;
    late["eventId"] = json!(crate::harness::system::unknown_id());
    late["data"]["messageId"] = json!(crate::harness::system::unknown_id());
    late["data"]["content"] = json!("late");
    let record = NewRecord {
        key: conversation.clone(),
        value: late.to_string().into_bytes(),
        event_type: Some("MESSAGE_SENT"),
        timestamp_ms: None,
    };
    let position = log::append(&system.config, &[record]).await.remove(0);
    system.wait_until_caught_up().await;
    let (partition, offset) = position.split_once(':').unwrap();
    let schema = &system.config.database_schema;
    let forget = format!(
        "DELETE FROM {schema}.messages WHERE content = 'late';
         DELETE FROM {schema}.applied_events WHERE position = {offset} AND partition = {partition};
         INSERT INTO {schema}.dead_letters (topic_id, partition, position, reason)
         SELECT topic_id, {partition}, {offset}, 'from a test' FROM {schema}.projection"
    );
    sqlx::raw_sql(AssertSqlSafe(forget)).execute(&system.sql).await.unwrap();
    let (bob, dora) = (token(&system, "bob").await, token(&system, "dora").await);

    let retried = command(&system.config, &["dead-letters", "retry", &position]).output().await.unwrap();
    assert!(retried.status.success(), "{retried:?}");

    assert_starts_anew(&system, "bob", &bob).await;
    assert_goes_on(&system, "dora", &dora).await;
    let list = system.get("bob", &format!("/api/messages?conversationId={conversation}")).await;
    assert_eq!(list.data()[0]["content"], "late", "{list:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_in_a_conversation_only_before_or_only_afterwards_starts_anew_too() {
    let site = Site::start().await;
    let schema = &site.system.config.database_schema;
    let swap = format!(
        "UPDATE {schema}.members SET user_id = 'eve' WHERE user_id = 'bob' AND conversation_id = '{}'",
        site.conversation
    );
    sqlx::query(AssertSqlSafe(swap)).execute(&site.system.sql).await.unwrap();
    let eve = token(&site.system, "eve").await;
    Rebuilt::run(&site.system, &["--accept-differences"]).await.assert_printed(0, "✓");
    assert_starts_anew(&site.system, "eve", &eve).await;
    site.assert_repaired().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_remembered_repairs_has_a_limit_and_nobody_misses_a_forgotten_one() {
    let site = Site::start().await;
    let schema = &site.system.config.database_schema;
    let many = format!(
        "INSERT INTO {schema}.repairs (number, conversation_id, is_told)
         SELECT number, gen_random_uuid(), true FROM generate_series(1, 10000) AS number"
    );
    sqlx::query(AssertSqlSafe(many)).execute(&site.system.sql).await.unwrap();
    let [_, _, dora] = &site.tokens;
    assert_goes_on(&site.system, "dora", dora).await;

    Rebuilt::run(&site.system, &["--accept-differences"]).await.assert_printed(0, "✓");

    // Her token is older than a repair that nobody remembers.
    assert_starts_anew(&site.system, "dora", dora).await;
    let count = format!("SELECT count(*) FROM {schema}.repairs");
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&site.system.sql).await.unwrap();
    assert!(count <= 10_001, "{count}");
}
