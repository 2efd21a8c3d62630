//! Who is here: users with their sockets, and conversations with the users of theirs who are here.
//!
//! Rooms are of users, not of sockets, and stay for a grace after a user's last socket: who comes back within it
//! is in all rooms at once, without asking for memberships.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::{ConversationId, EventId, Position, UserId};
use serde::Serialize;
use socketioxide::extract::SocketRef;
use uuid::Uuid;

use crate::deliver::SOCIABLE;
use crate::memberships::Membership;

/// A conversation in which somebody here takes part.
#[derive(Debug)]
struct Room {
    participant_count: i64,
    /// The position of the last frame to the whole room since it was opened here.
    last: Option<Position>,
    users: HashSet<UserId>,
}

#[derive(Default)]
struct Present {
    /// By their sessions.
    sockets: HashMap<Uuid, SocketRef>,
    conversations: HashSet<ConversationId>,
    /// Whether the user is in all of their rooms.
    complete: bool,
}

#[derive(Default)]
struct Inner {
    rooms: HashMap<ConversationId, Room>,
    users: HashMap<UserId, Present>,
}

impl Inner {
    fn sockets(&self, user: &UserId) -> impl Iterator<Item = SocketRef> {
        self.users.get(user).into_iter().flat_map(|present| present.sockets.values().cloned())
    }

    fn join(&mut self, user: &UserId, conversation: ConversationId, participant_count: i64) {
        let Some(present) = self.users.get_mut(user) else { return };
        present.conversations.insert(conversation);
        let room = self.rooms.entry(conversation).or_insert_with(|| Room {
            participant_count,
            last: None,
            users: HashSet::new(),
        });
        room.users.insert(user.clone());
    }

    fn count_rooms(&self) {
        metrics::gauge!("realtime_rooms").set(self.rooms.len() as f64);
    }
}

/// The rooms of this node.
#[derive(Default)]
pub(crate) struct Rooms(Mutex<Inner>);

/// The second argument of a frame to a whole room.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sequence {
    position: Position,
    previous: Option<Position>,
    event_id: EventId,
}

/// Where a frame comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) conversation: ConversationId,
    pub(crate) position: Position,
    pub(crate) event_id: EventId,
}

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A user's socket is here. From now on the user joins conversations as they are created. True when the
    /// user is in all other rooms already.
    pub(crate) fn enter(&self, user: &UserId, session: Uuid, socket: &SocketRef) -> bool {
        let mut inner = self.lock();
        let present = inner.users.entry(user.clone()).or_default();
        if present.sockets.insert(session, socket.clone()).is_none() {
            metrics::gauge!("realtime_sockets").increment(1);
        }
        present.complete
    }

    /// A user's socket has gone. True when it was the user's last here.
    pub(crate) fn leave(&self, user: &UserId, session: Uuid) -> bool {
        let mut inner = self.lock();
        let Some(present) = inner.users.get_mut(user) else { return false };
        if present.sockets.remove(&session).is_none() {
            return false;
        }
        metrics::gauge!("realtime_sockets").decrement(1);
        present.sockets.is_empty()
    }

    /// Takes a user who has no socket here any more out of all rooms. Does nothing when one came back.
    pub(crate) fn forget(&self, user: &UserId) {
        let mut inner = self.lock();
        if inner.users.get(user).is_none_or(|present| !present.sockets.is_empty()) {
            return;
        }
        let Some(present) = inner.users.remove(user) else { return };
        for conversation in present.conversations {
            if let Some(room) = inner.rooms.get_mut(&conversation) {
                room.users.remove(user);
                if room.users.is_empty() {
                    inner.rooms.remove(&conversation);
                }
            }
        }
        inner.count_rooms();
    }

    /// Puts a user into the rooms of all conversations that there were when the socket entered. Does nothing
    /// when the socket has gone: what it learned may be too old for those that came after it.
    pub(crate) fn join_all(&self, user: &UserId, session: Uuid, memberships: &[Membership]) {
        let mut inner = self.lock();
        if !inner.users.get(user).is_some_and(|present| present.sockets.contains_key(&session)) {
            return;
        }
        for membership in memberships {
            inner.join(user, membership.conversation_id, membership.participant_count);
        }
        if let Some(present) = inner.users.get_mut(user) {
            present.complete = true;
        }
        inner.count_rooms();
    }

    /// Puts those who are here into the room of a conversation that was just created.
    pub(crate) fn open(&self, conversation: ConversationId, participants: &[UserId]) {
        let mut inner = self.lock();
        let count = i64::try_from(participants.len()).unwrap_or(i64::MAX);
        for user in participants {
            inner.join(user, conversation, count);
        }
        inner.count_rooms();
    }

    /// How many take part in a conversation that has a room here; none when it has none.
    pub(crate) fn participant_count(&self, conversation: ConversationId) -> Option<i64> {
        self.lock().rooms.get(&conversation).map(|room| room.participant_count)
    }

    /// Whether a user has a socket here.
    pub(crate) fn is_here(&self, user: &UserId) -> bool {
        self.lock().users.get(user).is_some_and(|present| !present.sockets.is_empty())
    }

    /// The conversations of a user who is here; none when they aren't all known here.
    pub(crate) fn conversations_of(&self, user: &UserId) -> Option<HashSet<ConversationId>> {
        let inner = self.lock();
        inner.users.get(user).filter(|present| present.complete).map(|present| present.conversations.clone())
    }

    /// Whether a user who is here is in one of these conversations; none when theirs aren't all known here.
    pub(crate) fn is_in_any(&self, user: &UserId, conversations: &HashSet<ConversationId>) -> Option<bool> {
        let inner = self.lock();
        let present = inner.users.get(user).filter(|present| present.complete)?;
        Some(!present.conversations.is_disjoint(conversations))
    }

    /// The sockets of a whole room, with what tells them whether they missed a frame. Only the relay asks for
    /// this, so that frames come in order.
    pub(crate) fn whole(&self, origin: Origin) -> Option<(Vec<SocketRef>, Sequence)> {
        let mut inner = self.lock();
        let room = inner.rooms.get_mut(&origin.conversation)?;
        let previous = room.last.replace(origin.position);
        let sequence = Sequence { position: origin.position, previous, event_id: origin.event_id };
        let room = inner.rooms.get(&origin.conversation)?;
        Some((room.users.iter().flat_map(|user| inner.sockets(user)).collect(), sequence))
    }

    /// The sockets of everyone in a conversation but one user.
    pub(crate) fn others(&self, conversation: ConversationId, but: &UserId) -> Vec<SocketRef> {
        let inner = self.lock();
        let users = inner.rooms.get(&conversation).into_iter().flat_map(|room| &room.users);
        users.filter(|user| *user != but).flat_map(|user| inner.sockets(user)).collect()
    }

    /// The sockets of one user, if they are in the conversation.
    pub(crate) fn member(&self, conversation: ConversationId, user: &UserId) -> Vec<SocketRef> {
        let inner = self.lock();
        let is_in = inner.rooms.get(&conversation).is_some_and(|room| room.users.contains(user));
        if is_in { inner.sockets(user).collect() } else { Vec::new() }
    }

    /// The small conversations of a user who is here, as far as they are known.
    pub(crate) fn small_conversations_of(&self, user: &UserId) -> Vec<ConversationId> {
        let inner = self.lock();
        let conversations = inner.users.get(user).into_iter().flat_map(|present| &present.conversations);
        let small = |id: &&ConversationId| inner.rooms.get(id).is_some_and(|room| room.participant_count <= SOCIABLE);
        conversations.filter(small).copied().collect()
    }

    /// The sockets of those who are here and in one of these conversations, each once, without those of one user.
    pub(crate) fn peers(&self, conversations: &[ConversationId], but: &UserId) -> Vec<SocketRef> {
        let inner = self.lock();
        let rooms = conversations.iter().filter_map(|id| inner.rooms.get(id));
        let peers: HashSet<&UserId> = rooms.flat_map(|room| &room.users).filter(|peer| *peer != but).collect();
        peers.into_iter().flat_map(|peer| inner.sockets(peer)).collect()
    }
}
