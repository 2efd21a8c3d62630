//! The facts that decisions need. Each fact is immutable or changes in one direction only. A decision on an old fact
//! can therefore at worst lead to an event that the fold drops, as if the command had lost a race.

use serde::{Deserialize, Serialize};

use crate::emoji;
use crate::event::MessageSent;
use crate::ids::{ConversationId, MessageId, UserId};
use crate::timestamp::Timestamp;

/// The facts about a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationFacts {
    /// The conversation's id.
    pub id: ConversationId,
    /// Whether the caller is a participant. Immutable.
    pub is_participant: bool,
    /// All participants, if the command needs them to find mentions; empty otherwise. Immutable.
    pub participants: Vec<UserId>,
}

/// The facts about a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessageFacts {
    /// The message's id. Immutable.
    pub id: MessageId,
    /// The conversation of the message. Immutable.
    pub conversation_id: ConversationId,
    /// The author. Immutable.
    pub sender_id: UserId,
    /// Whether the message has attachments. If so, its content may be empty. Immutable.
    pub has_attachments: bool,
    /// When the message was deleted. Immutable once set.
    pub deleted_at: Option<Timestamp>,
    /// Every emoji that was ever added to the message. Only grows.
    pub emoji: Vec<String>,
}

impl MessageFacts {
    /// The facts about a message right after it is sent.
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

    /// Whether an emoji was ever added to the message, in any spelling.
    pub fn has_had(&self, emoji: &str) -> bool {
        self.emoji.iter().any(|known| emoji::is_same(known, emoji))
    }
}

/// All facts for one decision. Facts that the command doesn't need are none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The command's conversation. None if it doesn't exist.
    pub conversation: Option<ConversationFacts>,
    /// The message that the command names. None if it doesn't exist.
    pub message: Option<MessageFacts>,
}
