//! Sockets that take nothing, or little: what waits for them is bounded in bytes, and nobody else notices.

use domain::event::{Attachment, EventData, MessageSent, MessageType};
use domain::{Event, EventId, MessageId, Timestamp};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::client_sync::start_realtime_node;
use crate::harness::log::{self, NewRecord};
use crate::harness::process::ServiceProcess;
use crate::harness::raw_socket::RawSocket;
use crate::harness::system::TIMEOUT;
use crate::harness::{Client, System, eventually};

/// How many sockets take nothing.
const SOCKETS: usize = 200;
/// How many sockets a user has.
const SOCKETS_PER_USER: usize = 100;
/// How many large messages come: more than the network holds for a socket together with its queue.
const MESSAGES: usize = 60;
/// What may wait for the sockets of one conversation, which share their frames: much less than a copy for each.
const QUEUED_BYTES_MAX: f64 = 8e6;

/// A message of about 62 KB.
pub(crate) fn large_message(sender: &str, conversation: &str, number: usize) -> NewRecord {
    let attachment = |index: usize| Attachment {
        url: format!("https://example.com/{index}/{}", "x".repeat(2_000)),
        name: "🖼".repeat(255),
        mime_type: format!("image/{}", "y".repeat(200)),
        size: 1,
    };
    NewRecord::event(&Event {
        event_id: EventId(Uuid::now_v7()),
        occurred_at: Timestamp::from_date_time(OffsetDateTime::now_utc()).unwrap(),
        conversation_id: conversation.parse().unwrap(),
        actor_id: sender.parse().unwrap(),
        request: None,
        data: EventData::MessageSent(MessageSent {
            message_id: MessageId(Uuid::now_v7()),
            // Six bytes each in a frame.
            content: format!("{number} {}", "\u{1}".repeat(3_990)),
            message_type: MessageType::Text,
            attachments: (0..10).map(attachment).collect(),
            mentions: Vec::new(),
            reply_to_id: None,
        }),
    })
}

/// How many sockets the node closed for this reason.
pub(crate) async fn closed(node: &ServiceProcess, reason: &str) -> f64 {
    node.metric("realtime_slow_sockets_total", &format!("reason=\"{reason}\"")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_take_nothing_share_what_waits_for_them_and_are_closed() {
    let system = System::start().await;
    let node = start_realtime_node(&system).await;
    let mut reader = Client::open(json!({"url": node.url, "token": system.token("reader")})).await;
    reader.frame("connection:ready").await;
    let users: Vec<String> = (0..SOCKETS / SOCKETS_PER_USER).map(|number| format!("idle{number}")).collect();
    let mut everyone: Vec<&str> = users.iter().map(String::as_str).collect();
    everyone.push("reader");
    let conversation = system.conversation("writer", &everyone).await;
    let mut idle = Vec::new();
    for user in &users {
        for _ in 0..SOCKETS_PER_USER {
            idle.push(RawSocket::connect_with_small_buffer(&system, &node.url, user).await);
        }
    }

    let records: Vec<_> = (0..MESSAGES).map(|number| large_message("writer", &conversation, number)).collect();
    let mut most_queued: f64 = 0.0;
    let mut positions = Vec::new();
    for part in records.chunks(4) {
        positions.extend(log::append(&system.config, part).await);
        most_queued = most_queued.max(node.metric("realtime_queued_bytes", "").await);
    }
    let last = positions.last().unwrap().clone();
    let frames = reader.frames_until("the last message", |frame| frame.meta["position"] == last.as_str()).await;

    let received = frames.iter().filter(|frame| frame.name == "message:new");
    assert_eq!(received.map(|frame| frame.meta["position"].as_str().unwrap()).collect::<Vec<_>>(), positions);
    eventually("the idle sockets are closed", async || {
        most_queued = most_queued.max(node.metric("realtime_queued_bytes", "").await);
        (node.metric("realtime_sockets", "").await == 1.0).then_some(())
    })
    .await;
    assert!(most_queued <= QUEUED_BYTES_MAX, "{most_queued} bytes waited");
    assert!(closed(&node, "socket").await > 0.0, "their queues overflowed");
    eventually("nothing waits", async || (node.metric("realtime_queued_bytes", "").await == 0.0).then_some(())).await;
    assert!(reader.unread_frames().await.iter().all(|name| name == "presence:update"));
    // Their kernels still hold what the node sent.
    for mut socket in idle {
        assert!(socket.closed_within(TIMEOUT).await);
    }
}
