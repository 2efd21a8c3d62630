//! Passes records: remembers each in the tail, and decides whether the relay delivers it.
//!
//! A socket that follows the tail may get a record the moment the tail has it. So the room of a new conversation must be
//! open by then: otherwise the socket would skip the frames of the creation, and the relay doesn't deliver them to it.

use std::sync::Arc;

use domain::event::EventData;
use domain::{ConversationId, Event, Position, PositionVector, UserId};
use event_log::LogRecord;
use service::clock;

use super::dedup::RecentEventIds;
use super::relayed_record::RelayedRecord;
use super::tail::RelayTail;
use crate::rooms::Rooms;

/// What the relay remembers of the records that it has read.
pub(super) struct Passage<S> {
    rooms: Arc<Rooms<S>>,
    tail: Option<Arc<RelayTail>>,
    /// The relay delivers records from these offsets on; all records where there is no tail.
    begin: Option<PositionVector>,
    recent: RecentEventIds,
    partitions: usize,
}

impl<S: Clone> Passage<S> {
    /// A relay that has read nothing yet, on a topic with this number of partitions.
    pub(super) fn new(rooms: Arc<Rooms<S>>, tail: Option<Arc<RelayTail>>, partitions: usize) -> Self {
        let begin = tail.as_ref().map(|tail| tail.relayed());
        Self { rooms, tail, begin, recent: RecentEventIds::new(clock::now().as_millis()), partitions }
    }

    /// Passes the next record, and opens the room of a conversation that it creates. Returns the record if the relay
    /// delivers it.
    pub(super) fn pass(&mut self, record: LogRecord) -> Option<Arc<RelayedRecord>> {
        let record = Arc::new(RelayedRecord::new(record));
        // A user may come between an event and its copy, so the relay remembers every event.
        self.note_published();
        let is_copy = record
            .event_id(self.partitions)
            .is_some_and(|id| !self.recent.insert(record.position(), record.timestamp_ms(), id));
        let is_before_begin = self.begin.as_ref().is_some_and(|begin| begin.includes(record.position()));
        let is_delivered = !is_copy && !is_before_begin;
        let created = if is_delivered { created_by(&record, self.partitions) } else { None };
        let open = || {
            if let Some((conversation, participants)) = created {
                self.rooms.open(conversation, participants);
            }
        };
        match &self.tail {
            Some(tail) => tail.pass(&record, is_copy, open),
            None => open(),
        }
        is_delivered.then_some(record)
    }

    /// Lets the memory forget what can't be repeated.
    fn note_published(&mut self) {
        let now_ms = clock::now().as_millis();
        if self.recent.wants_note(now_ms) {
            // Without a tail, these are events of typing, which the projector ignores and nobody appends again.
            let published = self.tail.as_ref().map_or_else(|| self.recent.passed(), |tail| tail.projected());
            self.recent.note(now_ms, published);
        }
    }

    /// Whether a passed event may be a copy that the relay doesn't recognize. Only the projector can know. If so, sockets
    /// that come from now on wait for the projector, too.
    pub(super) fn is_doubtful(&self, event: &Event, position: Position) -> bool {
        let is_doubtful = self.recent.may_have_forgotten(event, position.partition);
        if is_doubtful && let Some(tail) = &self.tail {
            tail.forget_up_to(position);
        }
        is_doubtful
    }
}

/// The conversation that a record creates, with its participants.
fn created_by(record: &RelayedRecord, partitions: usize) -> Option<(ConversationId, &[UserId])> {
    // Most records don't have to be decoded, because nobody here is in their conversation.
    let event = Some(record).filter(|record| record.may_create_conversation())?.event(partitions).as_ref().ok()?;
    match &event.data {
        EventData::ConversationCreated { participant_ids, .. } => Some((event.conversation_id, participant_ids)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use domain::envelope;
    use domain::testing::World;
    use event_log::partition_of;
    use uuid::Uuid;

    use super::*;
    use crate::delivery::recipients::tail_frames_of;
    use crate::delivery::tail::TailPart;

    /// The record of a new conversation, on a topic with one partition.
    fn creation() -> (LogRecord, UserId) {
        let mut world = World::new(16);
        let is_creation = |event: &domain::Event| matches!(event.data, EventData::ConversationCreated { .. });
        while !world.log.iter().any(is_creation) {
            world.step();
        }
        let event = world.log.into_iter().find(is_creation).unwrap();
        let record = LogRecord {
            position: Position { partition: partition_of(event.conversation_id, 1), offset: 0 },
            timestamp_ms: 0,
            key: event.conversation_id.to_string().into_bytes(),
            event_id: Some(event.event_id),
            event_type: Some(event.data.type_name().to_owned()),
            traceparent: None,
            value: envelope::encode(&event),
        };
        (record, event.actor_id)
    }

    #[test]
    fn a_socket_that_follows_the_tail_gets_a_creation_before_the_relay_delivers_it() {
        let (rooms, session) = (Arc::new(Rooms::<usize>::default()), Uuid::nil());
        let tail = RelayTail::new(&PositionVector::zero(1), &PositionVector::zero(1));
        let (record, user) = creation();
        rooms.enter(&user, session, &0);
        let reader = tail.follow(session).unwrap();
        Passage::new(rooms.clone(), Some(tail), 1).pass(record).unwrap();

        let TailPart::Records(records) = reader.read(|_| ()) else { panic!("the tail has the record") };
        let frames = tail_frames_of(&rooms, &records[0], &user, 1);
        assert_eq!(frames.iter().map(|(frame, _)| frame.name).collect::<Vec<_>>(), ["conversation:created"]);
    }
}
