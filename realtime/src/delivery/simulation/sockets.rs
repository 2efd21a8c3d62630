//! The sockets of a simulation: each joins as `session::connect` says, step by step, and checks what it gets.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use domain::{ConversationId, EventId, Position, PositionVector, UserId};
use serde_json::json;
use uuid::Uuid;

use super::bugs::{Bug, Violation};
use super::log::{Log, PARTITIONS};
use crate::delivery::events::Frame;
use crate::delivery::recipients::tail_frames_of;
use crate::delivery::relayed_record::RelayedRecord;
use crate::delivery::tail::{FollowedTail, MembershipDemand, RelayTail, TailPart, TailReader};
use crate::delivery::tail_delivery::created_with;
use crate::rooms::{EventRef, FrameSequence, Membership, Rooms};

/// A socket, from its connection to its end.
pub(super) struct Socket {
    /// The socket's number, by which rooms know it.
    number: usize,
    session: Uuid,
    pub(super) user: UserId,
    pub(super) stage: Stage,
    /// The offsets of the token in `connection:ready`.
    pub(super) start: Option<PositionVector>,
    received: HashSet<(EventId, &'static str)>,
    /// The positions of the frames to whole rooms.
    positions: HashSet<Position>,
    last_positions: HashMap<ConversationId, Position>,
}

/// What a socket does next.
pub(super) enum Stage {
    Enter,
    Follow {
        is_in_all_rooms: bool,
    },
    Demand,
    LookUp(MembershipDemand),
    FollowAfter {
        demand: MembershipDemand,
        list: Vec<Membership>,
        includes: PositionVector,
    },
    Join {
        followed: FollowedTail,
        list: Vec<Membership>,
    },
    ReadTail {
        reader: TailReader,
        records: VecDeque<Arc<RelayedRecord>>,
    },
    /// With a planted bug: it goes live a step after it has reached the tail's end.
    GoLive,
    Live,
    Ended,
}

impl Stage {
    /// What the socket does, for a report.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Enter => "comes",
            Self::Follow { .. } => "enters",
            Self::Demand => "demands memberships",
            Self::LookUp(_) => "looks up its memberships",
            Self::FollowAfter { .. } => "has its memberships",
            Self::Join { .. } => "joins",
            Self::ReadTail { .. } => "reads the tail",
            Self::GoLive => "goes live late",
            Self::Live => "is live",
            Self::Ended => "falls behind the tail",
        }
    }
}

/// What a step works with.
pub(super) struct Surroundings<'a> {
    pub(super) log: &'a Log,
    pub(super) rooms: &'a Rooms<usize>,
    pub(super) tail: &'a Arc<RelayTail>,
    /// What a look-up of memberships includes now.
    pub(super) includes: &'a PositionVector,
    pub(super) bug: Option<Bug>,
}

impl Surroundings<'_> {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

impl Socket {
    pub(super) fn new(number: usize, user: UserId) -> Self {
        Self {
            number,
            session: Uuid::from_u128(number as u128),
            user,
            stage: Stage::Enter,
            start: None,
            received: HashSet::new(),
            positions: HashSet::new(),
            last_positions: HashMap::new(),
        }
    }

    /// Does the next step.
    pub(super) fn step(&mut self, around: &Surroundings<'_>) -> Result<(), Violation> {
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        self.stage = match stage {
            Stage::Enter if around.has(Bug::EntersLate) => Stage::Follow { is_in_all_rooms: false },
            Stage::Enter => {
                let is_in_all_rooms = around.rooms.enter(&self.user, self.session, &self.number);
                Stage::Follow { is_in_all_rooms }
            }
            Stage::Follow { is_in_all_rooms } => {
                match Some(around.tail).filter(|_| is_in_all_rooms).and_then(|tail| tail.follow(self.session)) {
                    Some(reader) => self.ready(reader, around),
                    None => Stage::Demand,
                }
            }
            Stage::Demand => Stage::LookUp(around.tail.membership_demand()),
            Stage::LookUp(demand) if around.includes.covers(&demand.at_least) => Stage::FollowAfter {
                demand,
                list: around.log.memberships(&self.user, around.includes),
                includes: around.includes.clone(),
            },
            Stage::LookUp(_) => Stage::Demand,
            Stage::FollowAfter { demand, list, includes } => {
                match around.tail.follow_after(self.session, &demand, &includes) {
                    Some(followed) => Stage::Join { followed, list },
                    None => Stage::Demand,
                }
            }
            Stage::Join { followed, list } => self.join(followed, list, around),
            Stage::ReadTail { reader, records } => return self.read_tail(reader, records, around),
            Stage::GoLive => {
                around.rooms.go_live(&self.user, self.session, around.tail.relayed());
                Stage::Live
            }
            stage @ (Stage::Live | Stage::Ended) => stage,
        };
        Ok(())
    }

    fn join(&mut self, followed: FollowedTail, list: Vec<Membership>, around: &Surroundings<'_>) -> Stage {
        if around.has(Bug::EntersLate) {
            around.rooms.enter(&self.user, self.session, &self.number);
        }
        let created = |record: &Arc<RelayedRecord>| created_with(record.event(PARTITIONS).as_ref().ok()?, &self.user);
        let mut created: Vec<Membership> = followed.creations.iter().filter_map(created).collect();
        if around.has(Bug::IgnoresCreations) {
            created.clear();
        }
        around.rooms.join_all(&self.user, self.session, &[list, created].concat());
        self.ready(followed.reader, around)
    }

    /// Sends `connection:ready`.
    fn ready(&mut self, reader: TailReader, around: &Surroundings<'_>) -> Stage {
        let is_early = around.has(Bug::PromisesTooMuch);
        self.start = Some(if is_early { around.includes.clone() } else { reader.start().clone() });
        if around.has(Bug::SkipsTail) {
            return Stage::GoLive;
        }
        if around.has(Bug::GoesLiveTooEarly) {
            around.rooms.go_live(&self.user, self.session, reader.start().clone());
        }
        Stage::ReadTail { reader, records: VecDeque::new() }
    }

    fn read_tail(
        &mut self,
        reader: TailReader,
        mut records: VecDeque<Arc<RelayedRecord>>,
        around: &Surroundings<'_>,
    ) -> Result<(), Violation> {
        if let Some(record) = records.pop_front() {
            for (Frame { name, .. }, sequence) in tail_frames_of(around.rooms, &record, &self.user, PARTITIONS) {
                let event = record.event(PARTITIONS).as_ref().map_err(|error| format!("{error}"))?;
                let event_ref = EventRef::of(event, record.position());
                self.receive(name, event_ref, sequence.as_ref(), around.log)?;
            }
            self.stage = Stage::ReadTail { reader, records };
            return Ok(());
        }
        let go_live = |from| {
            if !around.has(Bug::GoesLiveLate) {
                around.rooms.go_live(&self.user, self.session, from);
            }
        };
        self.stage = match reader.read(go_live) {
            TailPart::Records(records) => Stage::ReadTail { reader, records: records.into() },
            TailPart::End if around.has(Bug::GoesLiveLate) => Stage::GoLive,
            TailPart::End => Stage::Live,
            TailPart::Lost => {
                around.rooms.leave(&self.user, self.session);
                Stage::Ended
            }
        };
        Ok(())
    }

    /// Ends the socket.
    pub(super) fn leave(&mut self, rooms: &Rooms<usize>) {
        rooms.leave(&self.user, self.session);
        self.stage = Stage::Ended;
    }

    /// Receives a frame, and checks that its client wants it now.
    pub(super) fn receive(
        &mut self,
        name: &'static str,
        event: EventRef,
        sequence: Option<&FrameSequence>,
        log: &Log,
    ) -> Result<(), Violation> {
        let EventRef { conversation, position, event_id } = event;
        let wrong = |what: &str| Err(format!("socket {} of {} {what}: {name} {position}", self.number, self.user));
        if !log.is_participant(conversation, &self.user) {
            return wrong("gets a frame of somebody else's conversation");
        }
        if !self.received.insert((event_id, name)) {
            return wrong("gets a frame twice");
        }
        if name.starts_with("typing:") {
            return Ok(());
        }
        let Some(start) = &self.start else { return wrong("gets a frame before it is ready") };
        if start.includes(position) {
            return wrong("gets a frame that its token includes");
        }
        let Some(sequence) = sequence else { return Ok(()) };
        if self.last_positions.insert(conversation, position).is_some_and(|last| last.offset >= position.offset) {
            return wrong("gets a frame after a later one");
        }
        let previous: Option<Position> = serde_json::from_value(json!(sequence)["previous"].clone()).unwrap();
        if previous.is_some_and(|previous| !start.includes(previous) && !self.positions.contains(&previous)) {
            return wrong("sees a gap that isn't there");
        }
        self.positions.insert(position);
        Ok(())
    }

    /// Checks that the socket has got everything after its token.
    pub(super) fn check_complete(&self, log: &Log) -> Result<(), Violation> {
        let Some(start) = &self.start else { return Err(format!("socket {} never becomes ready", self.number)) };
        let mut expected = log.expected_frames(&self.user, start).into_iter();
        match expected.find(|frame| !self.received.contains(frame)) {
            Some(frame) => Err(format!("socket {} of {} misses {frame:?} after {:?}", self.number, self.user, start.0)),
            None => Ok(()),
        }
    }
}
