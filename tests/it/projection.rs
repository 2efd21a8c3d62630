//! The read model is the fold of the log, however it is written.

use std::collections::BTreeMap;

use domain::fold::fold;
use domain::state::{Changes, State, Touched};
use domain::testing::{PARTITIONS, Rng, positions, random_history};
use domain::{ConversationId, Event, OffsetAdvance, Position, UserId};
use read_model::{CommitError, Projection, ReadModel};
use uuid::Uuid;

use crate::harness::fold::folded;
use crate::harness::system::config;

/// An empty read model of one's own, and its generation.
async fn read_model(topic_id: Uuid) -> (ReadModel, i64) {
    let config = config();
    let read_model = ReadModel::connect(&config.database_url, &config.database_schema, 4).unwrap();
    read_model.migrate().await.unwrap();
    let projection = read_model.open_projection(topic_id, usize::try_from(PARTITIONS).unwrap()).await.unwrap();
    (read_model, projection.generation)
}

/// What the projector does with a batch, and how far that moves each partition.
async fn project(
    read_model: &ReadModel,
    batch: &[(Position, Event)],
    topic_id: Uuid,
    generation: i64,
) -> Result<(), CommitError> {
    let mut state = read_model.load(&Touched::by(batch.iter().map(|(_, event)| event))).await?;
    let mut changes = Changes::default();
    let mut steps: BTreeMap<i32, OffsetAdvance> = BTreeMap::new();
    for (position, event) in batch {
        fold(&mut state, &mut changes, event, *position);
        let Position { partition, offset } = *position;
        steps.entry(partition).or_insert(OffsetAdvance { partition, from: offset, to: 0 }).to = offset + 1;
    }
    let steps: Vec<OffsetAdvance> = steps.into_values().collect();
    read_model.commit(&state, &changes, &[], &steps, Projection { topic_id, generation }).await
}

/// A user's list as it follows from the state: ids and unread counts, the most recently active first.
fn list(state: &State, user: &UserId) -> Vec<(ConversationId, i64)> {
    let mine = state.conversations.iter().filter_map(|(id, conversation)| {
        let read = state.members.get(&(*id, user.clone()))?.last_read_seq;
        let unread = state.messages.iter().filter(|((conversation, _), message)| {
            conversation == id && message.seq > read && message.deleted_at.is_none() && message.sender_id != *user
        });
        Some((conversation.updated_at, *id, i64::try_from(unread.count()).unwrap()))
    });
    let mut mine: Vec<_> = mine.collect();
    mine.sort_unstable_by(|one, other| other.cmp(one));
    mine.into_iter().map(|(_, id, unread)| (id, unread)).collect()
}

/// The same as the read model gives it, in pages.
async fn listed(read_model: &ReadModel, user: &UserId) -> Vec<(ConversationId, i64)> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let page = read_model.conversations(user, 3, after).await.unwrap().value;
        after = page.items.last().map(|last| (last.updated_at, last.id));
        items.extend(page.items.iter().map(|item| (item.id, item.unread_count)));
        if !page.more {
            return items;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_read_model_is_the_fold_of_the_log_however_it_is_cut_into_batches() {
    let topic_id = Uuid::now_v7();
    let (read_model, _) = read_model(topic_id).await;
    for seed in 0..24 {
        let mut rng = Rng::new(seed);
        let events = random_history(seed, 200);
        let log: Vec<(Position, Event)> = positions(&events).into_iter().zip(events).collect();
        let generation = read_model.reset(topic_id, usize::try_from(PARTITIONS).unwrap()).await.unwrap().generation;
        let most = [1, 5, 40, 300][rng.below(4)];
        let mut rest = log.as_slice();
        while !rest.is_empty() {
            let (batch, after) = rest.split_at((1 + rng.below(most)).min(rest.len()));
            project(&read_model, batch, topic_id, generation).await.unwrap();
            // Who reads it again can't write it again.
            if rng.percent(10) {
                let again = project(&read_model, batch, topic_id, generation).await;
                assert!(matches!(again, Err(CommitError::Fenced)), "{again:?}");
            }
            rest = after;
        }
        let wanted = folded(log.iter().map(|(position, event)| (*position, event)));
        assert!(wanted.messages.len() > 20, "seed {seed} is dull");
        assert_eq!(read_model.export_state().await.unwrap(), wanted, "seed {seed}");
        for user in ["alice", "bob", "用户"] {
            let user = user.parse().unwrap();
            assert_eq!(listed(&read_model, &user).await, list(&wanted, &user), "seed {seed}, {user}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_write_one_batch_one_does_and_a_fenced_one_writes_nothing() {
    let topic_id = Uuid::now_v7();
    let (read_model, generation) = read_model(topic_id).await;
    let events = random_history(7, 120);
    let log: Vec<(Position, Event)> = positions(&events).into_iter().zip(events).collect();
    for batch in log.chunks(30) {
        let tries = (0..4).map(|_| project(&read_model, batch, topic_id, generation));
        let [one, two, three, four] = tries.collect::<Vec<_>>().try_into().unwrap_or_else(|_| unreachable!());
        let outcomes: [Result<(), CommitError>; 4] = tokio::join!(one, two, three, four).into();
        let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(done, 1, "{outcomes:?}");
    }
    let wanted = folded(log.iter().map(|(position, event)| (*position, event)));
    assert_eq!(read_model.export_state().await.unwrap(), wanted);

    // A conversation that would be new, from the wrong place, generation or topic, or one partition of two at the wrong one.
    let offsets = read_model.offsets().await.unwrap();
    let mut state = wanted.clone();
    let mut changes = Changes::default();
    let created = |event: &&(Position, Event)| wanted.conversations.contains_key(&event.1.conversation_id);
    let (Position { partition, .. }, mut event) = log.iter().find(created).unwrap().clone();
    event.event_id.0 = Uuid::now_v7();
    event.conversation_id.0 = Uuid::now_v7();
    let next = offsets.next(partition);
    fold(&mut state, &mut changes, &event, Position { partition, offset: next });
    assert_eq!(changes.created.len(), 1, "{event:?}");
    let here = OffsetAdvance { partition, from: next, to: next + 1 };
    let other = (partition + 1) % PARTITIONS;
    let late = OffsetAdvance { partition: other, from: offsets.next(other) + 1, to: offsets.next(other) + 2 };
    for (what, steps, topic, generation) in [
        ("a step from an earlier offset", vec![OffsetAdvance { from: next - 1, ..here }], topic_id, generation),
        (
            "a step from a later offset",
            vec![OffsetAdvance { from: next + 1, to: next + 2, ..here }],
            topic_id,
            generation,
        ),
        ("one step of two from a wrong offset", vec![here, late], topic_id, generation),
        ("another generation", vec![here], topic_id, generation + 1),
        ("another topic", vec![here], Uuid::now_v7(), generation),
        ("no such partition", vec![here, OffsetAdvance { partition: 99, from: 0, to: 1 }], topic_id, generation),
    ] {
        let outcome =
            read_model.commit(&state, &changes, &[], &steps, Projection { topic_id: topic, generation }).await;
        assert!(matches!(outcome, Err(CommitError::Fenced)), "{what}: {outcome:?}");
        assert_eq!(read_model.offsets().await.unwrap(), offsets, "{what}");
    }
    // Rows that can't be written leave the offsets where they were, and those before them unwritten.
    let mut twice = changes.clone();
    twice.applied.extend(changes.applied.clone());
    let outcome = read_model.commit(&state, &twice, &[], &[here], Projection { topic_id, generation }).await;
    assert!(matches!(outcome, Err(CommitError::ReadModel(_))), "{outcome:?}");
    assert_eq!(read_model.offsets().await.unwrap(), offsets);
    assert_eq!(read_model.export_state().await.unwrap(), wanted);
    read_model.commit(&state, &changes, &[], &[here], Projection { topic_id, generation }).await.unwrap();
    assert_eq!(read_model.export_state().await.unwrap(), state);
}
