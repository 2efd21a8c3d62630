//! The log of a simulation: decided events, some of them several times; and what each user must get of it.

use std::collections::{BTreeSet, HashMap, HashSet};

use domain::decide::{decide, notifications};
use domain::event::{Event, EventData};
use domain::testing::{Rng, World, facts};
use domain::{ConversationId, EventId, Position, PositionVector, UserId, envelope};
use event_log::{LogRecord, partition_of};

use crate::rooms::Membership;

pub(super) const PARTITIONS: usize = 3;

/// The records, and what they mean.
pub(super) struct Log {
    pub(super) partitions: [Vec<LogRecord>; PARTITIONS],
    /// The first record of each event.
    pub(super) events: Vec<(Event, Position)>,
    participants: HashMap<ConversationId, (BTreeSet<UserId>, Position)>,
    known: HashSet<EventId>,
    world: World,
}

impl Log {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self {
            partitions: Default::default(),
            events: Vec::new(),
            participants: HashMap::new(),
            known: HashSet::new(),
            world: World::new(rng.bits()),
        }
    }

    /// The next offset of every partition.
    pub(super) fn end(&self) -> PositionVector {
        PositionVector(self.partitions.iter().map(|records| i64::try_from(records.len()).unwrap()).collect())
    }

    /// Appends what the next command decides, or a copy of an earlier record.
    pub(super) fn grow(&mut self, rng: &mut Rng) {
        if let Some((copied, _)) = rng.pick(&self.events).filter(|_| rng.percent(15)) {
            return self.append(&copied, rng);
        }
        let (context, command) = self.world.random_command();
        let Ok(event) = decide(&context, &command, &facts(&self.world.state, &context.actor, &command)) else { return };
        self.world.append(event.clone());
        for event in std::iter::once(&event).chain(&notifications(&event)) {
            self.append(event, rng);
        }
    }

    fn append(&mut self, event: &Event, rng: &mut Rng) {
        let partition = partition_of(event.conversation_id, PARTITIONS);
        let records = &mut self.partitions[usize::try_from(partition).unwrap()];
        let position = Position { partition, offset: i64::try_from(records.len()).unwrap() };
        records.push(LogRecord {
            position,
            timestamp_ms: event.occurred_at.as_millis(),
            key: event.conversation_id.to_string().into_bytes(),
            event_id: Some(event.event_id).filter(|_| !rng.percent(10)),
            event_type: Some(event.data.type_name().to_owned()).filter(|_| !rng.percent(10)),
            traceparent: None,
            value: envelope::encode(event),
        });
        if self.known.insert(event.event_id) {
            if let EventData::ConversationCreated { participant_ids, .. } = &event.data {
                let participants = participant_ids.iter().cloned().collect();
                self.participants.entry(event.conversation_id).or_insert((participants, position));
            }
            self.events.push((event.clone(), position));
        }
    }

    /// Everybody who is in a conversation.
    pub(super) fn users(&self) -> Vec<UserId> {
        let users: BTreeSet<&UserId> = self.participants.values().flat_map(|(users, _)| users).collect();
        users.into_iter().cloned().collect()
    }

    pub(super) fn is_participant(&self, conversation: ConversationId, user: &UserId) -> bool {
        self.participants.get(&conversation).is_some_and(|(users, _)| users.contains(user))
    }

    /// What a read model that includes these offsets lists for a user.
    pub(super) fn memberships(&self, user: &UserId, includes: &PositionVector) -> Vec<Membership> {
        let mine = self
            .participants
            .iter()
            .filter(|(_, (users, created))| users.contains(user) && includes.includes(*created));
        let membership = |(id, (users, _)): (&ConversationId, &(BTreeSet<UserId>, Position))| Membership {
            conversation_id: *id,
            participant_count: i64::try_from(users.len()).unwrap(),
        };
        mine.map(membership).collect()
    }

    /// The frames that a user must get for the events after these offsets: the event's id and the frame's name.
    pub(super) fn expected_frames(&self, user: &UserId, after: &PositionVector) -> Vec<(EventId, &'static str)> {
        let mut expected = Vec::new();
        for (event, position) in &self.events {
            if after.includes(*position) || !self.is_participant(event.conversation_id, user) {
                continue;
            }
            let name = match &event.data {
                EventData::ConversationCreated { .. } => "conversation:created",
                EventData::MessageSent(sent) => {
                    if sent.mentions.contains(user) && event.actor_id != *user {
                        expected.push((event.event_id, "mention:new"));
                    }
                    "message:new"
                }
                EventData::MessageEdited { .. } => "message:edited",
                EventData::MessageDeleted { .. } => "message:deleted",
                EventData::ReactionAdded { .. } => "reaction:added",
                EventData::ReactionRemoved { .. } => "reaction:removed",
                EventData::MessagesRead { .. } => "messages:read",
                EventData::TypingStart {} | EventData::TypingStop {} | EventData::MentionNotification { .. } => {
                    continue;
                }
            };
            expected.push((event.event_id, name));
        }
        expected
    }
}
