//! The rooms of this node: which users have sockets here, and which conversations those users are in.
//!
//! A room belongs to a conversation and lists users, not sockets. A user stays in their rooms for a few seconds after
//! their last socket ends, so a user who comes back in time needs no new memberships. Rooms must never list a user who
//! isn't a participant, and must never miss one whose [`Rooms::enter`] returned true.
//!
//! Realtime keeps rooms itself, and doesn't use those of the Socket.IO library: when a frame doesn't fit into a
//! socket's queue, the node must know which socket it was.

mod memberships;

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cache::NodeCounts;
use domain::repair::RepairScope;
use domain::{ConversationId, Event, EventId, Position, PositionVector, UserId};
use schemars::JsonSchema;
use serde::Serialize;
use socketioxide::extract::SocketRef;
use uuid::Uuid;

pub(crate) use memberships::{Membership, MembershipLookup, UserMemberships};

/// Presence and read marks are sent only in conversations of up to this many participants. Unrelated to
/// `domain::limits::SMALL_CONVERSATION_MAX`, which is about the order of conversation lists.
pub(crate) const PRESENCE_PARTICIPANTS_MAX: i64 = 50;

/// A conversation with a participant who is in the rooms of this node.
#[derive(Debug)]
struct Room {
    participant_count: i64,
    /// The position of the last frame to the whole room since the room was opened on this node.
    last_position: Option<Position>,
    users: HashSet<UserId>,
}

/// A socket of a user who is in the rooms of this node.
struct LocalSocket<S> {
    socket: S,
    /// The offsets from which on the relay delivers to the socket. None while the socket gets its frames from the tail.
    live_from: Option<PositionVector>,
}

impl<S> LocalSocket<S> {
    /// Whether the relay delivers the event at this position to the socket.
    fn is_live_at(&self, position: Position) -> bool {
        self.live_from.as_ref().is_some_and(|from| !from.includes(position))
    }
}

/// A user who is in the rooms of this node.
struct LocalUser<S> {
    /// The user's sockets, by the ids of their sessions.
    sockets: HashMap<Uuid, LocalSocket<S>>,
    conversations: HashSet<ConversationId>,
    /// Whether the user is in the rooms of all their conversations.
    complete: bool,
}

impl<S> Default for LocalUser<S> {
    fn default() -> Self {
        Self { sockets: HashMap::new(), conversations: HashSet::new(), complete: false }
    }
}

struct RoomTable<S> {
    rooms: HashMap<ConversationId, Room>,
    users: HashMap<UserId, LocalUser<S>>,
    /// How many sockets all of them have.
    socket_count: usize,
}

impl<S: Clone> RoomTable<S> {
    fn sockets(&self, user: &UserId) -> impl Iterator<Item = S> {
        self.users.get(user).into_iter().flat_map(|user| user.sockets.values().map(|local| local.socket.clone()))
    }

    /// The sockets of a user to which the relay delivers the event at this position.
    fn live_sockets(&self, user: &UserId, position: Position) -> impl Iterator<Item = S> {
        let sockets = self.users.get(user).into_iter().flat_map(|user| user.sockets.values());
        sockets.filter(move |local| local.is_live_at(position)).map(|local| local.socket.clone())
    }

    /// Puts a user into a room, and opens the room if need be. Does nothing if the user isn't on this node.
    fn join(&mut self, user: &UserId, conversation: ConversationId, participant_count: i64) {
        let Some(local_user) = self.users.get_mut(user) else { return };
        local_user.conversations.insert(conversation);
        let room = self.rooms.entry(conversation).or_insert_with(|| Room {
            participant_count,
            last_position: None,
            users: HashSet::new(),
        });
        room.users.insert(user.clone());
    }

    /// Takes a user out of a room, and closes the room if nobody is left in it.
    fn leave_room(&mut self, user: &UserId, conversation: ConversationId) {
        if let Some(room) = self.rooms.get_mut(&conversation) {
            room.users.remove(user);
            if room.users.is_empty() {
                self.rooms.remove(&conversation);
            }
        }
    }

    fn report_room_count(&self) {
        metrics::gauge!("realtime_rooms").set(self.rooms.len() as f64);
    }
}

/// The rooms of this node, whose sockets have handles of the type `S`: only a simulation has other ones than Socket.IO's.
pub(crate) struct Rooms<S = SocketRef>(Mutex<RoomTable<S>>);

impl<S> Default for Rooms<S> {
    fn default() -> Self {
        Self(Mutex::new(RoomTable { rooms: HashMap::new(), users: HashMap::new(), socket_count: 0 }))
    }
}

/// The event behind a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventRef {
    /// The conversation that the event belongs to.
    pub(crate) conversation: ConversationId,
    /// Where the event is on the log.
    pub(crate) position: Position,
    /// The event's id, the same in each copy of its record.
    pub(crate) event_id: EventId,
}

impl EventRef {
    /// The event at this position.
    pub(crate) fn of(event: &Event, position: Position) -> Self {
        Self { conversation: event.conversation_id, position, event_id: event.event_id }
    }
}

/// The second argument of an event to a whole conversation, from which a client learns whether it missed one.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FrameSequence {
    /// Where the event is on the log.
    position: Position,
    /// The position of the event before, to the same conversation. Null for the first since the node began to follow
    /// the conversation.
    previous: Option<Position>,
    /// The event's id, the same in each copy of its record.
    event_id: EventId,
}

impl FrameSequence {
    /// The sequence of a frame before which the socket can't have missed one.
    pub(crate) fn without_previous(event: EventRef) -> Self {
        Self { position: event.position, previous: None, event_id: event.event_id }
    }
}

/// The recipients of a frame to a whole room, with the frame's second argument.
pub(crate) struct RoomFrame<S> {
    pub(crate) sockets: Vec<S>,
    pub(crate) sequence: FrameSequence,
}

impl<S: Clone> Rooms<S> {
    fn lock(&self) -> MutexGuard<'_, RoomTable<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a user's socket. From now on the user joins the rooms of conversations as they are created. The relay doesn't
    /// deliver to the socket before [`Self::go_live`]. Returns whether the user is in all other rooms already.
    pub(crate) fn enter(&self, user: &UserId, session: Uuid, socket: &S) -> bool {
        let mut table = self.lock();
        let local_user = table.users.entry(user.clone()).or_default();
        let local_socket = LocalSocket { socket: socket.clone(), live_from: None };
        let is_new = local_user.sockets.insert(session, local_socket).is_none();
        let complete = local_user.complete;
        if is_new {
            table.socket_count += 1;
            metrics::gauge!("realtime_sockets").increment(1);
        }
        complete
    }

    /// Makes the relay deliver to a socket from these offsets on.
    pub(crate) fn go_live(&self, user: &UserId, session: Uuid, from: PositionVector) {
        let mut table = self.lock();
        let local_user = table.users.get_mut(user);
        if let Some(local_socket) = local_user.and_then(|local_user| local_user.sockets.get_mut(&session)) {
            local_socket.live_from = Some(from);
        }
    }

    /// Removes a user's socket. Returns whether it was the user's last on this node.
    pub(crate) fn leave(&self, user: &UserId, session: Uuid) -> bool {
        let mut table = self.lock();
        let Some(local_user) = table.users.get_mut(user) else { return false };
        if local_user.sockets.remove(&session).is_none() {
            return false;
        }
        let was_last = local_user.sockets.is_empty();
        table.socket_count -= 1;
        metrics::gauge!("realtime_sockets").decrement(1);
        was_last
    }

    /// Takes a user without a socket out of all rooms. Does nothing if the user has a socket again.
    pub(crate) fn forget(&self, user: &UserId) {
        let mut table = self.lock();
        if table.users.get(user).is_none_or(|local_user| !local_user.sockets.is_empty()) {
            return;
        }
        let Some(local_user) = table.users.remove(user) else { return };
        for conversation in local_user.conversations {
            table.leave_room(user, conversation);
        }
        table.report_room_count();
    }

    /// Puts a user into the rooms of the conversations that existed when their socket entered. Does nothing if that
    /// socket has ended: its memberships may be too old for sockets that entered later.
    pub(crate) fn join_all(&self, user: &UserId, session: Uuid, memberships: &[Membership]) {
        let mut table = self.lock();
        if !table.users.get(user).is_some_and(|local_user| local_user.sockets.contains_key(&session)) {
            return;
        }
        for membership in memberships {
            table.join(user, membership.conversation_id, membership.participant_count);
        }
        if let Some(local_user) = table.users.get_mut(user) {
            local_user.complete = true;
        }
        table.report_room_count();
    }

    /// Opens the room of a new conversation, with those of its participants who are on this node.
    pub(crate) fn open(&self, conversation: ConversationId, participants: &[UserId]) {
        let mut table = self.lock();
        let count = i64::try_from(participants.len()).unwrap_or(i64::MAX);
        for user in participants {
            table.join(user, conversation, count);
        }
        table.report_room_count();
    }

    /// Takes everybody out of the rooms whom a repair concerns, as if this node knew nothing of them. Returns their
    /// sockets, which have to be closed.
    pub(crate) fn evict(&self, scope: &RepairScope) -> Vec<S> {
        let mut table = self.lock();
        let users: Vec<UserId> = match scope {
            RepairScope::Conversation(id) => {
                table.rooms.get(id).map_or(Vec::new(), |room| room.users.iter().cloned().collect())
            }
            RepairScope::User(user) => vec![user.clone()],
            RepairScope::Everybody => table.users.keys().cloned().collect(),
        };
        for user in &users {
            let Some(local_user) = table.users.get_mut(user) else { continue };
            local_user.complete = false;
            for conversation in std::mem::take(&mut local_user.conversations) {
                table.leave_room(user, conversation);
            }
        }
        table.report_room_count();
        users.iter().flat_map(|user| table.sockets(user).collect::<Vec<_>>()).collect()
    }

    /// The number of a conversation's participants; none if the conversation has no room on this node.
    pub(crate) fn participant_count(&self, conversation: ConversationId) -> Option<i64> {
        self.lock().rooms.get(&conversation).map(|room| room.participant_count)
    }

    /// The number of a conversation's participants, if the user is in its room.
    pub(crate) fn participants_if_member(&self, conversation: ConversationId, user: &UserId) -> Option<i64> {
        let table = self.lock();
        table.rooms.get(&conversation).filter(|room| room.users.contains(user)).map(|room| room.participant_count)
    }

    /// How many sockets and rooms this node has.
    pub(crate) fn counts(&self) -> NodeCounts {
        let table = self.lock();
        NodeCounts { sockets: table.socket_count, rooms: table.rooms.len() }
    }

    /// Whether a user has a socket on this node.
    pub(crate) fn has_socket(&self, user: &UserId) -> bool {
        self.lock().users.get(user).is_some_and(|local_user| !local_user.sockets.is_empty())
    }

    /// Whether two users share a conversation; none if this node doesn't know all conversations of both.
    pub(crate) fn are_acquainted(&self, one: &UserId, other: &UserId) -> Option<bool> {
        let table = self.lock();
        let complete = |user| table.users.get(user).filter(|local_user| local_user.complete);
        Some(!complete(one)?.conversations.is_disjoint(&complete(other)?.conversations))
    }

    /// The sockets of a room to which the relay delivers the event, and the next [`FrameSequence`]; none without a room.
    /// Only the relay may call this, because it sends the frames of a room in the order of their positions.
    pub(crate) fn next_frame(&self, event: EventRef) -> Option<RoomFrame<S>> {
        let mut table = self.lock();
        let room = table.rooms.get_mut(&event.conversation)?;
        let previous = room.last_position.replace(event.position);
        let sequence = FrameSequence { position: event.position, previous, event_id: event.event_id };
        let room = table.rooms.get(&event.conversation)?;
        Some(RoomFrame {
            sockets: room.users.iter().flat_map(|user| table.live_sockets(user, event.position)).collect(),
            sequence,
        })
    }

    /// The sockets of a room, except those of one user.
    pub(crate) fn room_except(&self, conversation: ConversationId, except: &UserId) -> Vec<S> {
        let table = self.lock();
        let users = table.rooms.get(&conversation).into_iter().flat_map(|room| &room.users);
        users.filter(|user| *user != except).flat_map(|user| table.sockets(user)).collect()
    }

    /// The sockets of one user to which the relay delivers the event, if the user is in the room.
    pub(crate) fn member(&self, event: EventRef, user: &UserId) -> Vec<S> {
        let table = self.lock();
        let is_in = table.rooms.get(&event.conversation).is_some_and(|room| room.users.contains(user));
        if is_in { table.live_sockets(user, event.position).collect() } else { Vec::new() }
    }

    /// The conversations of a user that are small enough for presence, as far as this node knows them.
    pub(crate) fn presence_conversations_of(&self, user: &UserId) -> Vec<ConversationId> {
        let table = self.lock();
        let conversations = table.users.get(user).into_iter().flat_map(|local_user| &local_user.conversations);
        let is_small = |id: &&ConversationId| {
            table.rooms.get(id).is_some_and(|room| room.participant_count <= PRESENCE_PARTICIPANTS_MAX)
        };
        conversations.filter(is_small).copied().collect()
    }

    /// The sockets of everyone in any of these rooms, each once, except those of one user.
    pub(crate) fn rooms_except(&self, conversations: &[ConversationId], except: &UserId) -> Vec<S> {
        let table = self.lock();
        let rooms = conversations.iter().filter_map(|id| table.rooms.get(id));
        let users: HashSet<&UserId> = rooms.flat_map(|room| &room.users).filter(|user| *user != except).collect();
        users.into_iter().flat_map(|user| table.sockets(user)).collect()
    }
}
