//! Groups of 1,000 that many people begin at once: legal, and a thousand times as costly as a message.

use domain::event::{ConversationKind, EventData};
use domain::{ConversationId, Event, EventId, Timestamp, UserId};
use event_log::partition_of;
use serde_json::json;
use uuid::Uuid;

use crate::harness::fold::assert_folded;
use crate::harness::log::{self, NewRecord};
use crate::harness::process::ServiceProcess;
use crate::harness::system::{PARTITIONS, System, config, eventually};

/// How many groups there are. Together they have more participants than several batches may write.
const GROUPS: usize = 60;
pub(crate) const PARTICIPANTS: usize = 1_000;

/// How many people begin groups.
const CREATORS: usize = 40;

/// The creation of a group of [`PARTICIPANTS`] people on a partition, or on any. The groups of a creator have the same
/// participants.
pub(crate) fn creation(number: usize, partition: Option<i32>, partitions: i32) -> Event {
    let partitions = usize::try_from(partitions).unwrap();
    let is_there = |id: &ConversationId| partition.is_none_or(|partition| partition == partition_of(*id, partitions));
    let id = std::iter::repeat_with(|| ConversationId(Uuid::now_v7())).find(is_there).unwrap();
    let creator = number % CREATORS;
    group(id, (0..PARTICIPANTS).map(|user| format!("member-{creator}-{user}").parse().unwrap()).collect())
}

/// The creation of a group by the first of its participants.
pub(crate) fn group(id: ConversationId, participant_ids: Vec<UserId>) -> Event {
    Event {
        event_id: EventId(Uuid::now_v7()),
        occurred_at: Timestamp::from_millis(1_764_000_000_000).unwrap(),
        conversation_id: id,
        actor_id: participant_ids[0].clone(),
        request: None,
        data: EventData::ConversationCreated { kind: ConversationKind::Group, title: None, participant_ids },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_large_groups_on_a_partition_hold_up_the_others_by_a_batch_at_most() {
    let config = config();
    let process = ServiceProcess::start(&config, &["all"]).await;
    let system = System::attach(config, &process.url);
    let created = system.post("alice", json!({"action": "conversation", "participantIds": ["bob"]})).await;
    system.wait_until_projected(&created).await;
    let own: i32 = created.position().split_once(':').unwrap().0.parse().unwrap();
    let heavy = (own + 1) % PARTITIONS;
    let groups: Vec<NewRecord> =
        (0..GROUPS).map(|number| NewRecord::event(&creation(number, Some(heavy), PARTITIONS))).collect();

    log::append(&system.config, &groups).await;
    let sent = system.send("alice", &created.id(), "hi").await;
    system.wait_until_projected(&sent).await;
    let folded = system.row("SELECT count(*) AS groups FROM conversations WHERE kind = 'GROUP'", "").await;
    let folded = folded["groups"].as_u64().unwrap();

    assert!(folded < GROUPS as u64, "the message waited for all {folded} groups");
    eventually("every group is folded", async || {
        let offset =
            system.row("SELECT next_offset FROM partitions WHERE partition = $1::int", &heavy.to_string()).await;
        (offset["next_offset"] == GROUPS).then_some(())
    })
    .await;
    for failure in ["timed_out", "unreachable", "refused", "held", "fenced"] {
        let label = format!("failure=\"{failure}\"");
        assert_eq!(process.metric("projector_batch_failures_total", &label).await, 0.0, "{failure}");
    }
    assert_folded(&system.read_model(), &system.records().await).await;
}
