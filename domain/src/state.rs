//! The state that the fold works on: the whole read model in memory, or the part of it that a batch touches.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::event::{Attachment, ConversationKind, Event, MessageType};
use crate::ids::{ConversationId, EventId, IdempotencyKey, MessageId, UserId};
use crate::position::Position;
use crate::timestamp::Timestamp;

/// A message's key in the state.
pub type MessageKey = (ConversationId, MessageId);
/// A participant's key in the state.
pub type MemberKey = (ConversationId, UserId);
/// An idempotency key with its scope.
pub type ScopedKey = (ConversationId, UserId, IdempotencyKey);

/// Conversations, participants, messages, and which events were folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Conversations by id.
    pub conversations: HashMap<ConversationId, Conversation>,
    /// Participants.
    pub members: HashMap<MemberKey, Member>,
    /// Messages.
    pub messages: HashMap<MessageKey, Message>,
    /// The events that were folded, with or without effect: the first record of an id counts.
    pub applied: HashSet<(ConversationId, EventId)>,
    /// The idempotency keys among them: the first event of a key counts.
    pub keys: HashSet<ScopedKey>,
}

/// A conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Direct or group.
    pub kind: ConversationKind,
    /// The title, if it has one.
    pub title: Option<String>,
    /// How many take part.
    pub participant_count: i64,
    /// When it began.
    pub created_at: Timestamp,
    /// The latest time of its creation and messages.
    pub updated_at: Timestamp,
    /// The `seq` of the newest message; 0 for none.
    pub last_seq: i64,
    /// The newest message.
    pub last_message: Option<MessageId>,
    /// The position of the last change to it or to anything in it.
    pub position: Position,
}

/// A participant of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Place in the list of participants, from 0.
    pub ordinal: i32,
    /// The `seq` up to which they have read; 0 for nothing.
    pub last_read_seq: i64,
    /// When that was.
    pub last_read_at: Option<Timestamp>,
    /// The position of the read mark's last change: at first, the conversation's creation.
    pub position: Position,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its place in the conversation, from 1.
    pub seq: i64,
    /// Who wrote it.
    pub sender_id: UserId,
    /// The text; none once deleted.
    pub content: Option<String>,
    /// What kind of message it is.
    pub message_type: MessageType,
    /// Files that live elsewhere.
    pub attachments: Vec<Attachment>,
    /// Whom it mentions.
    pub mentions: Vec<UserId>,
    /// The message that it answers.
    pub reply_to_id: Option<MessageId>,
    /// Every emoji ever added, in that order; those that nobody gives any more have no users.
    pub reactions: Vec<Reaction>,
    /// When it was sent.
    pub created_at: Timestamp,
    /// When it was last edited.
    pub edited_at: Option<Timestamp>,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// The position of its last change.
    pub position: Position,
}

/// One emoji on a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaction {
    /// The emoji.
    pub emoji: String,
    /// The label given last.
    pub label: Option<String>,
    /// Who gives it, by when they did.
    pub user_ids: Vec<UserId>,
}

/// What a batch of events can touch: what to load before it is folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Conversations.
    pub conversations: BTreeSet<ConversationId>,
    /// Participants.
    pub members: BTreeSet<MemberKey>,
    /// Messages.
    pub messages: BTreeSet<MessageKey>,
    /// Events that may have been folded before.
    pub events: BTreeSet<(ConversationId, EventId)>,
    /// Idempotency keys that may have been used before.
    pub keys: BTreeSet<ScopedKey>,
}

impl Touched {
    /// What these events touch.
    pub fn by<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut touched = Self::default();
        for event in events.into_iter().filter(|event| event.data.folds()) {
            let conversation = event.conversation_id;
            touched.conversations.insert(conversation);
            // Only the actor's: a creation has all its participants with it, or changes nothing.
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

/// What the fold changed in the state: what to write after a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Conversations that changed, or in which anything changed.
    pub conversations: BTreeSet<ConversationId>,
    /// Those of them that are new, with all their participants in order.
    pub created: Vec<(ConversationId, Vec<UserId>)>,
    /// Read marks that moved, and participants that are new.
    pub members: BTreeSet<MemberKey>,
    /// Messages that are new or changed.
    pub messages: BTreeSet<MessageKey>,
    /// Events that were folded, with their positions.
    pub applied: Vec<Applied>,
}

/// An event that was folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Where it belongs.
    pub conversation_id: ConversationId,
    /// Its id.
    pub event_id: EventId,
    /// Its idempotency key, with the actor who gave it.
    pub key: Option<(UserId, IdempotencyKey)>,
    /// Where it stands on the log.
    pub position: Position,
}
