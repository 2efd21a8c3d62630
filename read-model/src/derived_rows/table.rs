//! The tables whose rows are folded from the log, and their columns.

/// A table whose rows are folded from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DerivedTable {
    /// A row for each conversation.
    Conversations,
    /// A row for each participant, with the read mark.
    Members,
    /// A row for each message, also for a deleted one.
    Messages,
    /// A row for each emoji that was ever added to a message.
    Reactions,
    /// A row for each event that was folded.
    AppliedEvents,
}

impl DerivedTable {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Conversations, Self::Members, Self::Messages, Self::Reactions, Self::AppliedEvents];

    /// The table's name in Postgres.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conversations => "conversations",
            Self::Members => "members",
            Self::Messages => "messages",
            Self::Reactions => "reactions",
            Self::AppliedEvents => "applied_events",
        }
    }

    /// Whether clients can see its rows.
    pub fn is_visible(self) -> bool {
        self != Self::AppliedEvents
    }

    /// Its columns. Those of the primary key come first, and the conversation's id before all others.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Conversations => &[
                "id",
                "partition",
                "kind",
                "title",
                "participant_count",
                "created_at",
                "updated_at",
                "last_seq",
                "last_message_id",
                "changed",
            ],
            Self::Members => &[
                "conversation_id",
                "user_id",
                "ordinal",
                "last_read_seq",
                "last_read_at",
                "position",
                "recent_at",
                "partition",
                "changed",
            ],
            Self::Messages => &[
                "conversation_id",
                "seq",
                "id",
                "sender_id",
                "content",
                "message_type",
                "attachments",
                "mentions",
                "reply_to_id",
                "created_at",
                "edited_at",
                "deleted_at",
                "position",
            ],
            Self::Reactions => &["conversation_id", "message_id", "ordinal", "emoji", "label", "user_ids"],
            Self::AppliedEvents => {
                &["conversation_id", "event_id", "actor_id", "idempotency_key", "partition", "position"]
            }
        }
    }

    /// The types of the columns of the primary key.
    pub(super) fn key_types(self) -> &'static [&'static str] {
        match self {
            Self::Conversations => &["uuid"],
            Self::Members => &["uuid", "text"],
            Self::Messages => &["uuid", "bigint"],
            Self::Reactions => &["uuid", "uuid", "integer"],
            Self::AppliedEvents => &["uuid", "uuid"],
        }
    }

    /// How many columns the primary key has.
    pub fn key_length(self) -> usize {
        self.key_types().len()
    }
}

/// A row of such a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerivedRow {
    /// The table that has it.
    pub table: DerivedTable,
    /// A value for each of [`DerivedTable::columns`]; none for NULL.
    pub values: Vec<Option<String>>,
}
