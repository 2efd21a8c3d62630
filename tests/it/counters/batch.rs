//! What a batch costs the projector, whatever the number of its messages.

use std::time::Instant;

use super::{Action, Foreground, MeasuredService, assert_little, measured_config};
use crate::client_sync::long_messages;
use crate::harness::log;
use crate::harness::process::ServiceProcess;
use crate::harness::system::System;

/// The statements of a batch of messages, each by a part of its text.
const STATEMENTS: [&str; 13] = [
    "SELECT * FROM conversations",
    "JOIN applied_events",
    "JOIN members",
    "SELECT * FROM messages",
    "BEGIN",
    "UPDATE partitions",
    "INSERT INTO conversations",
    "INSERT INTO members",
    "UPDATE members",
    "INSERT INTO messages",
    "INSERT INTO applied_events",
    "COMMIT",
    "SELECT DISTINCT user_id FROM members",
];

/// What the projector's metrics counted.
struct Projected {
    batches: f64,
    messages: f64,
}

impl Projected {
    async fn by(projector: &ServiceProcess) -> Self {
        Self {
            batches: projector.metric("projector_batch_seconds_count", "").await,
            messages: projector.metric("projector_events_total", "").await,
        }
    }
}

/// Appends so many messages together so many times, and returns how many batches the projector made of them. Asserts
/// what each batch costs.
async fn project(projector: &MeasuredService, conversation: &str, appends: usize, messages: usize) -> f64 {
    let system: &System = &projector.system;
    let before = Projected::by(&projector.process).await;
    projector.foreground();
    let started = Instant::now();
    for _ in 0..appends {
        log::append(&system.config, &long_messages("alice", conversation, messages)).await;
        system.wait_until_all_published().await;
    }
    let after = Projected::by(&projector.process).await;
    let seconds = started.elapsed().as_secs_f64();
    let (batches, projected) = (after.batches - before.batches, after.messages - before.messages);
    assert_eq!(projected, (appends * messages) as f64);

    let Foreground { action: Action { round_trips, statements }, left_out, .. } = projector.foreground();
    assert_little(left_out, seconds);
    assert_eq!(round_trips.len() as f64, batches, "one round trip to Redis for each batch: {round_trips:?}");
    assert_eq!(statements.len() as f64, STATEMENTS.len() as f64 * batches, "{statements:#?}");
    for (statement, part) in statements.iter().zip(STATEMENTS.iter().cycle()) {
        assert!(statement.contains(part), "{statement} instead of {part}");
    }
    batches
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_takes_the_same_statements_and_one_round_trip_to_redis_however_many_messages_it_has() {
    let config = measured_config();
    let (projector, command_api) = tokio::join!(
        MeasuredService::start(&config, &["projector"]),
        MeasuredService::start(&config, &["command-api"])
    );
    command_api.system.wait_until_projecting().await;
    let conversation = command_api.system.conversation("alice", &["bob"]).await;
    command_api.system.wait_until_all_published().await;

    let batches = project(&projector, &conversation, 10, 1).await;
    assert_eq!(batches, 10.0, "each message has a batch of its own");
    let batches = project(&projector, &conversation, 1, 300).await;
    assert!(batches <= 60.0, "300 messages that came together made {batches} batches");
}
