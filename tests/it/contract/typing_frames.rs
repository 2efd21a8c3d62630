//! Typing frames: the other participants see that a user types, and see it end by itself.

use std::time::Duration;

use domain::event::EventData;
use domain::{Event, EventId, Timestamp};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::log::{self, NewRecord};
use crate::harness::sockets::{Frame, SLACK};
use crate::harness::{Client, System};

/// After this time without a start a user no longer types.
const TYPING_DURATION: Duration = Duration::from_secs(5);
/// For this long after a start, repeated starts are dropped.
const DEDUP_WINDOW: Duration = Duration::from_secs(3);

async fn typing(system: &System, user: &str, action: &str, conversation: &str) {
    let accepted = system.post(user, json!({"action": action, "conversationId": conversation})).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
}

/// The names of frames, and the users whom they are about.
fn typists(frames: &[Frame]) -> Vec<(&str, &str)> {
    frames.iter().map(|frame| (frame.name.as_str(), frame.data["userId"].as_str().unwrap_or_default())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_stops_by_itself_five_seconds_after_the_last_start() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob", "carol"]).await;
    let mut bob = Client::connect(&system, "bob").await;

    // Given carol, who starts and stops, and alice, who repeats her start.
    let started = Instant::now();
    typing(&system, "carol", "typing_start", &conversation).await;
    typing(&system, "carol", "typing_stop", &conversation).await;
    for _ in 0..4 {
        typing(&system, "alice", "typing_start", &conversation).await;
    }
    system.message("carol", &conversation, "the end").await;
    let frames = bob.frames_until("the message", |frame| frame.is_message("the end")).await;
    assert!(started.elapsed() < DEDUP_WINDOW, "the machine was too slow for this test");
    let typists = typists(&frames);
    let expected = [("typing:start", "carol"), ("typing:stop", "carol"), ("typing:start", "alice")];
    assert_eq!(typists[..3], expected, "a repeated start isn't relayed");
    assert_eq!(typists.len(), 4, "{typists:?}");

    // When alice types again after the window, then she stops five seconds after that start.
    tokio::time::sleep_until(started + DEDUP_WINDOW + Duration::from_millis(500)).await;
    let started_again = Instant::now();
    typing(&system, "alice", "typing_start", &conversation).await;
    let frames = bob.frames_until("the stop", |frame| frame.name == "typing:stop").await;
    let duration = started_again.elapsed();
    assert!(duration >= TYPING_DURATION && duration < TYPING_DURATION + SLACK, "alice typed for {duration:?}");
    let of_alice = json!({"userId": "alice", "conversationId": conversation});
    assert_eq!(frames.last().unwrap().data, of_alice);
    assert_eq!(frames.len(), 2, "one start after the window, and one stop: {frames:?}");
    bob.assert_no_unread_frames("typing stops once").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_the_relay_reads_too_late_is_not_delivered() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob", "carol"]).await;
    let mut bob = Client::connect(&system, "bob").await;
    accept_producer_timestamps(&system).await;
    let now = Timestamp::from_date_time(time::OffsetDateTime::now_utc()).unwrap();
    let start_of_age = |number: u128, actor: &str, age_ms: i64| {
        let event = Event {
            event_id: EventId(uuid::Uuid::from_u128(number)),
            occurred_at: now,
            conversation_id: conversation.parse().unwrap(),
            actor_id: actor.parse().unwrap(),
            request: None,
            data: EventData::TypingStart {},
        };
        NewRecord { timestamp_ms: Some(now.as_millis() - age_ms), ..NewRecord::event(&event) }
    };

    log::append(&system.config, &[start_of_age(1, "carol", 6_000), start_of_age(2, "alice", 0)]).await;

    let new_start = |frame: &Frame| typists(std::slice::from_ref(frame)) == [("typing:start", "alice")];
    let frames = bob.frames_until("the new start", new_start).await;
    assert_eq!(typists(&frames), [("typing:start", "alice")], "only the new start is delivered");
}

/// Makes the topic keep the producer's timestamps. The services soon append nothing to such a topic.
async fn accept_producer_timestamps(system: &System) {
    let admin: AdminClient<DefaultClientContext> =
        rdkafka::ClientConfig::new().set("bootstrap.servers", &system.config.kafka_brokers).create().unwrap();
    let change = AlterConfig::new(ResourceSpecifier::Topic(&system.config.kafka_topic))
        .set("message.timestamp.type", "CreateTime");
    for changed in admin.alter_configs([&change], &AdminOptions::new()).await.unwrap() {
        changed.unwrap();
    }
}
