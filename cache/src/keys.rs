//! Every key in Redis: what it is called, what it holds and how long it lives.

use std::fmt;
use std::time::Duration;

use domain::{ConversationId, IdempotencyKey, MessageId, UserId};
use uuid::Uuid;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// How long a head lives after its last use: longer than any view that depends on it.
pub const HEAD_TTL: Duration = Duration::from_secs(2 * HOUR);
/// How long the participants of a conversation stay.
pub const PARTICIPANTS_TTL: Duration = Duration::from_secs(HOUR);
/// How long a typing start lasts by itself.
pub const TYPING_TTL: Duration = Duration::from_secs(5);
/// How long a reserved idempotency key stays in Redis; the fold remembers it for ever.
pub const RESERVATION_TTL: Duration = Duration::from_secs(24 * HOUR);
/// How long a node that said nothing since counts as alive.
pub const NODE_TTL: Duration = Duration::from_secs(8);
/// How long what was begun, and what was done to a message, is known before it is folded: longer than that ever takes where all is well.
pub const DONE_TTL: Duration = Duration::from_secs(MINUTE);
/// How long the time at which a user was last seen stays.
pub const LAST_SEEN_TTL: Duration = Duration::from_secs(90 * 24 * HOUR);

/// A time to live as `EXPIRE` takes it.
pub(crate) fn seconds(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)
}

/// Something whose change makes views that depend on it stale.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Head {
    /// A conversation and everything in it.
    Conversation(ConversationId),
    /// A message.
    Message(MessageId),
    /// A user's list of conversations.
    User(UserId),
}

/// As part of a key.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conversation(id) => write!(f, "conversation:{id}"),
            Self::Message(id) => write!(f, "message:{id}"),
            Self::User(id) => write!(f, "user:{id}"),
        }
    }
}

/// A view: a ready answer or the facts for one, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ViewKey {
    /// A page of a user's conversations.
    Conversations {
        /// Whose.
        user: UserId,
        /// The page: its limit and cursor.
        page: String,
    },
    /// A page of a conversation's messages, the same for each participant.
    Messages {
        /// Of which conversation.
        conversation: ConversationId,
        /// The page: its limit and cursor.
        page: String,
    },
    /// One message.
    Message(MessageId),
    /// One conversation as one participant sees it, with a page of participants.
    Conversation {
        /// Which.
        conversation: ConversationId,
        /// Who sees it.
        user: UserId,
        /// The page of participants: its limit and cursor.
        page: String,
    },
    /// What commands need to know about a message.
    MessageFacts(MessageId),
    /// The conversations that a user is in.
    Memberships(UserId),
}

impl ViewKey {
    /// How long the view may live.
    pub fn ttl(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Messages { .. } | Self::Message(_) | Self::MessageFacts(_) => 30 * MINUTE,
            Self::Conversations { .. } | Self::Conversation { .. } | Self::Memberships(_) => HOUR,
        })
    }

    /// What the view is called in metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Conversations { .. } => "conversations",
            Self::Messages { .. } => "messages",
            Self::Message(_) => "message",
            Self::Conversation { .. } => "conversation",
            Self::MessageFacts(_) => "message_facts",
            Self::Memberships(_) => "memberships",
        }
    }
}

/// Builds keys under a prefix; those of the projection also under its generation.
pub(crate) struct Keys<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) generation: i64,
}

impl Keys<'_> {
    /// Hash of partition to next offset: up to where heads were moved and views are told the truth.
    pub(crate) fn progress(&self) -> String {
        format!("{}:{}:progress", self.prefix, self.generation)
    }

    /// String: the generation that is served.
    pub(crate) fn current_generation(&self) -> String {
        format!("{}:generation", self.prefix)
    }

    /// Channel on which progress is announced.
    pub(crate) fn progress_channel(&self) -> String {
        format!("{}:progress-announced", self.prefix)
    }

    /// String: a stamp that is new after each change.
    pub(crate) fn head(&self, head: &Head) -> String {
        format!("{}:{}:head:{head}", self.prefix, self.generation)
    }

    /// String: a line of JSON (the heads and stamps that it depends on), then the JSON of the view.
    pub(crate) fn view(&self, view: &ViewKey) -> String {
        let Self { prefix, generation } = self;
        let kind = view.kind();
        match view {
            ViewKey::Conversations { user, page } => format!("{prefix}:{generation}:{kind}:{user}:{page}"),
            ViewKey::Messages { conversation, page } => format!("{prefix}:{generation}:{kind}:{conversation}:{page}"),
            ViewKey::Message(id) | ViewKey::MessageFacts(id) => format!("{prefix}:{generation}:{kind}:{id}"),
            ViewKey::Conversation { conversation, user, page } => {
                format!("{prefix}:{generation}:{kind}:{conversation}:{page}:{user}")
            }
            ViewKey::Memberships(user) => format!("{prefix}:{generation}:{kind}:{user}"),
        }
    }

    /// Set of user ids: everyone in a conversation, which never changes.
    pub(crate) fn participants(&self, conversation: ConversationId) -> String {
        format!("{}:{}:participants:{conversation}", self.prefix, self.generation)
    }

    /// Counter of a user's commands of one kind in the running window.
    pub(crate) fn limit(&self, name: &str, user: &UserId) -> String {
        format!("{}:limit:{name}:{user}", self.prefix)
    }

    /// Hash of a reserved event (`event`) and, once it is on the log, its position (`position`).
    pub(crate) fn reservation(&self, conversation: ConversationId, actor: &UserId, key: &IdempotencyKey) -> String {
        // Neither a user id nor a key has spaces, so that the parts stay apart.
        format!("{}:reservation:{conversation} {actor} {key}", self.prefix)
    }

    /// Hash of what was done to a message lately: `deletedAt`, in Unix milliseconds, and each emoji that was added.
    pub(crate) fn done(&self, message: MessageId) -> String {
        format!("{}:done:{message}", self.prefix)
    }

    /// String: JSON that says of something that was begun lately where it is, and the facts of a message.
    pub(crate) fn begun(&self, what: &Head) -> String {
        format!("{}:begun:{what}", self.prefix)
    }

    /// String: the time in ms since which every reservation was kept, and an id. Without a TTL, and gone when Redis lost
    /// what it had.
    pub(crate) fn epoch(&self) -> String {
        format!("{}:reservations-since", self.prefix)
    }

    /// String that is there while a user types.
    pub(crate) fn typing(&self, conversation: ConversationId, user: &UserId) -> String {
        format!("{}:typing:{conversation}:{user}", self.prefix)
    }

    /// Sorted set of the ids of realtime nodes, by until when they live at least, in Unix milliseconds.
    pub(crate) fn nodes(&self) -> String {
        format!("{}:nodes", self.prefix)
    }

    /// Set of the users for whom a node has given its word.
    pub(crate) fn node_users(&self, node: Uuid) -> String {
        format!("{}:node-users:{node}", self.prefix)
    }

    /// Channel on which changes of presence are told.
    pub(crate) fn presence_channel(&self) -> String {
        format!("{}:presence-changed", self.prefix)
    }

    /// Set of the ids of the nodes that have a user.
    pub(crate) fn presence(&self, user: &UserId) -> String {
        format!("{}:presence:{user}", self.prefix)
    }

    /// String: when a user was last seen, in Unix milliseconds.
    pub(crate) fn last_seen(&self, user: &UserId) -> String {
        format!("{}:last-seen:{user}", self.prefix)
    }
}

/// A stamp that no head has had before.
pub(crate) fn fresh_stamp() -> String {
    Uuid::new_v4().simple().to_string()
}
