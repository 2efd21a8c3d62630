//! The rows of the modelled read model, as its tables keep them. Nothing here folds: a commit brings whole rows.

use std::collections::{BTreeMap, BTreeSet};

use domain::event::{Attachment, ConversationKind, MessageType};
use domain::state::{self, State};
use domain::{ConversationId, EventId, IdempotencyKey, MessageId, Position, Timestamp, UserId};

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ConversationRow {
    pub(super) partition: i32,
    pub(super) kind: ConversationKind,
    pub(super) title: Option<String>,
    pub(super) participant_count: i64,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) last_seq: i64,
    pub(super) last_message_id: Option<MessageId>,
    pub(super) changed: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct MemberRow {
    pub(super) ordinal: i32,
    pub(super) last_read_seq: i64,
    pub(super) last_read_at: Option<Timestamp>,
    pub(super) partition: i32,
    pub(super) position: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct MessageRow {
    pub(super) id: MessageId,
    pub(super) sender_id: UserId,
    pub(super) content: Option<String>,
    pub(super) message_type: MessageType,
    pub(super) attachments: Vec<Attachment>,
    pub(super) mentions: Vec<UserId>,
    pub(super) reply_to_id: Option<MessageId>,
    pub(super) created_at: Timestamp,
    pub(super) edited_at: Option<Timestamp>,
    pub(super) deleted_at: Option<Timestamp>,
    pub(super) position: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ReactionRow {
    pub(super) emoji: String,
    pub(super) label: Option<String>,
    pub(super) user_ids: Vec<UserId>,
}

/// The tables, by primary key.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tables {
    pub(super) conversations: BTreeMap<ConversationId, ConversationRow>,
    pub(super) members: BTreeMap<(ConversationId, UserId), MemberRow>,
    pub(super) messages: BTreeMap<(ConversationId, i64), MessageRow>,
    pub(super) reactions: BTreeMap<(ConversationId, MessageId, usize), ReactionRow>,
    pub(super) applied_events: BTreeSet<(ConversationId, EventId)>,
    /// The unique index on the keys of `applied_events`.
    pub(super) used_keys: BTreeSet<(ConversationId, UserId, IdempotencyKey)>,
}

impl Tables {
    /// The row of a message with this id, in any conversation, and its `seq`.
    pub(super) fn messages_with_id(&self, id: MessageId) -> impl Iterator<Item = (ConversationId, i64, &MessageRow)> {
        let found = self.messages.iter().filter(move |(_, row)| row.id == id);
        found.map(|((conversation, seq), row)| (*conversation, *seq, row))
    }

    pub(super) fn reactions_to(
        &self,
        conversation: ConversationId,
        message: MessageId,
    ) -> impl Iterator<Item = &ReactionRow> {
        self.reactions.range((conversation, message, 0)..=(conversation, message, usize::MAX)).map(|(_, row)| row)
    }

    /// A conversation's participants in their order.
    pub(super) fn members_of(&self, id: ConversationId) -> Vec<(&UserId, &MemberRow)> {
        let mut members: Vec<_> =
            self.members.iter().filter(|((it, _), _)| *it == id).map(|((_, user), row)| (user, row)).collect();
        members.sort_by_key(|(_, row)| row.ordinal);
        members
    }

    pub(super) fn write_conversation(&mut self, id: ConversationId, it: &state::Conversation) {
        let row = ConversationRow {
            partition: it.position.partition,
            kind: it.kind,
            title: it.title.clone(),
            participant_count: it.participant_count,
            created_at: it.created_at,
            updated_at: it.updated_at,
            last_seq: it.last_seq,
            last_message_id: it.last_message,
            changed: it.position.offset,
        };
        let stored = self.conversations.entry(id).or_insert_with(|| row.clone());
        // What never changes stays as it was first written.
        (stored.updated_at, stored.last_seq) = (row.updated_at, row.last_seq);
        (stored.last_message_id, stored.changed) = (row.last_message_id, row.changed);
    }

    pub(super) fn write_member(&mut self, key: &state::MemberKey, it: &state::Member) {
        let row = MemberRow {
            ordinal: it.ordinal,
            last_read_seq: it.last_read_seq,
            last_read_at: it.last_read_at,
            partition: it.position.partition,
            position: it.position.offset,
        };
        let stored = self.members.entry(key.clone()).or_insert_with(|| row.clone());
        (stored.last_read_seq, stored.last_read_at) = (row.last_read_seq, row.last_read_at);
        stored.position = row.position;
    }

    pub(super) fn write_message(&mut self, (conversation, id): state::MessageKey, it: &state::Message) {
        let row = MessageRow {
            id,
            sender_id: it.sender_id.clone(),
            content: it.content.clone(),
            message_type: it.message_type,
            attachments: it.attachments.clone(),
            mentions: it.mentions.clone(),
            reply_to_id: it.reply_to_id,
            created_at: it.created_at,
            edited_at: it.edited_at,
            deleted_at: it.deleted_at,
            position: it.position.offset,
        };
        let stored = self.messages.entry((conversation, it.seq)).or_insert_with(|| row.clone());
        (stored.content, stored.attachments, stored.mentions) = (row.content, row.attachments, row.mentions);
        (stored.edited_at, stored.deleted_at, stored.position) = (row.edited_at, row.deleted_at, row.position);
        if it.deleted_at.is_some() {
            self.reactions.retain(|(of, message, _), _| (*of, *message) != (conversation, id));
        }
        for (ordinal, reaction) in it.reactions.iter().enumerate() {
            let row = ReactionRow {
                emoji: reaction.emoji.clone(),
                label: reaction.label.clone(),
                user_ids: reaction.user_ids.clone(),
            };
            let stored = self.reactions.entry((conversation, id, ordinal)).or_insert_with(|| row.clone());
            (stored.label, stored.user_ids) = (row.label, row.user_ids);
        }
    }

    pub(super) fn conversation(&self, id: ConversationId) -> Option<state::Conversation> {
        self.conversations.get(&id).map(|row| state::Conversation {
            kind: row.kind,
            title: row.title.clone(),
            participant_count: row.participant_count,
            created_at: row.created_at,
            updated_at: row.updated_at,
            last_seq: row.last_seq,
            last_message: row.last_message_id,
            position: Position { partition: row.partition, offset: row.changed },
        })
    }

    pub(super) fn member(&self, key: &state::MemberKey) -> Option<state::Member> {
        self.members.get(key).map(|row| state::Member {
            ordinal: row.ordinal,
            last_read_seq: row.last_read_seq,
            last_read_at: row.last_read_at,
            position: Position { partition: row.partition, offset: row.position },
        })
    }

    pub(super) fn message(&self, (conversation, id): state::MessageKey) -> Option<state::Message> {
        let (_, seq, row) = self.messages_with_id(id).find(|(found_in, _, _)| *found_in == conversation)?;
        let reaction = |row: &ReactionRow| state::Reaction {
            emoji: row.emoji.clone(),
            label: row.label.clone(),
            user_ids: row.user_ids.clone(),
        };
        Some(state::Message {
            seq,
            sender_id: row.sender_id.clone(),
            content: row.content.clone(),
            message_type: row.message_type,
            attachments: row.attachments.clone(),
            mentions: row.mentions.clone(),
            reply_to_id: row.reply_to_id,
            reactions: self.reactions_to(conversation, id).map(reaction).collect(),
            created_at: row.created_at,
            edited_at: row.edited_at,
            deleted_at: row.deleted_at,
            position: Position { partition: self.conversations[&conversation].partition, offset: row.position },
        })
    }

    /// Everything, as `ReadModel::export_state` gives it.
    pub(super) fn export(&self) -> State {
        let message_keys = self.messages.iter().map(|((conversation, _), row)| (*conversation, row.id));
        State {
            conversations: self.conversations.keys().map(|id| (*id, self.conversation(*id).unwrap())).collect(),
            members: self.members.keys().map(|key| (key.clone(), self.member(key).unwrap())).collect(),
            messages: message_keys.map(|key| (key, self.message(key).unwrap())).collect(),
            applied: self.applied_events.iter().copied().collect(),
            keys: self.used_keys.iter().cloned().collect(),
        }
    }
}
