//! The read model is the fold of the log, however the log is cut into batches and whoever writes them.
//!
//! These tests drive `read-model` directly, as a projector does, and compare it with `domain`'s fold.

use std::collections::BTreeMap;

use domain::fold::fold;
use domain::state::{Changes, State, Touched};
use domain::testing::{PARTITIONS, Rng, positions, random_history};
use domain::{ConversationId, Event, OffsetAdvance, Position, UserId};
use read_model::{CommitError, Projection, ReadModel};
use uuid::Uuid;

use crate::harness::fold::folded;
use crate::harness::system::config;

const PARTITION_COUNT: usize = PARTITIONS.unsigned_abs() as usize;

/// A read model that no other test has, and how a projector writes it.
struct Projecting {
    read_model: ReadModel,
    projection: Projection,
}

impl Projecting {
    async fn start() -> Self {
        let config = config();
        let read_model = ReadModel::connect(&config.database_url, &config.database_schema, 4).unwrap();
        read_model.migrate().await.unwrap();
        let projection = read_model.open_projection(Uuid::now_v7(), PARTITION_COUNT).await.unwrap();
        Self { read_model, projection }
    }

    /// Empties the read model.
    async fn reset(&mut self) {
        self.projection = self.read_model.reset(self.projection.topic_id, PARTITION_COUNT).await.unwrap();
    }

    /// Projects a batch as the projector does: while others hold its partitions, it tries again.
    async fn project(&self, batch: &[(Position, Event)]) -> Result<(), CommitError> {
        loop {
            match self.try_to_project(batch).await {
                Err(CommitError::Held(_)) => tokio::task::yield_now().await,
                outcome => return outcome,
            }
        }
    }

    async fn try_to_project(&self, batch: &[(Position, Event)]) -> Result<(), CommitError> {
        let mut state = self.read_model.load(&Touched::by(batch.iter().map(|(_, event)| event))).await?;
        let mut changes = Changes::default();
        let mut advances: BTreeMap<i32, OffsetAdvance> = BTreeMap::new();
        for (position, event) in batch {
            fold(&mut state, &mut changes, event, *position);
            let Position { partition, offset } = *position;
            advances.entry(partition).or_insert(OffsetAdvance { partition, from: offset, to: 0 }).to = offset + 1;
        }
        let advances: Vec<OffsetAdvance> = advances.into_values().collect();
        self.read_model.commit(&state, &changes, &[], &advances, self.projection).await
    }

    async fn exported(&self) -> State {
        self.read_model.export_state().await.unwrap()
    }
}

/// A random history at the positions that a topic would give it.
fn random_log(seed: u64, length: usize) -> Vec<(Position, Event)> {
    let events = random_history(seed, length);
    positions(&events).into_iter().zip(events).collect()
}

fn fold_of(log: &[(Position, Event)]) -> State {
    folded(log.iter().map(|(position, event)| (*position, event)))
}

/// An item of a user's list of conversations.
#[derive(Debug, PartialEq)]
struct Item {
    id: ConversationId,
    unread: i64,
}

/// A user's list as it follows from the state: the most recently active conversation first.
fn list_from_state(state: &State, user: &UserId) -> Vec<Item> {
    let mine = state.conversations.iter().filter_map(|(id, conversation)| {
        let read = state.members.get(&(*id, user.clone()))?.last_read_seq;
        let unread = state.messages.iter().filter(|((conversation, _), message)| {
            conversation == id && message.seq > read && message.deleted_at.is_none() && message.sender_id != *user
        });
        Some((conversation.updated_at, *id, i64::try_from(unread.count()).unwrap()))
    });
    let mut mine: Vec<_> = mine.collect();
    mine.sort_unstable_by(|one, other| other.cmp(one));
    mine.into_iter().map(|(_, id, unread)| Item { id, unread }).collect()
}

/// A user's list as the read model returns it, in pages.
async fn list_from_read_model(read_model: &ReadModel, user: &UserId) -> Vec<Item> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let page = read_model.conversations(user, 3, after).await.unwrap().value;
        after = page.items.last().map(|last| (last.updated_at, last.id));
        items.extend(page.items.iter().map(|item| Item { id: item.id, unread: item.unread_count }));
        if !page.more {
            return items;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_read_model_is_the_fold_of_the_log_however_it_is_cut_into_batches() {
    let mut projecting = Projecting::start().await;
    for seed in 0..24 {
        let mut rng = Rng::new(seed);
        let log = random_log(seed, 200);
        projecting.reset().await;
        let largest_batch = [1, 5, 40, 300][rng.below(4)];

        let mut rest = log.as_slice();
        while !rest.is_empty() {
            let (batch, after) = rest.split_at((1 + rng.below(largest_batch)).min(rest.len()));
            projecting.project(batch).await.unwrap();
            // A projector that reads the batch again can't write it again.
            if rng.percent(10) {
                let again = projecting.project(batch).await;
                assert!(matches!(again, Err(CommitError::Fenced)), "{again:?}");
            }
            rest = after;
        }

        let expected = fold_of(&log);
        assert!(expected.messages.len() > 20, "seed {seed} has too few messages");
        assert_eq!(projecting.exported().await, expected, "seed {seed}");
        for user in ["alice", "bob", "用户"] {
            let user = user.parse().unwrap();
            let list = list_from_read_model(&projecting.read_model, &user).await;
            assert_eq!(list, list_from_state(&expected, &user), "seed {seed}, {user}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_projectors_with_the_same_batch_one_writes_it() {
    let projecting = Projecting::start().await;
    let log = random_log(7, 120);
    for batch in log.chunks(30) {
        let outcomes: [_; 4] = tokio::join!(
            projecting.project(batch),
            projecting.project(batch),
            projecting.project(batch),
            projecting.project(batch),
        )
        .into();
        let written = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(written, 1, "{outcomes:?}");
    }
    assert_eq!(projecting.exported().await, fold_of(&log));
}

/// A batch that would create one more conversation, after a log that is already projected.
struct NextBatch {
    state: State,
    changes: Changes,
    /// The advance with which the batch can be written.
    advance: OffsetAdvance,
}

impl NextBatch {
    async fn after(log: &[(Position, Event)], read_model: &ReadModel) -> Self {
        let mut state = fold_of(log);
        let creates = |(_, event): &&(Position, Event)| state.conversations.contains_key(&event.conversation_id);
        let (Position { partition, .. }, mut event) = log.iter().find(creates).unwrap().clone();
        event.event_id.0 = Uuid::now_v7();
        event.conversation_id.0 = Uuid::now_v7();
        let offset = read_model.offsets().await.unwrap().next(partition);
        let mut changes = Changes::default();
        fold(&mut state, &mut changes, &event, Position { partition, offset });
        assert_eq!(changes.created.len(), 1, "{event:?}");
        Self { state, changes, advance: OffsetAdvance { partition, from: offset, to: offset + 1 } }
    }
}

/// A commit that the read model must refuse.
struct FencedCommit {
    why: &'static str,
    advances: Vec<OffsetAdvance>,
    projection: Projection,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_with_wrong_offsets_generation_or_topic_writes_nothing() {
    let projecting = Projecting::start().await;
    let Projecting { read_model, projection } = &projecting;
    let log = random_log(7, 120);
    projecting.project(&log).await.unwrap();
    let offsets = read_model.offsets().await.unwrap();
    let NextBatch { state, changes, advance } = NextBatch::after(&log, read_model).await;
    let projection = *projection;
    let other_partition = (advance.partition + 1) % PARTITIONS;
    let skips_one = OffsetAdvance {
        partition: other_partition,
        from: offsets.next(other_partition) + 1,
        to: offsets.next(other_partition) + 2,
    };

    for FencedCommit { why, advances, projection } in [
        FencedCommit {
            why: "from an earlier offset",
            advances: vec![OffsetAdvance { from: advance.from - 1, ..advance }],
            projection,
        },
        FencedCommit {
            why: "from a later offset",
            advances: vec![OffsetAdvance { from: advance.from + 1, to: advance.to + 1, ..advance }],
            projection,
        },
        FencedCommit { why: "one of two from a wrong offset", advances: vec![advance, skips_one], projection },
        FencedCommit {
            why: "another generation",
            advances: vec![advance],
            projection: Projection { generation: projection.generation + 1, ..projection },
        },
        FencedCommit {
            why: "another topic",
            advances: vec![advance],
            projection: Projection { topic_id: Uuid::now_v7(), ..projection },
        },
        FencedCommit {
            why: "no such partition",
            advances: vec![advance, OffsetAdvance { partition: 99, from: 0, to: 1 }],
            projection,
        },
    ] {
        let outcome = read_model.commit(&state, &changes, &[], &advances, projection).await;
        assert!(matches!(outcome, Err(CommitError::Fenced)), "{why}: {outcome:?}");
        assert_eq!(read_model.offsets().await.unwrap(), offsets, "{why}");
    }
    assert_eq!(projecting.exported().await, fold_of(&log));

    read_model.commit(&state, &changes, &[], &[advance], projection).await.unwrap();
    assert_eq!(projecting.exported().await, state);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_with_a_row_that_cannot_be_written_writes_nothing() {
    let projecting = Projecting::start().await;
    let Projecting { read_model, projection } = &projecting;
    let log = random_log(7, 120);
    projecting.project(&log).await.unwrap();
    let offsets = read_model.offsets().await.unwrap();
    let NextBatch { state, changes, advance } = NextBatch::after(&log, read_model).await;

    let mut one_row_twice = changes.clone();
    one_row_twice.applied.extend(changes.applied.clone());
    let outcome = read_model.commit(&state, &one_row_twice, &[], &[advance], *projection).await;
    assert!(matches!(outcome, Err(CommitError::ReadModel(_))), "{outcome:?}");
    assert_eq!(read_model.offsets().await.unwrap(), offsets);
    assert_eq!(projecting.exported().await, fold_of(&log));

    read_model.commit(&state, &changes, &[], &[advance], *projection).await.unwrap();
    assert_eq!(projecting.exported().await, state);
}
