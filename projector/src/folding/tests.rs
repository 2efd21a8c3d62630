//! What a batch consists of, and what it does step by step.

use std::time::{Duration, Instant};

use cache::{Dependency, PublishOutcome};
use domain::event::{ConversationKind, EventData, MessageSent, MessageType};
use domain::state::{Conversation, State};
use domain::{ConversationId, Event, EventId, MessageId, OffsetAdvance, Position, Timestamp, UserId};
use read_model::ChangedEntities;
use uuid::Uuid;

use super::backlog::MAX_WAITING_BYTES;
use super::{Backlog, Batch, BatchRun, PendingRecord, Reply, Request, Setback};

fn record(partition: i32, offset: i64, event: EventData) -> PendingRecord {
    let event = Event {
        event_id: EventId(Uuid::from_u128(offset.unsigned_abs().into())),
        occurred_at: Timestamp::from_millis(0).unwrap(),
        conversation_id: ConversationId(Uuid::from_u128(partition.unsigned_abs().into())),
        actor_id: "alice".parse().unwrap(),
        request: None,
        data: event,
    };
    PendingRecord { position: Position { partition, offset }, event: Ok(event), bytes: 100, traceparent: None }
}

fn message(partition: i32, offset: i64) -> PendingRecord {
    let sent = MessageSent {
        message_id: MessageId(Uuid::from_u128(offset.unsigned_abs().into())),
        content: "hi".to_owned(),
        message_type: MessageType::Text,
        attachments: Vec::new(),
        mentions: Vec::new(),
        reply_to_id: None,
    };
    record(partition, offset, EventData::MessageSent(sent))
}

fn group(partition: i32, offset: i64, participants: usize) -> PendingRecord {
    let participant_ids: Vec<UserId> = (0..participants).map(|user| format!("user-{user}").parse().unwrap()).collect();
    let kind = ConversationKind::Group;
    record(partition, offset, EventData::ConversationCreated { kind, title: None, participant_ids })
}

/// A backlog of these partitions, each with the records that `record` makes of the offsets from 0.
fn backlog(partitions: &[i32], count: i64, record: impl Fn(i32, i64) -> PendingRecord) -> Backlog {
    let mut backlog = Backlog::default();
    for partition in partitions {
        backlog.add(*partition, 0);
        for offset in 0..count {
            backlog.push(record(*partition, offset));
        }
    }
    backlog
}

fn lengths(batch: &Batch) -> Vec<(i32, i64)> {
    batch.advances().iter().map(|advance| (advance.partition, advance.to - advance.from)).collect()
}

#[test]
fn partitions_share_a_batch_in_turns_and_its_budget_bounds_it() {
    let mut backlog = backlog(&[0, 1], 20, |partition, offset| match partition {
        0 => group(partition, offset, 1_000),
        _ => message(partition, offset),
    });
    let batch = backlog.shared_batch().unwrap();
    assert_eq!(lengths(&batch), [(0, 9), (1, 20)], "9 groups of 1,000 cost 9,036 rows, and the messages 80");
    assert!(backlog.shared_batch().is_none(), "one at a time");
    backlog.committed(&batch, 9_116, Duration::from_millis(100));
    assert_eq!(backlog.next_offsets().into_iter().collect::<Vec<_>>(), [(0, 9), (1, 20)]);
    assert_eq!(lengths(&backlog.shared_batch().unwrap()), [(0, 9)], "what is left is in the next batch");
}

#[test]
fn the_bytes_that_wait_are_bounded_whatever_the_number_of_partitions() {
    for partitions in [1, 12, 1_000] {
        let partitions: Vec<i32> = (0..partitions).collect();
        let mut backlog = backlog(&partitions, 0, message);
        let (mut bytes, mut offset) = (0, 0);
        while partitions.iter().any(|partition| backlog.has_room(*partition)) {
            for partition in partitions.iter().filter(|partition| backlog.has_room(**partition)).collect::<Vec<_>>() {
                backlog.push(PendingRecord { bytes: 64 << 10, ..message(*partition, offset) });
                bytes += 64 << 10;
            }
            offset += 1;
        }
        assert!(bytes <= MAX_WAITING_BYTES + partitions.len() * (64 << 10), "{bytes} bytes of {}", partitions.len());
        assert!(offset > 0);
    }
}

#[test]
fn a_record_that_costs_more_than_the_budget_makes_a_batch_of_its_own() {
    let mut backlog = backlog(&[0], 3, |partition, offset| group(partition, offset, 1_000));
    let now = Instant::now();
    for _ in 0..8 {
        let batch = backlog.shared_batch().or_else(|| backlog.apart_batch(now + Duration::from_secs(60))).unwrap();
        backlog.set_back(&batch, &Setback::Failed, now);
    }
    assert_eq!(lengths(&backlog.apart_batch(now + Duration::from_secs(60)).unwrap()), [(0, 1)]);
}

#[test]
fn a_partition_whose_batch_failed_is_set_apart_until_one_succeeds() {
    let mut backlog = backlog(&[0, 1], 2, message);
    let now = Instant::now();
    let batch = backlog.shared_batch().unwrap();
    backlog.set_back(&batch, &Setback::Held(vec![0]), now);
    assert_eq!(lengths(&backlog.shared_batch().unwrap()), [(1, 2)], "the others go on");
    let apart = backlog.apart_batch(now).unwrap();
    assert_eq!(lengths(&apart), [(0, 2)], "the first attempt comes at once");
    assert!(backlog.apart_batch(now).is_none(), "it runs");
    backlog.set_back(&apart, &Setback::Failed, now);
    assert!(backlog.apart_batch(now).is_none(), "it pauses");
    let apart = backlog.apart_batch(backlog.next_retry().unwrap()).unwrap();
    backlog.committed(&apart, 8, Duration::ZERO);
    backlog.push(message(0, 2));
    assert!(backlog.apart_batch(now + Duration::from_secs(60)).is_none(), "it is healthy again");
}

#[test]
fn a_failed_batch_of_all_partitions_tries_each_of_them() {
    let mut backlog = backlog(&[0, 1, 2, 3, 4], 2, message);
    let now = Instant::now();
    let batch = backlog.shared_batch().unwrap();
    backlog.set_back(&batch, &Setback::Failed, now);
    assert!(backlog.shared_batch().is_none());
    let running: Vec<Batch> = std::iter::from_fn(|| backlog.apart_batch(now)).collect();
    assert_eq!(running.iter().map(lengths).collect::<Vec<_>>(), [[(0, 2)], [(1, 2)], [(2, 2)]], "three at a time");
    backlog.committed(&running[1], 8, Duration::ZERO);
    assert_eq!(backlog.apart_batch(now).map(|batch| lengths(&batch)), Some(vec![(3, 2)]));
}

#[test]
fn offsets_without_a_record_are_passed_after_the_records_before_them() {
    let mut backlog = backlog(&[0], 2, message);
    backlog.pass(0, 5);
    let batch = backlog.shared_batch().unwrap();
    assert_eq!(lengths(&batch), [(0, 5)]);
    backlog.committed(&batch, 8, Duration::ZERO);
    backlog.pass(0, 7);
    let batch = backlog.shared_batch().unwrap();
    assert_eq!((batch.len(), lengths(&batch)), (0, vec![(0, 2)]));
}

#[test]
fn a_record_that_comes_twice_is_folded_once() {
    let mut backlog = backlog(&[0], 2, message);
    backlog.push(message(0, 1));
    backlog.push(message(7, 0));
    assert_eq!(backlog.shared_batch().unwrap().len(), 2, "and none of another projector's partition");
}

#[test]
fn messages_in_groups_cost_what_they_rewrite() {
    let mut backlog = backlog(&[0, 1], 900, message);
    let batch = backlog.shared_batch().unwrap();
    let mut state = State::default();
    for partition in [0, 1] {
        let conversation = Conversation {
            kind: ConversationKind::Group,
            title: None,
            participant_count: i64::try_from(domain::limits::SMALL_CONVERSATION_MAX).unwrap(),
            created_at: Timestamp::from_millis(0).unwrap(),
            updated_at: Timestamp::from_millis(0).unwrap(),
            last_seq: 0,
            last_message: None,
            position: Position { partition, offset: 0 },
        };
        state.conversations.insert(ConversationId(Uuid::from_u128(partition.unsigned_abs().into())), conversation);
    }
    let mut run = BatchRun::new(batch);
    run.reply(Reply::Loaded(state));
    let rewritten = 2 * domain::limits::SMALL_CONVERSATION_MAX;
    assert_eq!(run.cost(), 1_800 * 4 + rewritten, "each conversation's members are rewritten once");
}

/// The requests of a run whose requests all succeed, with what Redis answers to the first publication of progress.
fn requests(mut run: BatchRun, mut first: Option<PublishOutcome>) -> Vec<String> {
    let mut requests = Vec::new();
    while let Some(request) = run.request() {
        let (name, reply) = match request {
            Request::Load(_) => ("load".to_owned(), Reply::Loaded(State::default())),
            Request::Commit { .. } => ("commit".to_owned(), Reply::Committed),
            Request::MembersOfSmall(_) => ("members".to_owned(), Reply::Members(Vec::new())),
            Request::Publish(publication) => {
                let progress: Vec<(i64, i64)> = publication.advances.iter().map(|it| (it.from, it.to)).collect();
                let name = format!("publish {} {progress:?}", publication.dependencies.len());
                let outcome = first.take().filter(|_| !progress.is_empty());
                (name, Reply::Published(outcome.unwrap_or(PublishOutcome::Published)))
            }
            Request::ListChanges(_) => {
                let conversations = vec![ConversationId(Uuid::nil())];
                ("list".to_owned(), Reply::Changed(ChangedEntities { conversations, ..ChangedEntities::default() }))
            }
        };
        requests.push(name);
        run.reply(reply);
    }
    requests
}

#[test]
fn progress_is_published_last_and_after_the_commit() {
    // Each participant's list and memberships change.
    let batch = || backlog(&[0], 1, |partition, offset| group(partition, offset, 1_250)).shared_batch().unwrap();
    let expected = ["load", "commit", "publish 1000 []", "publish 1000 []", "publish 501 [(0, 1)]"];
    assert_eq!(requests(BatchRun::new(batch()), None), expected, "no call of Redis invalidates more than 1,000");
}

#[test]
fn what_redis_missed_is_invalidated_before_the_progress_is_published() {
    let advances = vec![OffsetAdvance { partition: 0, from: 7, to: 7 }];
    let behind = PublishOutcome::Behind(vec![(0, 3)]);
    let expected = ["publish 0 [(7, 7)]", "list", "publish 1 [(3, 7)]"];
    assert_eq!(requests(BatchRun::republish(advances), Some(behind)), expected);
}

#[test]
fn a_conversation_is_invalidated_without_progress() {
    let run = BatchRun::invalidate(0, ConversationId(Uuid::nil()));
    assert!(matches!(run.request(), Some(Request::Publish(publication))
        if publication.dependencies == [Dependency::Conversation(ConversationId(Uuid::nil()))]));
    assert_eq!(requests(run, None), ["publish 1 []", "list", "publish 1 []"]);
}
