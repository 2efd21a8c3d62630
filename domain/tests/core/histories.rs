//! Properties of every history: of random ones, with retries, repeated records, races and invalid events, and of
//! arbitrary events.

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

/// Folds records one after the other.
fn fold_all<'a>(records: impl IntoIterator<Item = &'a Record>) -> State {
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

/// The part of a state to load before folding a batch.
fn load(state: &State, touched: &Touched) -> State {
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

/// Writes back exactly what a batch changed.
fn write_back(state: &mut State, part: &State, changes: &Changes) {
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

/// Folds records in batches of random size, as the projector does.
fn fold_in_batches(records: &[Record], rng: &mut Rng) -> State {
    let mut state = State::default();
    let mut remaining = records;
    while !remaining.is_empty() {
        let (batch, rest) = remaining.split_at((1 + rng.below(12)).min(remaining.len()));
        let mut part = load(&state, &Touched::by(batch.iter().map(|(_, event)| event)));
        let mut changes = Changes::default();
        for (position, event) in batch {
            fold(&mut part, &mut changes, event, *position);
        }
        write_back(&mut state, &part, &changes);
        remaining = rest;
    }
    state
}

/// The same records in another order, which keeps the order within each conversation.
fn interleaved(records: Vec<Record>, rng: &mut Rng) -> Vec<Record> {
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
        assert!(seqs.entry(*conversation).or_default().insert(message.seq), "each seq is unique");
        let is_cleared = message.content.is_none()
            && message.attachments.is_empty()
            && message.mentions.is_empty()
            && message.reactions.is_empty();
        assert!(message.deleted_at.is_none() == message.content.is_some());
        assert!(message.deleted_at.is_none() || is_cleared);
    }
    for (id, conversation) in &state.conversations {
        let seqs = seqs.remove(id).unwrap_or_default();
        assert!(seqs.into_iter().eq(1..=conversation.last_seq), "seq is 1..n without gaps");
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
    fn a_batch_needs_only_what_it_touches_and_reports_all_that_it_changes(seed: u64, length in 1..250_usize) {
        let records = history(seed, length);
        prop_assert_eq!(fold_in_batches(&records, &mut Rng::new(seed)), fold_all(&records));
    }

    #[test]
    fn conversations_are_independent_of_each_other(seed: u64, length in 1..250_usize) {
        let records = history(seed, length);
        let expected = fold_all(&records);
        let mut by_conversation = records.clone();
        by_conversation.sort_by_key(|(_, event)| event.conversation_id);
        prop_assert_eq!(&fold_all(&by_conversation), &expected);
        prop_assert_eq!(&fold_all(&interleaved(records, &mut Rng::new(seed))), &expected);
    }

    #[test]
    fn repeated_records_change_nothing(seed: u64, length in 1..250_usize) {
        let mut rng = Rng::new(seed);
        // Leaves every other offset for repetitions.
        let on_even_offset = |(position, event): Record| (Position { offset: position.offset * 2, ..position }, event);
        let records: Vec<Record> = history(seed, length).into_iter().map(on_even_offset).collect();
        let expected = fold_all(&records);
        let mut seen = HashSet::new();
        let once: Vec<&Record> =
            records.iter().filter(|(_, event)| seen.insert((event.conversation_id, event.event_id))).collect();
        prop_assert_eq!(&fold_all(once), &expected);
        let mut repeated: Vec<Record> = Vec::new();
        for record in &records {
            repeated.push(record.clone());
            if let Some((position, event)) = rng.pick(&repeated).filter(|_| rng.percent(50)) {
                repeated.push((Position { offset: position.offset + 1, ..position }, event));
            }
        }
        prop_assert!(repeated.len() > records.len() || records.len() < 20);
        prop_assert_eq!(&fold_all(&repeated), &expected);
    }

    #[test]
    fn folding_a_log_twice_has_the_effect_of_once(seed: u64, length in 1..250_usize) {
        let records = history(seed, length);
        prop_assert_eq!(fold_all(records.iter().chain(&records)), fold_all(&records));
    }

    #[test]
    fn every_history_folds_to_a_consistent_state(seed: u64, length in 1..250_usize) {
        assert_consistent(&fold_all(&history(seed, length)));
    }

    #[test]
    fn any_events_fold_to_a_consistent_state(events in proptest::collection::vec(any_event(), 0..40), seed: u64) {
        // In a few conversations by a few users, so the events concern each other.
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
        let state = fold_all(&records);
        assert_consistent(&state);
        prop_assert_eq!(fold_in_batches(&records, &mut rng), state);
    }

    #[test]
    fn a_command_decided_on_fresh_facts_has_an_effect(seed: u64, length in 1..100_usize) {
        let mut world = World::new(seed);
        while world.log.len() < length {
            world.step();
        }
        for _ in 0..40 {
            let (context, command) = world.random_command();
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

/// Whether a command may have this event in this state although the event changes nothing.
fn may_change_nothing(state: &State, event: &Event) -> bool {
    let key_is_used = event.request.as_ref().is_some_and(|request| {
        state.keys.contains(&(event.conversation_id, event.actor_id.clone(), request.key.clone()))
    });
    let message = event.data.message_id().and_then(|id| state.messages.get(&(event.conversation_id, id)));
    let plain = |emoji: &str| emoji.replace('\u{fe0f}', "");
    let own_reaction = |emoji: &String| {
        let reactions = message.into_iter().flat_map(|message| &message.reactions);
        reactions
            .filter(|reaction| plain(&reaction.emoji) == plain(emoji))
            .find(|reaction| reaction.user_ids.contains(&event.actor_id))
    };
    let member = state.members.get(&(event.conversation_id, event.actor_id.clone()));
    key_is_used
        || match &event.data {
            // The two users already have a direct conversation.
            EventData::ConversationCreated { .. } => state.conversations.contains_key(&event.conversation_id),
            EventData::MessageSent(_) | EventData::MessageEdited { .. } => false,
            EventData::MessageDeleted { .. } => message.is_some_and(|message| message.deleted_at.is_some()),
            EventData::ReactionAdded { emoji, label, .. } => {
                own_reaction(emoji).is_some_and(|reaction| label.is_none() || *label == reaction.label)
            }
            EventData::ReactionRemoved { emoji, .. } => own_reaction(emoji).is_none(),
            EventData::MessagesRead { .. } => {
                let newest = state.conversations[&event.conversation_id].last_seq;
                let up_to = message.map_or(newest, |message| message.seq);
                member.is_some_and(|member| member.last_read_seq >= up_to)
            }
            EventData::TypingStart {} | EventData::TypingStop {} | EventData::MentionNotification { .. } => true,
        }
}

#[test]
fn a_seed_determines_the_history() {
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
fn a_random_history_has_repetitions_races_and_events_of_all_types() {
    let records = history(1, 1_000);
    let types: HashSet<&str> = records.iter().map(|(_, event)| event.data.type_name()).collect();
    assert_eq!(types.len(), 10);
    let ids: HashSet<_> = records.iter().map(|(_, event)| (event.conversation_id, event.event_id)).collect();
    assert!(ids.len() < records.len(), "some records are repeated");
    let state = fold_all(&records);
    let events_with_key = records.iter().filter(|(_, event)| event.request.is_some()).count();
    assert!(state.keys.len() < events_with_key, "some keys are used twice");
    assert!(state.conversations.len() > 3 && state.messages.len() > 100);
    assert!(state.messages.values().any(|message| message.deleted_at.is_some()));
    assert!(state.messages.values().any(|message| message.reactions.iter().any(|reaction| reaction.label.is_some())));
    let partitions: HashSet<i32> = records.iter().map(|(position, _)| position.partition).collect();
    assert!(partitions.len() > 3 && partitions.iter().all(|partition| (0..PARTITIONS).contains(partition)));
    let edit_events = records.iter().filter(|(_, event)| matches!(event.data, EventData::MessageEdited { .. })).count();
    let edited_messages = state.messages.values().filter(|message| message.edited_at.is_some()).count();
    assert!(edited_messages > 0 && edited_messages < edit_events, "some edits have no effect");
}
