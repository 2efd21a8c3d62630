//! The recipients of frames: the sockets of this node to which the relay delivers each frame of an event.

use domain::{Event, UserId};

use super::events::{Audience, Frame, frames_of};
use super::relayed_record::RelayedRecord;
use crate::rooms::{EventRef, FrameSequence, Rooms};

/// A frame with its recipients.
pub(super) struct Delivery<S> {
    pub(super) frame: Frame,
    pub(super) sockets: Vec<S>,
    /// The second argument of a frame to a whole room.
    pub(super) sequence: Option<FrameSequence>,
}

/// The recipients of a frame; none if its room isn't open. Only the relay may call this for a frame to a whole room: see
/// [`Rooms::next_frame`].
pub(super) fn delivery_of<S: Clone>(rooms: &Rooms<S>, event: EventRef, frame: Frame) -> Option<Delivery<S>> {
    let (sockets, sequence) = match &frame.audience {
        Audience::Room => {
            let room = rooms.next_frame(event)?;
            (room.sockets, Some(room.sequence))
        }
        Audience::RoomExcept(user) => (rooms.room_except(event.conversation, user), None),
        Audience::Member(user) => (rooms.member(event, user), None),
    };
    Some(Delivery { frame, sockets, sequence })
}

/// The frames of an event, each with its recipients; none if nobody here is in the conversation.
pub(super) fn deliveries_of<S: Clone>(
    rooms: &Rooms<S>,
    event: &Event,
    event_ref: EventRef,
) -> Option<impl Iterator<Item = Delivery<S>>> {
    let participants = rooms.participant_count(event.conversation_id)?;
    let frames = frames_of(event, event_ref.position, participants);
    Some(frames.into_iter().filter_map(move |frame| delivery_of(rooms, event_ref, frame)))
}

/// The frames of a record that a user's socket gets from the tail, on a topic with this number of partitions.
pub(super) fn tail_frames_of<S: Clone>(
    rooms: &Rooms<S>,
    record: &RelayedRecord,
    user: &UserId,
    partitions: usize,
) -> Vec<(Frame, Option<FrameSequence>)> {
    let participants_of = |conversation| rooms.participants_if_member(conversation, user);
    if !record.may_concern(|conversation| participants_of(conversation).is_some()) {
        return Vec::new();
    }
    let Ok(event) = record.event(partitions) else { return Vec::new() };
    let Some(participants) = participants_of(event.conversation_id) else { return Vec::new() };
    let event_ref = EventRef::of(event, record.position());
    let received = |frame: Frame| match &frame.audience {
        // A socket gets all frames of the tail in their order, so there is no gap before any of them.
        Audience::Room => Some((frame, Some(FrameSequence::without_previous(event_ref)))),
        Audience::Member(member) if member == user => Some((frame, None)),
        Audience::Member(_) | Audience::RoomExcept(_) => None,
    };
    frames_of(event, record.position(), participants).into_iter().filter_map(received).collect()
}
