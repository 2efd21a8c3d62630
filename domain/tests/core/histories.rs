//! What holds of every history: random ones, with retries, repeated records, races and nonsense, and arbitrary ones.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use domain::decide::decide;
use domain::event::EventData;
use domain::fold::fold;
use domain::state::{Changes, State, Touched};
use domain::testing::{PARTITIONS, Rng, World, facts, positions, random_history};
use domain::{ConversationId, Event, Position};
use proptest::prelude::*;

use crate::support::any_event;

type Record = (Position, Event);

fn straight<'a>(records: impl IntoIterator<Item = &'a Record>) -> State {
    let mut state = State::default();
    for (position, event) in records {
        fold(&mut state, &mut Changes::default(), event, *position);
    }
    state
}

fn history(seed: u64, length: usize) -> Vec<Record> {
    let events = random_history(seed, length);
    positions(&events).into_iter().zip(events).collect()
}

/// The part of a state that is touched: what is loaded before a batch.
fn part(state: &State, touched: &Touched) -> State {
    State {
        conversations: touched
            .conversations
            .iter()
            .filter_map(|id| state.conversations.get_key_value(id))
            .map(cloned)
            .collect(),
        members: touched.members.iter().filter_map(|key| state.members.get_key_value(key)).map(cloned).collect(),
        messages: touched.messages.iter().filter_map(|key| state.messages.get_key_value(key)).map(cloned).collect(),
        applied: touched.events.iter().filter(|event| state.applied.contains(event)).copied().collect(),
        keys: touched.keys.iter().filter(|key| state.keys.contains(key)).cloned().collect(),
    }
}

fn cloned<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}

/// Writes back what a batch changed, and nothing else.
fn merge(state: &mut State, part: &State, changes: &Changes) {
    for id in &changes.conversations {
        state.conversations.insert(*id, part.conversations[id].clone());
    }
    for key in &changes.members {
        state.members.insert(key.clone(), part.members[key].clone());
    }
    for key in &changes.messages {
        state.messages.insert(*key, part.messages[key].clone());
    }
    for applied in &changes.applied {
        state.applied.insert((applied.conversation_id, applied.event_id));
        let key = applied.key.clone().map(|(actor, key)| (applied.conversation_id, actor, key));
        state.keys.extend(key);
    }
}

fn in_batches(records: &[Record], rng: &mut Rng) -> State {
    let (mut state, mut left) = (State::default(), records);
    while !left.is_empty() {
        let (batch, rest) = left.split_at((1 + rng.below(12)).min(left.len()));
        let mut part = part(&state, &Touched::by(batch.iter().map(|(_, event)| event)));
        let mut changes = Changes::default();
        for (position, event) in batch {
            fold(&mut part, &mut changes, event, *position);
        }
        merge(&mut state, &part, &changes);
        left = rest;
    }
    state
}

/// The same records in another order that keeps the order within each conversation.
fn interleaved_anew(records: Vec<Record>, rng: &mut Rng) -> Vec<Record> {
    let mut by_conversation: BTreeMap<ConversationId, std::collections::VecDeque<Record>> = BTreeMap::new();
    for record in records {
        by_conversation.entry(record.1.conversation_id).or_default().push_back(record);
    }
    let mut queues: Vec<_> = by_conversation.into_values().collect();
    let mut mixed = Vec::new();
    while !queues.is_empty() {
        let index = rng.below(queues.len());
        match queues[index].pop_front() {
            Some(record) => mixed.push(record),
            None => drop(queues.swap_remove(index)),
        }
    }
    mixed
}

fn assert_consistent(state: &State) {
    let mut seqs: BTreeMap<ConversationId, BTreeSet<i64>> = BTreeMap::new();
    for ((conversation, _), message) in &state.messages {
        assert!(seqs.entry(*conversation).or_default().insert(message.seq), "a seq stands once");
        let cleared = message.content.is_none()
            && message.attachments.is_empty()
            && message.mentions.is_empty()
            && message.reactions.is_empty();
        assert!(message.deleted_at.is_none() == message.content.is_some());
        assert!(message.deleted_at.is_none() || cleared);
    }
    for (id, conversation) in &state.conversations {
        let seqs = seqs.remove(id).unwrap_or_default();
        assert!(seqs.into_iter().eq(1..=conversation.last_seq), "seq is 1..n without holes");
        let members: Vec<_> = state.members.iter().filter(|((member_of, _), _)| member_of == id).collect();
        assert_eq!(i64::try_from(members.len()).unwrap(), conversation.participant_count);
        assert!(members.iter().all(|(_, member)| (0..=conversation.last_seq).contains(&member.last_read_seq)));
        let last = conversation.last_message.map(|message| state.messages[&(*id, message)].seq);
        assert_eq!(last.unwrap_or_default(), conversation.last_seq);
        assert!(conversation.updated_at >= conversation.created_at);
    }
    assert!(seqs.is_empty(), "every message is in a conversation");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_batch_needs_only_what_it_touches_and_changes_only_what_it_says(seed: u64, length in 1..250_usize) {
        let records = history(seed, length);
        prop_assert_eq!(in_batches(&records, &mut Rng::new(seed)), straight(&records));
    }

    #[test]
    fn conversations_do_not_know_one_another(seed: u64, length in 1..250_usize) {
        let records = history(seed, length);
        let expected = straight(&records);
        let mut one_by_one = records.clone();
        one_by_one.sort_by_key(|(_, event)| event.conversation_id);
        prop_assert_eq!(&straight(&one_by_one), &expected);
        prop_assert_eq!(&straight(&interleaved_anew(records, &mut Rng::new(seed))), &expected);
    }

    #[test]
    fn repeated_records_change_nothing(seed: u64, length in 1..250_usize) {
        let mut rng = Rng::new(seed);
        // Every other offset is left for repeats.
        let even = |(position, event): Record| (Position { offset: position.offset * 2, ..position }, event);
        let records: Vec<Record> = history(seed, length).into_iter().map(even).collect();
        let expected = straight(&records);
        let mut seen = HashSet::new();
        let once: Vec<&Record> =
            records.iter().filter(|(_, event)| seen.insert((event.conversation_id, event.event_id))).collect();
        prop_assert_eq!(&straight(once), &expected);
        let mut repeated: Vec<Record> = Vec::new();
        for record in &records {
            repeated.push(record.clone());
            if let Some((position, event)) = rng.pick(&repeated).filter(|_| rng.percent(50)) {
                repeated.push((Position { offset: position.offset + 1, ..position }, event));
            }
        }
        prop_assert!(repeated.len() > records.len() || records.len() < 20);
        prop_assert_eq!(&straight(&repeated), &expected);
    }

    #[test]
    fn a_whole_log_read_twice_folds_as_once(seed: u64, length in 1..250_usize) {
        let records = history(seed, length);
        prop_assert_eq!(straight(records.iter().chain(&records)), straight(&records));
    }

    #[test]
    fn every_history_folds_to_a_consistent_state(seed: u64, length in 1..250_usize) {
        assert_consistent(&straight(&history(seed, length)));
    }

    #[test]
    fn any_events_fold_to_a_consistent_state(events in proptest::collection::vec(any_event(), 0..40), seed: u64) {
        // In few conversations by few people, so that they meet.
        let mut rng = Rng::new(seed);
        let mut events = events;
        let (ids, actors) = (events.clone(), events.clone());
        for event in &mut events {
            event.conversation_id = ids[rng.below(2.min(ids.len()))].conversation_id;
            event.actor_id = actors[rng.below(3.min(actors.len()))].actor_id.clone();
            if let EventData::ConversationCreated { participant_ids, .. } = &mut event.data {
                participant_ids.push(event.actor_id.clone());
            }
        }
        let records: Vec<Record> = positions(&events).into_iter().zip(events).collect();
        let state = straight(&records);
        assert_consistent(&state);
        prop_assert_eq!(in_batches(&records, &mut rng), state);
    }

    #[test]
    fn what_is_decided_on_fresh_facts_has_an_effect(seed: u64, length in 1..100_usize) {
        let mut world = World::new(seed);
        while world.log.len() < length {
            world.step();
        }
        for _ in 0..40 {
            let (context, command) = world.ask();
            let facts = facts(&world.state, &context.actor, &command);
            let Ok(event) = decide(&context, &command, &facts) else { continue };
            let before = world.state.clone();
            world.append(event.clone());
            let effect = (&before.conversations, &before.members, &before.messages)
                != (&world.state.conversations, &world.state.members, &world.state.messages);
            prop_assert!(effect || may_change_nothing(&before, &event), "{:?}", event);
        }
    }
}

/// Whether an event is one that a command may make although nothing changes.
fn may_change_nothing(state: &State, event: &Event) -> bool {
    let used = event.request.as_ref().is_some_and(|request| {
        state.keys.contains(&(event.conversation_id, event.actor_id.clone(), request.key.clone()))
    });
    let message = event.data.message_id().and_then(|id| state.messages.get(&(event.conversation_id, id)));
    let given = |emoji: &String| {
        let reactions = message.into_iter().flat_map(|message| &message.reactions);
        reactions
            .filter(|reaction| reaction.emoji == *emoji)
            .find(|reaction| reaction.user_ids.contains(&event.actor_id))
    };
    let member = state.members.get(&(event.conversation_id, event.actor_id.clone()));
    used || match &event.data {
        // The pair has its conversation already.
        EventData::ConversationCreated { .. } => state.conversations.contains_key(&event.conversation_id),
        EventData::MessageSent(_) | EventData::MessageEdited { .. } => false,
        EventData::MessageDeleted { .. } => message.is_some_and(|message| message.deleted_at.is_some()),
        EventData::ReactionAdded { emoji, label, .. } => {
            given(emoji).is_some_and(|reaction| label.is_none() || *label == reaction.label)
        }
        EventData::ReactionRemoved { emoji, .. } => given(emoji).is_none(),
        EventData::MessagesRead { .. } => {
            let newest = state.conversations[&event.conversation_id].last_seq;
            let up_to = message.map_or(newest, |message| message.seq);
            member.is_some_and(|member| member.last_read_seq >= up_to)
        }
        EventData::TypingStart {} | EventData::TypingStop {} | EventData::MentionNotification { .. } => true,
    }
}

#[test]
fn a_seed_gives_the_same_history_everywhere() {
    for seed in 0..20 {
        assert_eq!(random_history(seed, 200), random_history(seed, 200));
    }
    assert_ne!(random_history(7, 300), random_history(8, 300));
    assert_eq!(
        [0, 1, 2].map(|seed| Rng::new(seed).bits()),
        [0xe220_a839_7b1d_cdaf, 0x910a_2dec_8902_5cc1, 0x9758_35de_1c97_56ce,]
    );
}

#[test]
fn a_random_history_has_what_it_promises() {
    let records = history(1, 1_000);
    let types: HashSet<&str> = records.iter().map(|(_, event)| event.data.type_name()).collect();
    assert_eq!(types.len(), 10);
    let ids: HashSet<_> = records.iter().map(|(_, event)| (event.conversation_id, event.event_id)).collect();
    assert!(ids.len() < records.len(), "some records repeat");
    let state = straight(&records);
    let keyed = records.iter().filter(|(_, event)| event.request.is_some()).count();
    assert!(state.keys.len() < keyed, "some keys come again");
    assert!(state.conversations.len() > 3 && state.messages.len() > 100);
    assert!(state.messages.values().any(|message| message.deleted_at.is_some()));
    assert!(state.messages.values().any(|message| message.reactions.iter().any(|reaction| reaction.label.is_some())));
    let partitions: HashSet<i32> = records.iter().map(|(position, _)| position.partition).collect();
    assert!(partitions.len() > 3 && partitions.iter().all(|partition| (0..PARTITIONS).contains(partition)));
    let late = records.iter().filter(|(_, event)| matches!(event.data, EventData::MessageEdited { .. })).count();
    let edited = state.messages.values().filter(|message| message.edited_at.is_some()).count();
    assert!(edited > 0 && edited < late);
}
