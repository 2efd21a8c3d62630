//! The state that the fold works on: the whole read model in memory, or only the part that a batch of events touches.
//! The fold must not need anything outside that part.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::event::{Attachment, ConversationKind, Event, MessageType};
use crate::ids::{ConversationId, EventId, IdempotencyKey, MessageId, UserId};
use crate::position::Position;
use crate::timestamp::Timestamp;

/// The key of a message in the state.
pub type MessageKey = (ConversationId, MessageId);
/// The key of a participant in the state.
pub type MemberKey = (ConversationId, UserId);
/// An idempotency key with its scope.
pub type ScopedKey = (ConversationId, UserId, IdempotencyKey);

/// Conversations, participants and messages, and the ids and keys of the folded events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Conversations by id.
    pub conversations: HashMap<ConversationId, Conversation>,
    /// Participants by conversation and user.
    pub members: HashMap<MemberKey, Member>,
    /// Messages by conversation and id.
    pub messages: HashMap<MessageKey, Message>,
    /// The ids of the folded events, with or without effect. The first record with an id counts.
    pub applied: HashSet<(ConversationId, EventId)>,
    /// The idempotency keys of the folded events. The first event with a key counts.
    pub keys: HashSet<ScopedKey>,
}

/// A conversation as the fold keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Direct or group.
    pub kind: ConversationKind,
    /// The title, if it has one.
    pub title: Option<String>,
    /// The number of participants.
    pub participant_count: i64,
    /// When the conversation was created.
    pub created_at: Timestamp,
    /// The latest of the times of the creation and of all messages.
    pub updated_at: Timestamp,
    /// The `seq` of the newest message; 0 without messages.
    pub last_seq: i64,
    /// The newest message.
    pub last_message: Option<MessageId>,
    /// The position of the last change to the conversation, its messages or its read marks.
    pub position: Position,
}

/// A participant of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The participant's index in the list of participants, from 0.
    pub ordinal: i32,
    /// The `seq` of the last message that the participant has read; 0 if none.
    pub last_read_seq: i64,
    /// When the participant read it.
    pub last_read_at: Option<Timestamp>,
    /// The position of the read mark's last change. At first, that of the conversation's creation.
    pub position: Position,
}

/// A message as the fold keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The message's number in the conversation, from 1, without gaps.
    pub seq: i64,
    /// The author.
    pub sender_id: UserId,
    /// The text. None if the message is deleted.
    pub content: Option<String>,
    /// How clients show the message.
    pub message_type: MessageType,
    /// Files that are stored elsewhere.
    pub attachments: Vec<Attachment>,
    /// The participants whom the message mentions.
    pub mentions: Vec<UserId>,
    /// The message that this one replies to.
    pub reply_to_id: Option<MessageId>,
    /// Every emoji that was ever added, in the order of its first use. An emoji whose reactions were all removed stays
    /// without users.
    pub reactions: Vec<Reaction>,
    /// When the author sent the message.
    pub created_at: Timestamp,
    /// When the author last edited the message.
    pub edited_at: Option<Timestamp>,
    /// When the author deleted the message.
    pub deleted_at: Option<Timestamp>,
    /// The position of the message's last change.
    pub position: Position,
}

/// The reactions to a message with one emoji.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaction {
    /// The emoji, as the first user added it.
    pub emoji: String,
    /// The last label that a user added with the emoji.
    pub label: Option<String>,
    /// The users who react with the emoji, in the order of their reactions.
    pub user_ids: Vec<UserId>,
}

/// The parts of the state that a batch of events may read or change. Load them before folding the batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// The events' conversations.
    pub conversations: BTreeSet<ConversationId>,
    /// The events' actors, as participants.
    pub members: BTreeSet<MemberKey>,
    /// The messages that the events name.
    pub messages: BTreeSet<MessageKey>,
    /// The events' ids. An earlier record may have the same.
    pub events: BTreeSet<(ConversationId, EventId)>,
    /// The events' idempotency keys. An earlier event may have the same.
    pub keys: BTreeSet<ScopedKey>,
}

impl Touched {
    /// The parts of the state that these events touch.
    pub fn by<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut touched = Self::default();
        for event in events.into_iter().filter(|event| event.data.changes_state()) {
            let conversation = event.conversation_id;
            touched.conversations.insert(conversation);
            // The actor is enough: the creation of a conversation lists all participants, or has no effect.
            touched.members.insert((conversation, event.actor_id.clone()));
            touched.events.insert((conversation, event.event_id));
            if let Some(message) = event.data.message_id() {
                touched.messages.insert((conversation, message));
            }
            if let Some(request) = &event.request {
                touched.keys.insert((conversation, event.actor_id.clone(), request.key.clone()));
            }
        }
        touched
    }
}

/// What the fold changed in the state. Write it to the read model after folding a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The conversations that changed, or of which a message or read mark changed.
    pub conversations: BTreeSet<ConversationId>,
    /// The new conversations, each with all its participants in order.
    pub created: Vec<(ConversationId, Vec<UserId>)>,
    /// The participants that are new, or whose read mark moved.
    pub members: BTreeSet<MemberKey>,
    /// The messages that are new or changed.
    pub messages: BTreeSet<MessageKey>,
    /// The events that were folded for the first time, with or without effect.
    pub applied: Vec<AppliedEvent>,
}

/// An event that was folded for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedEvent {
    /// The event's conversation.
    pub conversation_id: ConversationId,
    /// The event's id.
    pub event_id: EventId,
    /// The event's idempotency key, if it has one, with the actor who used it.
    pub key: Option<(UserId, IdempotencyKey)>,
    /// The event's position on the log.
    pub position: Position,
}
