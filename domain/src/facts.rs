//! What deciding needs to know. Every fact is immutable or only ever moves one way, so that an old one can
//! lead at worst to an event that the fold drops as if it had lost a race.

use serde::{Deserialize, Serialize};

use crate::event::MessageSent;
use crate::ids::{ConversationId, MessageId, UserId};
use crate::timestamp::Timestamp;

/// What a command needs to know about its conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationFacts {
    /// The conversation.
    pub id: ConversationId,
    /// Whether the caller is in it. Immutable.
    pub is_participant: bool,
    /// Everyone in it, where the command needs them to find mentions; empty otherwise. Immutable.
    pub participants: Vec<UserId>,
}

/// What a command needs to know about a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessageFacts {
    /// The message. Immutable.
    pub id: MessageId,
    /// Where it is. Immutable.
    pub conversation_id: ConversationId,
    /// Who wrote it. Immutable.
    pub sender_id: UserId,
    /// Whether it has attachments, so that its content may be empty. Immutable.
    pub has_attachments: bool,
    /// When it was deleted, if it is. Once there, immutable.
    pub deleted_at: Option<Timestamp>,
    /// Every emoji ever added to it. Only grows.
    pub emoji: Vec<String>,
}

impl MessageFacts {
    /// What is known of a message that was just sent.
    pub fn from_sent(conversation_id: ConversationId, sender_id: UserId, sent: &MessageSent) -> Self {
        Self {
            id: sent.message_id,
            conversation_id,
            sender_id,
            has_attachments: !sent.attachments.is_empty(),
            deleted_at: None,
            emoji: Vec::new(),
        }
    }
}

/// Everything that one command needs to know; what it doesn't need is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The conversation; none when there is no such conversation.
    pub conversation: Option<ConversationFacts>,
    /// The message that the command names; none when there is none.
    pub message: Option<MessageFacts>,
}
