//! What a community promises: the same records for the same seed, and records as real people would cause them.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use demo::{Community, CommunitySpec, Record};
use domain::envelope::{decode, encode};
use domain::event::ConversationKind;
use domain::fold::fold;
use domain::state::{Changes, State};
use domain::{Event, EventData, Position, Timestamp};
use proptest::prelude::*;

fn spec(users: usize, conversations: usize, messages: usize, seed: u64) -> CommunitySpec {
    CommunitySpec { users, conversations, messages, seed, until: "2026-11-01T00:00:00Z".parse().unwrap() }
}

/// A community that is large enough for its shares, and small enough for a test.
fn town() -> CommunitySpec {
    spec(1_000, 500, 100_000, 1)
}

/// The events, copies included.
fn events(spec: &CommunitySpec) -> impl Iterator<Item = Event> {
    Community::new(spec).filter_map(|record| match record {
        Record::Event(event) => Some(event),
        Record::Undecodable(_) => None,
    })
}

/// The events without their copies.
fn originals(spec: &CommunitySpec) -> impl Iterator<Item = Event> {
    let mut seen = HashSet::new();
    events(spec).filter(move |event| seen.insert(event.event_id))
}

/// Everything that the log keeps of a record.
fn bytes(record: &Record) -> (String, Vec<u8>) {
    match record {
        Record::Event(event) => (event.conversation_id.to_string(), encode(event)),
        Record::Undecodable(record) => (record.key.to_string(), record.value.clone()),
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_gives_others() {
    let all = |seed| Community::new(&spec(50, 40, 3_000, seed)).map(|record| bytes(&record)).collect::<Vec<_>>();
    assert_eq!(all(1), all(1));
    let other = all(2);
    assert!(all(1).iter().zip(&other).all(|(one, other)| one.1 != other.1 || !one.1.starts_with(b"{")));
    let traceparent = |seed| Community::new(&spec(2, 1, 1, seed)).traceparent().to_owned();
    assert_eq!(traceparent(1), traceparent(1));
    assert_ne!(traceparent(1), traceparent(2));
}

#[test]
fn communities_that_differ_in_any_option_share_no_event() {
    let first = spec(50, 40, 3_000, 1);
    let others = [
        CommunitySpec { users: 51, ..first.clone() },
        CommunitySpec { conversations: 41, ..first.clone() },
        CommunitySpec { messages: 3_001, ..first.clone() },
        CommunitySpec { seed: 2, ..first.clone() },
        CommunitySpec { until: "2026-11-01T00:00:00.001Z".parse().unwrap(), ..first.clone() },
    ];
    let ids: HashSet<_> = originals(&first).map(|event| event.event_id).collect();
    for other in others {
        let shared = originals(&other).find(|event| ids.contains(&event.event_id));
        assert_eq!(shared, None, "{other:?}");
    }
}

/// How many of the events of a community are what.
#[derive(Debug, Default)]
struct Shares {
    kinds: BTreeMap<&'static str, usize>,
    keyed: usize,
    in_the_busiest: usize,
    mentioning: usize,
    replies: usize,
    with_attachments: usize,
}

impl Shares {
    fn of(spec: &CommunitySpec) -> Self {
        let mut shares = Self::default();
        let mut busiest = None;
        for event in originals(spec) {
            *shares.kinds.entry(event.data.type_name()).or_default() += 1;
            shares.keyed += usize::from(event.request.is_some());
            if let EventData::MessageSent(sent) = &event.data {
                shares.in_the_busiest +=
                    usize::from(event.conversation_id == *busiest.get_or_insert(event.conversation_id));
                shares.mentioning += usize::from(!sent.mentions.is_empty());
                shares.replies += usize::from(sent.reply_to_id.is_some());
                shares.with_attachments += usize::from(!sent.attachments.is_empty());
            }
        }
        shares
    }

    fn count(&self, kinds: &[&str]) -> usize {
        kinds.iter().map(|kind| self.kinds.get(kind).copied().unwrap_or_default()).sum()
    }
}

fn assert_within_a_per_cent(what: &str, count: usize, of: usize, percent: f64) {
    let found = 100.0 * count as f64 / of as f64;
    assert!((found - percent).abs() <= 1.0, "{what}: {found:.2} % of {of}, not {percent} %");
}

const CHANGES: [&str; 4] = ["MESSAGE_EDITED", "MESSAGE_DELETED", "REACTION_ADDED", "REACTION_REMOVED"];

#[test]
fn the_shares_of_a_community_are_what_is_documented() {
    let spec = town();
    let shares = Shares::of(&spec);
    let (messages, marks) = (shares.count(&["MESSAGE_SENT"]), shares.count(&["MESSAGES_READ"]));
    let changes = shares.count(&CHANGES);
    assert_eq!(messages, spec.messages);
    assert_eq!(shares.count(&["CONVERSATION_CREATED"]), spec.conversations);
    assert_eq!(spec.commands(), spec.conversations + messages + marks + changes, "a command was refused");

    let about_messages = messages + marks + changes;
    assert_within_a_per_cent("messages", messages, about_messages, 60.0);
    assert_within_a_per_cent("read marks", marks, about_messages, 30.0);
    assert_within_a_per_cent("edits, deletions and reactions", changes, about_messages, 10.0);
    assert_within_a_per_cent("keyed commands", shares.keyed, spec.commands(), 50.0);
    assert_within_a_per_cent("messages in the busiest conversation", shares.in_the_busiest, messages, 10.0);
    assert_within_a_per_cent("messages with mentions", shares.mentioning, messages, 8.0);
    assert_within_a_per_cent("replies", shares.replies, messages, 15.0);
    assert_within_a_per_cent("messages with attachments", shares.with_attachments, messages, 5.0);
    for kind in CHANGES {
        assert!(shares.count(&[kind]) * 50 > changes, "few {kind}: {shares:?}");
    }
}

#[test]
fn every_part_scales_with_its_size() {
    let (small, large) = (Shares::of(&spec(100, 50, 5_000, 7)), Shares::of(&spec(100, 50, 50_000, 7)));
    for (kind, count) in &small.kinds {
        let factor = large.kinds[kind] as f64 / *count as f64;
        let expected = if *kind == "CONVERSATION_CREATED" { 1.0..=1.0 } else { 5.0..=20.0 };
        assert!(expected.contains(&factor), "{kind}: {factor} times as many");
    }
}

/// Folds records as the projector does, and counts the originals without effect by type. Panics at an event without
/// effect that isn't a copy, a notification or a read mark.
#[derive(Default)]
struct Fold {
    state: State,
    next_offset: i64,
    undecodable: usize,
    copies: usize,
    idle_marks: usize,
}

impl Fold {
    fn add(&mut self, record: &Record) {
        let (_, value) = bytes(record);
        let event = match (decode(&value), record) {
            (Ok(event), Record::Event(original)) => {
                assert_eq!(event, *original);
                event
            }
            (Err(_), Record::Undecodable(_)) => {
                self.undecodable += 1;
                return;
            }
            (decoded, record) => panic!("{record:?} decodes to {decoded:?}"),
        };
        let is_copy = self.state.applied.contains(&(event.conversation_id, event.event_id));
        let mut changes = Changes::default();
        fold(&mut self.state, &mut changes, &event, Position { partition: 0, offset: self.next_offset });
        self.next_offset += 1;
        let has_effect = changes.conversations.contains(&event.conversation_id);
        match &event.data {
            _ if is_copy => {
                assert_eq!(changes, Changes::default(), "a copy has an effect: {event:?}");
                self.copies += 1;
            }
            EventData::MentionNotification { .. } => assert!(!has_effect),
            EventData::MessagesRead { .. } => self.idle_marks += usize::from(!has_effect),
            _ => assert!(has_effect, "no effect: {event:?}"),
        }
    }

    fn of(spec: &CommunitySpec) -> Self {
        let mut folded = Self::default();
        Community::new(spec).for_each(|record| folded.add(&record));
        folded
    }
}

#[test]
fn every_event_decodes_and_has_an_effect_unless_it_is_of_a_documented_kind() {
    let spec = spec(300, 200, 20_000, 3);
    let folded = Fold::of(&spec);
    assert_eq!(folded.undecodable, 3);
    let records = Community::new(&spec).count();
    assert!((records / 400..=records / 150).contains(&folded.copies), "{} copies of {records}", folded.copies);
    assert!(folded.idle_marks * 10 < spec.messages / 2, "{} read marks move nothing", folded.idle_marks);
    let numbers: usize = folded.state.conversations.values().map(|conversation| conversation.last_seq as usize).sum();
    assert_eq!(numbers, spec.messages, "every message has its number");
}

#[test]
fn appending_a_community_again_changes_nothing() {
    let spec = spec(20, 10, 500, 5);
    let mut folded = Fold::of(&spec);
    let once = folded.state.clone();
    Community::new(&spec).for_each(|record| folded.add(&record));
    assert!(folded.state == once);
}

#[test]
fn what_happens_in_a_conversation_has_rising_times_within_a_year() {
    let spec = spec(100, 50, 10_000, 2);
    let until = spec.until.as_millis();
    let mut last: HashMap<_, Timestamp> = HashMap::new();
    let (mut first_ms, mut last_ms) = (i64::MAX, i64::MIN);
    for event in originals(&spec) {
        let before = last.insert(event.conversation_id, event.occurred_at);
        assert!(before.is_none_or(|before| before <= event.occurred_at), "{event:?} before {before:?}");
        (first_ms, last_ms) = (first_ms.min(event.occurred_at.as_millis()), last_ms.max(event.occurred_at.as_millis()));
    }
    let (day_ms, year_ms) = (86_400_000, 365 * 86_400_000);
    assert!((until - year_ms..until - year_ms + day_ms).contains(&first_ms), "{first_ms}");
    assert!((until - day_ms..until).contains(&last_ms), "{last_ms}");
}

#[test]
fn groups_have_2_to_1000_people_and_a_pair_has_one_direct_conversation() {
    let mut sizes = BTreeSet::new();
    let (mut pairs, mut titles, mut busiest) = (HashSet::new(), HashSet::new(), None);
    for event in originals(&spec(1_500, 3_000, 1, 4)) {
        let EventData::ConversationCreated { kind, title, participant_ids } = event.data else { continue };
        busiest.get_or_insert(participant_ids.len());
        let people: BTreeSet<_> = participant_ids.iter().cloned().collect();
        assert_eq!(people.len(), participant_ids.len(), "somebody is in {participant_ids:?} twice");
        titles.extend(title);
        match kind {
            ConversationKind::Group => drop(sizes.insert(people.len())),
            ConversationKind::Direct => {
                assert!(people.len() == 2 && pairs.insert(people), "{participant_ids:?}");
            }
        }
    }
    assert_eq!((sizes.first(), sizes.last(), busiest), (Some(&2), Some(&1_000), Some(1_000)));
    assert!(pairs.len() > 1_000 && titles.len() > 100 && sizes.len() > 50, "{sizes:?}");
}

#[test]
fn the_notifications_of_a_message_follow_it() {
    let mut expected = Vec::new();
    for event in originals(&spec(100, 50, 5_000, 6)) {
        if let EventData::MentionNotification { message_id, user_id } = &event.data {
            assert_eq!(expected.pop(), Some((*message_id, user_id.clone())));
            continue;
        }
        assert!(expected.is_empty(), "no notifications: {expected:?}");
        if let EventData::MessageSent(sent) = &event.data {
            expected.extend(sent.mentions.iter().rev().map(|user| (sent.message_id, user.clone())));
            assert!(sent.mentions.iter().all(|user| *user != event.actor_id), "{sent:?}");
        }
    }
}

#[test]
fn people_write_in_several_scripts_and_with_emoji() {
    let mut text = String::new();
    for event in originals(&spec(100, 50, 5_000, 8)) {
        if let EventData::MessageSent(sent) = event.data {
            text.push_str(&sent.content);
        }
    }
    for sample in ['a', 'ü', 'Д', 'λ', '了', 'す', '점', 'ठ', 'ص', 'ט', '🎉', '\u{200d}', '\n', '@'] {
        assert!(text.contains(sample), "nobody writes {sample}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_community_of_any_size_has_what_was_asked_for(
        users in 2_usize..80,
        conversations in 1_usize..60,
        messages in 1_usize..400,
        seed: u64,
    ) {
        let spec = spec(users, conversations, messages, seed);
        let folded = Fold::of(&spec);
        prop_assert_eq!(folded.undecodable, 3);
        prop_assert_eq!(folded.state.conversations.len(), conversations);
        prop_assert_eq!(folded.state.messages.len(), messages);
        let commands = originals(&spec).filter(|event| !matches!(event.data, EventData::MentionNotification { .. }));
        prop_assert_eq!(commands.count(), spec.commands());
        let people = folded.state.members.keys().map(|(_, user)| user).collect::<HashSet<_>>();
        prop_assert!(people.len() <= users);
    }
}
