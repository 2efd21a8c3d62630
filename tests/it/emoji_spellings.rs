//! Emoji that differ only in variation selectors are one reaction: in logs of earlier releases, which have both, and in
//! read models that earlier releases folded.

use domain::event::{ConversationKind, EventData, MessageSent, MessageType};
use domain::{ConversationId, Event, EventId, MessageId, Timestamp, UserId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::log::{self, NewRecord};
use crate::harness::process::command;
use crate::harness::system::System;

const HEART: &str = "❤";
const RED_HEART: &str = "❤\u{fe0f}";

/// A log on which users give and take back reactions in both spellings.
struct Fixture {
    conversation: ConversationId,
    message: MessageId,
    events: Vec<Event>,
}

impl Fixture {
    fn new() -> Self {
        let message = MessageId(Uuid::now_v7());
        let mut fixture = Self { conversation: ConversationId(Uuid::now_v7()), message, events: Vec::new() };
        let users: Vec<UserId> = ["alice", "bob", "carol", "dan"].map(|user| user.parse().unwrap()).to_vec();
        let created =
            EventData::ConversationCreated { kind: ConversationKind::Group, title: None, participant_ids: users };
        fixture.add("alice", created);
        let sent = MessageSent {
            message_id: message,
            content: "hi".to_owned(),
            message_type: MessageType::Text,
            attachments: Vec::new(),
            mentions: Vec::new(),
            reply_to_id: None,
        };
        fixture.add("alice", EventData::MessageSent(sent));
        for (user, emoji, label) in [
            ("bob", HEART, None),
            ("carol", "👍", None),
            ("bob", RED_HEART, None),
            ("dan", RED_HEART, Some("warm")),
            ("alice", HEART, None),
        ] {
            let (emoji, label) = (emoji.to_owned(), label.map(str::to_owned));
            fixture.add(user, EventData::ReactionAdded { message_id: message, emoji, label });
        }
        for (user, emoji) in [("bob", RED_HEART), ("carol", HEART)] {
            fixture.add(user, EventData::ReactionRemoved { message_id: message, emoji: emoji.to_owned() });
        }
        fixture
    }

    fn add(&mut self, user: &str, data: EventData) {
        self.events.push(Event {
            event_id: EventId(Uuid::now_v7()),
            occurred_at: Timestamp::from_millis(1_700_000_000_000 + self.events.len() as i64).unwrap(),
            conversation_id: self.conversation,
            actor_id: user.parse().unwrap(),
            request: None,
            data,
        });
    }

    async fn append_to(&self, system: &System) {
        log::append(&system.config, &self.events.iter().map(NewRecord::event).collect::<Vec<_>>()).await;
        system.wait_until_caught_up().await;
    }

    /// What docs/events.md says of the log: one reaction, without bob's, which he took back.
    async fn assert_one_reaction(&self, system: &System) {
        let rows = json!([
            {"emoji": HEART, "label": "warm", "user_ids": ["dan", "alice"]},
            {"emoji": "👍", "label": null, "user_ids": ["carol"]},
        ]);
        assert_eq!(system.reaction_rows(&self.message.to_string()).await, rows);
        let shown = system.get("bob", &format!("/api/messages/{}", self.message)).await;
        let shown: Vec<(&Value, &Value)> =
            shown.data()["reactions"].as_array().unwrap().iter().map(|it| (&it["emoji"], &it["userIds"])).collect();
        assert_eq!(shown, [(&json!(HEART), &json!(["dan", "alice"])), (&json!("👍"), &json!(["carol"]))]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_with_both_spellings_of_an_emoji_has_one_reaction_live_and_rebuilt() {
    let system = System::start().await;
    let fixture = Fixture::new();
    fixture.append_to(&system).await;
    fixture.assert_one_reaction(&system).await;
    assert!(command(&system.config, &["rebuild", "--reset"]).status().await.unwrap().success());
    system.wait_until_caught_up().await;
    fixture.assert_one_reaction(&system).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_model_with_both_spellings_of_an_emoji_is_migrated_to_one_reaction() {
    let system = System::start().await;
    let fixture = Fixture::new();
    fixture.append_to(&system).await;
    let (schema, message) = (&system.config.database_schema, fixture.message);
    // What the release before folded this log to, but for dan's reaction in both spellings.
    let as_before = format!(
        "DELETE FROM {schema}._sqlx_migrations WHERE version = 5;
         DELETE FROM {schema}.reactions WHERE message_id = '{message}';
         INSERT INTO {schema}.reactions (conversation_id, message_id, ordinal, emoji, label, user_ids) VALUES
             ('{0}', '{message}', 0, '{HEART}', 'first', '[\"bob\", \"alice\"]'),
             ('{0}', '{message}', 1, '👍', NULL, '[\"carol\"]'),
             ('{0}', '{message}', 2, '{RED_HEART}', 'warm', '[\"dan\", \"bob\"]'),
             ('{0}', '{message}', 3, '🎉', NULL, '[]');",
        fixture.conversation
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(as_before)).execute(&system.sql).await.unwrap();
    assert!(command(&system.config, &["migrate"]).status().await.unwrap().success());
    let rows = json!([
        {"emoji": HEART, "label": "warm", "user_ids": ["bob", "alice", "dan"]},
        {"emoji": "👍", "label": null, "user_ids": ["carol"]},
        {"emoji": "🎉", "label": null, "user_ids": []},
    ]);
    assert_eq!(system.reaction_rows(&message.to_string()).await, rows);
    // The rows are numbered as the fold numbers them: a later reaction lands on its emoji.
    let taken_back =
        system.post("alice", json!({"action": "remove_reaction", "messageId": message, "emoji": "👍"})).await;
    let added = system.react("alice", &message.to_string(), "🎉").await;
    assert_eq!((taken_back.status, added.status), (200, 201));
    system.wait_until_projected(&added).await;
    let rows = system.reaction_rows(&message.to_string()).await;
    assert_eq!((&rows[2]["emoji"], &rows[2]["user_ids"]), (&json!("🎉"), &json!(["alice"])));
}
