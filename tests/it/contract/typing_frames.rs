//! Typing: shown to the others while it lasts, and no longer.

use std::time::Duration;

use domain::event::EventData;
use domain::{Event, EventId, Timestamp};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::log::{self, NewRecord};
use crate::harness::sockets::SLACK;
use crate::harness::{Client, System};

/// How long a start lasts.
const LASTS: Duration = Duration::from_secs(5);
/// How long a start that repeats adds nothing.
const QUIET: Duration = Duration::from_secs(3);

async fn typing(system: &System, user: &str, action: &str, conversation: &str) {
    let answer = system.post(user, json!({"action": action, "conversationId": conversation})).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_stops_by_itself_five_seconds_after_the_last_start() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob", "carol"]).await;
    let mut bob = Client::connect(&system, "bob").await;
    let began = Instant::now();
    typing(&system, "carol", "typing_start", &conversation).await;
    typing(&system, "carol", "typing_stop", &conversation).await;
    typing(&system, "alice", "typing_start", &conversation).await;
    for _ in 0..3 {
        typing(&system, "alice", "typing_start", &conversation).await;
    }
    system.message("carol", &conversation, "shown").await;
    let shown = bob.frames_until("the message", |frame| frame.is_message("shown")).await;
    assert!(began.elapsed() < QUIET, "the test was held up and can't tell anything");
    let mut typists = Vec::new();
    for frame in &shown {
        typists.push((frame.name.as_str(), frame.data["userId"].as_str().unwrap_or_default()));
    }
    let expected = [("typing:start", "carol"), ("typing:stop", "carol"), ("typing:start", "alice")];
    assert_eq!(typists[..3], expected, "a repeated start is not relayed");
    assert_eq!(typists.len(), 4, "{typists:?}");

    tokio::time::sleep_until(began + QUIET + Duration::from_millis(500)).await;
    let again = Instant::now();
    typing(&system, "alice", "typing_start", &conversation).await;
    let until_stop = bob.frames_until("the stop", |frame| frame.name == "typing:stop").await;
    let lasted = again.elapsed();
    assert!(lasted >= LASTS && lasted < LASTS + SLACK, "it lasted {lasted:?}");
    let of_alice = json!({"userId": "alice", "conversationId": conversation});
    assert_eq!(until_stop.last().unwrap().data, of_alice);
    assert_eq!(until_stop.len(), 2, "one start after the quiet, one stop: {until_stop:?}");
    assert_eq!(bob.unread_frames().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_comes_too_late_is_not_shown() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let mut bob = Client::connect(&system, "bob").await;
    accept_times(&system).await;
    let now = Timestamp::from_date_time(time::OffsetDateTime::now_utc()).unwrap();
    let start = |number: u128| Event {
        event_id: EventId(uuid::Uuid::from_u128(number)),
        occurred_at: now,
        conversation_id: conversation.parse().unwrap(),
        actor_id: "alice".parse().unwrap(),
        request: None,
        data: EventData::TypingStart {},
    };
    let aged =
        |number, age_ms| NewRecord { timestamp_ms: Some(now.as_millis() - age_ms), ..NewRecord::event(&start(number)) };
    log::append(&system.config, &[aged(1, 6_000), aged(2, 0)]).await;
    system.message("alice", &conversation, "shown").await;
    let frames = bob.frames_until("the message", |frame| frame.is_message("shown")).await;
    let names: Vec<_> = frames.iter().map(|frame| frame.name.as_str()).collect();
    assert_eq!(names, ["typing:start", "message:new"], "the one in time, and only it");
}

/// Lets the topic take records with a time of their own, which no start-up would.
async fn accept_times(system: &System) {
    let admin: AdminClient<DefaultClientContext> =
        rdkafka::ClientConfig::new().set("bootstrap.servers", &system.config.kafka_brokers).create().unwrap();
    let change = AlterConfig::new(ResourceSpecifier::Topic(&system.config.kafka_topic))
        .set("message.timestamp.type", "CreateTime");
    for changed in admin.alter_configs([&change], &AdminOptions::new()).await.unwrap() {
        changed.unwrap();
    }
}
