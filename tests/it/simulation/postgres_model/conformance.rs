//! The same calls on the modelled read model and on a real one, in a schema of its own, return the same.

use std::collections::{BTreeMap, BTreeSet};

use domain::event::ConversationKind;
use domain::fold::fold;
use domain::state::{Changes, State, Touched};
use domain::testing::{PARTITIONS, Rng, positions, random_history};
use domain::{ConversationId, Event, EventData, EventId, MessageId, OffsetAdvance, Position, UserId, limits};
use read_model::{ChangedEntities, ChangesCursor, CommitError, ParkedRecord, Projection, ReadModel};
use uuid::Uuid;

use super::{CommitFailure, PostgresModel};
use crate::harness::system::config;

/// One read model of each kind.
struct Pair {
    model: PostgresModel,
    real: ReadModel,
    projection: Projection,
}

/// What a commit brings.
struct Commit {
    state: State,
    changes: Changes,
    parked: Vec<ParkedRecord>,
    advances: Vec<OffsetAdvance>,
}

impl Pair {
    async fn open() -> Self {
        let config = config();
        let real = ReadModel::connect(&config.database_url, &config.database_schema, 2).unwrap();
        real.migrate().await.unwrap();
        let partitions = usize::try_from(PARTITIONS).unwrap();
        let projection = real.open_projection(Uuid::now_v7(), partitions).await.unwrap();
        Self { model: PostgresModel::new(projection, partitions), real, projection }
    }

    /// Loads from both and folds records.
    async fn fold(&self, records: &[(Position, Event)]) -> Commit {
        let touched = Touched::by(records.iter().map(|(_, event)| event));
        let (mut state, mut changes) = (self.real.load(&touched).await.unwrap(), Changes::default());
        assert_eq!(self.model.load(&touched), state);
        let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
        for (position, event) in records {
            fold(&mut state, &mut changes, event, *position);
            ends.insert(position.partition, position.offset + 1);
        }
        let offsets = self.model.offsets();
        let advance = |(partition, to)| OffsetAdvance { partition, from: offsets.next(partition), to };
        Commit { state, changes, parked: Vec::new(), advances: ends.into_iter().map(advance).collect() }
    }

    /// Commits to both. Returns the outcome, which is the same.
    async fn commit(&mut self, commit: &Commit, projection: Projection) -> Result<(), CommitFailure> {
        let Commit { state, changes, parked, advances } = commit;
        let modelled = self.model.commit(state, changes, parked, advances, projection);
        let real = self.real.commit(state, changes, parked, advances, projection).await;
        let real = real.map_err(|error| match error {
            CommitError::Fenced => CommitFailure::Fenced,
            _ => CommitFailure::Violation,
        });
        assert_eq!(modelled, real);
        assert_eq!(self.model.offsets(), self.real.offsets().await.unwrap());
        real
    }

    /// Compares every read of everything that these events name.
    async fn compare_reads(&self, events: &[Event]) {
        let (model, real) = (&self.model, &self.real);
        assert_eq!(model.export_state(), real.export_state().await.unwrap());
        let users: BTreeSet<&UserId> = events.iter().map(|event| &event.actor_id).collect();
        let conversations: BTreeSet<ConversationId> = events.iter().map(|event| event.conversation_id).collect();
        for user in &users {
            let mut memberships = real.memberships(user).await.unwrap();
            memberships.value.sort_by_key(|it| it.conversation_id);
            assert_eq!(model.memberships(user), memberships);
            let first = real.conversations(user, 2, None).await.unwrap();
            assert_eq!(model.conversations(user, 2, None), first);
            let after = first.value.items.last().map(|it| (it.updated_at, it.id));
            assert_eq!(model.conversations(user, 50, after), real.conversations(user, 50, after).await.unwrap());
        }
        let user = users.first().unwrap();
        for id in &conversations {
            assert_eq!(model.participants(*id), real.participants(*id).await.unwrap());
            assert_eq!(model.conversation(*id, user, 2, 1), real.conversation(*id, user, 2, 1).await.unwrap());
            assert_eq!(model.messages(*id, 3, None), real.messages(*id, 3, None).await.unwrap());
            assert_eq!(model.messages(*id, 30, Some(5)), real.messages(*id, 30, Some(5)).await.unwrap());
        }
        let conversations: Vec<ConversationId> = conversations.into_iter().collect();
        let mut members = real.members_of_small(&conversations).await.unwrap();
        members.sort_unstable();
        assert_eq!(model.members_of_small(&conversations), members);
        self.compare_messages(events).await;
    }

    async fn compare_messages(&self, events: &[Event]) {
        let mut homes: BTreeMap<MessageId, BTreeSet<ConversationId>> = BTreeMap::new();
        for event in events {
            homes
                .entry(event.data.message_id().unwrap_or(MessageId(Uuid::nil())))
                .or_default()
                .insert(event.conversation_id);
        }
        // Which of two messages with the same id a read finds is undefined.
        for (id, _) in homes.iter().filter(|(_, homes)| homes.len() == 1) {
            assert_eq!(self.model.message(*id), self.real.message(*id).await.unwrap());
            assert_eq!(self.model.message_facts(*id), self.real.message_facts(*id).await.unwrap());
        }
    }

    /// Compares what has changed on each partition since some offsets, over all pages.
    async fn compare_changes(&self) {
        for (partition, next) in (0..).zip(self.model.offsets().0) {
            for from in [0, next / 2, next] {
                let (mut modelled, mut real) = (Changed::default(), Changed::default());
                let (mut cursor, mut pages) = (Some(ChangesCursor::since(partition, from)), 0);
                while let Some(at) = cursor {
                    cursor = modelled.add(self.model.changed_entities(&at));
                    pages += 1;
                    assert!(pages < 1_000, "the pages never end");
                }
                let mut cursor = Some(ChangesCursor::since(partition, from));
                while let Some(at) = cursor {
                    cursor = real.add(self.real.changed_entities(&at).await.unwrap());
                }
                assert_eq!(modelled, real, "partition {partition} from {from}");
            }
        }
    }
}

/// What all pages list together.
#[derive(Debug, Default, PartialEq)]
struct Changed {
    conversations: BTreeSet<ConversationId>,
    messages: BTreeSet<MessageId>,
    users: BTreeSet<UserId>,
}

impl Changed {
    fn add(&mut self, page: ChangedEntities) -> Option<ChangesCursor> {
        self.conversations.extend(page.conversations);
        self.messages.extend(page.messages);
        self.users.extend(page.users);
        page.next
    }
}

/// A history, with the creation of a large conversation at its beginning.
fn history(seed: u64, length: usize) -> Vec<Event> {
    let mut events = random_history(seed, length);
    let mut participant_ids = vec![events[0].actor_id.clone()];
    participant_ids.extend((0..=limits::SMALL_CONVERSATION_MAX).map(|number| format!("u{number}").parse().unwrap()));
    let large = Event {
        event_id: EventId(Uuid::from_u128(1)),
        conversation_id: ConversationId(Uuid::from_u128(2)),
        data: EventData::ConversationCreated { kind: ConversationKind::Group, title: None, participant_ids },
        ..events[0].clone()
    };
    events.insert(0, large);
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_keeps_and_reads_rows_as_postgres_does() {
    let mut pair = Pair::open().await;
    let mut rng = Rng::new(16);
    let events = history(16, 400);
    let mut records: &[(Position, Event)] =
        &positions(&events).into_iter().zip(events.iter().cloned()).collect::<Vec<_>>();
    let mut batches = 0;
    while !records.is_empty() {
        let (batch, rest) = records.split_at((1 + rng.below(30)).min(records.len()));
        let commit = pair.fold(batch).await;
        let projection = pair.projection;
        let older = Projection { generation: projection.generation - 1, ..projection };
        assert_eq!(pair.commit(&commit, older).await, Err(CommitFailure::Fenced), "another generation");
        let another = Projection { topic_id: Uuid::now_v7(), ..projection };
        assert_eq!(pair.commit(&commit, another).await, Err(CommitFailure::Fenced), "another topic");
        assert_eq!(pair.commit(&commit, projection).await, Ok(()));
        assert_eq!(pair.commit(&commit, projection).await, Err(CommitFailure::Fenced), "the same batch again");
        if !commit.changes.applied.is_empty() {
            let unmoved = commit.advances.iter().map(|it| OffsetAdvance { from: it.to, ..*it }).collect();
            let again = Commit { advances: unmoved, ..commit };
            assert_eq!(pair.commit(&again, projection).await, Err(CommitFailure::Violation), "the same events again");
        }
        records = rest;
        batches += 1;
        if batches % 6 == 0 || records.is_empty() {
            pair.compare_reads(&events).await;
            pair.compare_changes().await;
        }
    }
}
