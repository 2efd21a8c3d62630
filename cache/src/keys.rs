//! Every key in Redis: its name, what it holds and how long it lives. No other module names a key.
//!
//! Redis may evict views, versions, participants, the published progress, as-ofs, stalls, the generation, the repairs
//! and counters of queries. It must lose none of the others before they expire.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::{ConversationId, EventId, IdempotencyKey, MessageId, UserId};
use sha2::{Digest, Sha256};
use uuid::Uuid;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// How long the version of a dependency lives after a view was last stored with it: longer than any such view.
pub const VERSION_TTL: Duration = Duration::from_secs(2 * HOUR);
/// How long a new version lives that no view is stored with, because its reader has gone: longer than a read of Postgres
/// takes.
pub const NEW_VERSION_TTL: Duration = Duration::from_secs(30);
/// How long the participants of a conversation stay in Redis.
pub const PARTICIPANTS_TTL: Duration = Duration::from_secs(HOUR);
/// How long the key stays that processes write to check Redis.
pub const READINESS_TTL: Duration = Duration::from_secs(MINUTE);
/// How long a typing start lasts by itself.
pub const TYPING_TTL: Duration = Duration::from_secs(5);
/// How long a reserved idempotency key stays in Redis at most. The fold remembers it permanently.
pub const RESERVATION_TTL: Duration = Duration::from_secs(24 * HOUR);
/// How long after its time a key that is a UUID of version 7 counts as unused, if Redis has no reservation of it.
pub const FRESH_KEY: Duration = Duration::from_secs(2 * MINUTE);
/// How long before its time such a key may be used, because clients' clocks differ. An earlier use leaves a mark.
pub const EARLY_KEY: Duration = Duration::from_secs(MINUTE);
/// How long the position of an event stays that waits for the fold to decide whether its key was used before.
pub(crate) const APPENDED_TTL: Duration = Duration::from_secs(120);
/// How long a reservation stays once its event is folded: until its key is no longer fresh, even if it was used as early
/// as it may be, and a minute more.
pub const FOLDED_RESERVATION_TTL: Duration = Duration::from_secs(4 * MINUTE);
/// How long a realtime node counts as alive after its last heartbeat.
pub const NODE_TTL: Duration = Duration::from_secs(8);
/// How long pending entities and changes are kept: longer than a healthy projector ever takes to fold them.
pub const PENDING_TTL: Duration = Duration::from_secs(MINUTE);
/// How long they stay once they are folded: longer than a request takes that looked for them in the read model before.
pub const FOLDED_PENDING_TTL: Duration = Duration::from_secs(5);
/// How long the time at which a user was last seen stays.
pub const LAST_SEEN_TTL: Duration = Duration::from_secs(90 * 24 * HOUR);

domain::limit_rows! {
    Redis, "page sizes of a list whose first pages are cached", Count PAGE_SIZES_MAX, "the latest ones stay", "memory";
    Redis, "bytes of a view, or of a list's first pages together", Bytes LIST_BYTES_MAX, "the view isn't cached", "memory";
    Redis, "the version of a dependency, after its last use", Time VERSION_TTL, "views that depend on it are stale", "memory";
    Redis, "the participants of a conversation", Time PARTICIPANTS_TTL, "they are read from Postgres again", "memory";
    Redis, "an idempotency reservation", Time RESERVATION_TTL, "the read model knows the key", "memory";
    Redis, "the position of an event whose key may have been used before", Time APPENDED_TTL, "a retry appends the event again", "memory";
    Redis, "an idempotency reservation, once its event is folded", Time FOLDED_RESERVATION_TTL, "the read model knows the key", "memory";
    Redis, "what a command has just created or changed", Time PENDING_TTL, "the read model has it", "memory";
    Redis, "what a command has just created, once it is folded", Time FOLDED_PENDING_TTL, "the read model has it", "memory";
    Redis, "a typing start", Time TYPING_TTL, "the user doesn't type any more", "the truth about who types";
    Redis, "a node, after its last heartbeat", Time NODE_TTL, "the others publish its users as offline", "the truth about who is online";
    Redis, "when a user was last seen", Time LAST_SEEN_TTL, "it is unknown", "memory";
}

/// A time to live as `EXPIRE` takes it.
pub(crate) fn seconds(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)
}

/// A time to live as `PEXPIRE` and scripts take it.
pub(crate) fn millis(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)
}

/// A duration from milliseconds as scripts return them. Negative ones count as zero.
pub(crate) fn milliseconds(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// A thing that views depend on: a change to it makes them stale.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dependency {
    /// A conversation and everything in it.
    Conversation(ConversationId),
    /// A message with its reactions.
    Message(MessageId),
    /// Which conversations a user is in. No message changes it.
    Memberships(UserId),
    /// A user's list of conversations, with what it shows of each.
    User(UserId),
}

/// As part of a key.
impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conversation(id) => write!(f, "conversation:{id}"),
            Self::Message(id) => write!(f, "message:{id}"),
            Self::Memberships(id) => write!(f, "memberships:{id}"),
            Self::User(id) => write!(f, "user:{id}"),
        }
    }
}

/// A view: a rendered response, or the facts that commands need, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ViewKey {
    /// The first page of a user's conversations.
    Conversations {
        /// Whose conversations.
        user: UserId,
        /// The largest number of conversations in the page.
        page_size: i64,
    },
    /// The first page of a conversation's messages, the same for every participant.
    Messages {
        /// Whose messages.
        conversation: ConversationId,
        /// The largest number of messages in the page.
        page_size: i64,
    },
    /// One message, the same for every participant.
    Message(MessageId),
    /// One conversation as one participant sees it, with the first page of participants.
    Conversation {
        /// The conversation's id.
        conversation: ConversationId,
        /// The participant who sees it.
        user: UserId,
        /// The largest number of participants in the page.
        page_size: i64,
    },
    /// What commands need to know about a message.
    MessageFacts(MessageId),
    /// The conversations that a user is in.
    Memberships(UserId),
}

impl ViewKey {
    /// How long the view lives.
    pub fn ttl(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Messages { .. } | Self::Message(_) | Self::MessageFacts(_) => 30 * MINUTE,
            Self::Conversations { .. } | Self::Conversation { .. } | Self::Memberships(_) => HOUR,
        })
    }

    /// The page size of the first page of a list. All page sizes of a list share one key.
    pub(crate) fn page_size(&self) -> Option<i64> {
        match self {
            Self::Conversations { page_size, .. }
            | Self::Messages { page_size, .. }
            | Self::Conversation { page_size, .. } => Some(*page_size),
            Self::Message(_) | Self::MessageFacts(_) | Self::Memberships(_) => None,
        }
    }

    /// The same list with another page size; any other view as it is.
    pub(crate) fn with_page_size(&self, size: i64) -> Self {
        let mut view = self.clone();
        if let Self::Conversations { page_size, .. }
        | Self::Messages { page_size, .. }
        | Self::Conversation { page_size, .. } = &mut view
        {
            *page_size = size;
        }
        view
    }

    /// How many bytes the key of the view may hold. A larger view is not stored.
    pub(crate) fn max_bytes(&self) -> usize {
        match self {
            // Grows with the conversations of the user, and never with queries. About 100,000 fit.
            Self::Memberships(_) => 8 << 20,
            _ => LIST_BYTES_MAX,
        }
    }

    /// The name of this kind of view in keys and metrics.
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

/// As people read it.
impl fmt::Display for ViewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conversations { user, page_size } => write!(f, "the first {page_size} conversations of {user}"),
            Self::Messages { conversation, page_size } => {
                write!(f, "the first {page_size} messages of the conversation {conversation}")
            }
            Self::Message(id) => write!(f, "the message {id}"),
            Self::Conversation { conversation, user, page_size } => {
                write!(f, "the conversation {conversation} for {user}, with {page_size} participants")
            }
            Self::MessageFacts(id) => write!(f, "what commands know of the message {id}"),
            Self::Memberships(user) => write!(f, "the memberships of {user}"),
        }
    }
}

/// How many page sizes of a list Redis keeps.
pub(crate) const PAGE_SIZES_MAX: usize = 4;
/// How many bytes all page sizes of a list may have together. A page of 100 messages of 4,000 ASCII characters has
/// 0.45 MB, and twice as many for most other scripts. While Redis reads a page of this size, everybody else waits for
/// less than a millisecond.
const LIST_BYTES_MAX: usize = 1 << 20;

/// The format of stored views. It is part of their keys: processes of two releases run side by side, and neither reads
/// what it can't understand.
const VIEW_FORMAT: u32 = 3;

/// Which dependencies a projector knows. It is part of the keys of progress: a projector of another release advances
/// another progress. The next projector of this release finds Redis behind, and changes the versions of everything that
/// changed meanwhile.
const PROGRESS_FORMAT: u32 = 2;

/// Builds keys under a prefix. Keys of the projection are also under its generation.
pub(crate) struct Keys<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) generation: i64,
}

impl Keys<'_> {
    /// Hash of partition to next offset: all versions were changed for the commits below these offsets.
    pub(crate) fn progress(&self) -> String {
        format!("{}:{}:{PROGRESS_FORMAT}:progress", self.prefix, self.generation)
    }

    /// Hash of partition to time in Unix milliseconds, by Redis' clock: everything that was on the log by then is in the
    /// progress.
    pub(crate) fn as_of(&self) -> String {
        format!("{}:{}:{PROGRESS_FORMAT}:as-of", self.prefix, self.generation)
    }

    /// Hash of partition to next offset: the progress as recorded next to the reservations, where the published one is
    /// in another instance. It has another name, because no versions change there: back in one instance, nobody may take
    /// it for published.
    pub(crate) fn recorded_progress(&self) -> String {
        format!("{}:{}:recorded-progress", self.prefix, self.generation)
    }

    /// Hash of a projector's name to JSON: its partitions that make no progress, with the reasons.
    pub(crate) fn stalls(&self) -> String {
        format!("{}:{}:stalls", self.prefix, self.generation)
    }

    /// Keys of all types, and a channel: what a process has written last to find out whether Redis takes it.
    pub(crate) fn readiness(&self, part: &str) -> String {
        format!("{}:readiness:{part}", self.prefix)
    }

    /// String: the generation that is served.
    pub(crate) fn current_generation(&self) -> String {
        format!("{}:generation", self.prefix)
    }

    /// String: JSON of the repairs that every cache knows, and of a generation that includes them.
    pub(crate) fn repairs(&self) -> String {
        format!("{}:repairs", self.prefix)
    }

    /// Channel of the projector's progress.
    pub(crate) fn progress_channel(&self) -> String {
        format!("{}:progress-announced", self.prefix)
    }

    /// String: a random version on which every view depends. It changes when Redis turns out to have lost the progress
    /// of a partition.
    pub(crate) fn progress_version(&self) -> String {
        format!("{}:{}:head:progress", self.prefix, self.generation)
    }

    /// String: a random version that changes with every change of the dependency.
    pub(crate) fn version(&self, dependency: &Dependency) -> String {
        format!("{}:{}:head:{dependency}", self.prefix, self.generation)
    }

    /// What the keys of all views begin with.
    pub(crate) fn views(&self) -> String {
        format!("{}:{}:", self.prefix, self.generation)
    }

    /// String: a line of JSON (pairs of a version's key and the version), a line with the view's entity tag, then the
    /// view's JSON. Of a list, a hash with such a string for each page size, and `sizes`: these page sizes, the latest
    /// first.
    pub(crate) fn view(&self, view: &ViewKey) -> String {
        let start = format!("{}{}.{VIEW_FORMAT}", self.views(), view.kind());
        match view {
            ViewKey::Conversations { user, .. } | ViewKey::Memberships(user) => format!("{start}:{user}"),
            ViewKey::Messages { conversation, .. } => format!("{start}:{conversation}"),
            ViewKey::Message(id) | ViewKey::MessageFacts(id) => format!("{start}:{id}"),
            ViewKey::Conversation { conversation, user, .. } => format!("{start}:{conversation}:{user}"),
        }
    }

    /// Set of user ids: the participants of a conversation, which never change.
    pub(crate) fn participants(&self, conversation: ConversationId) -> String {
        format!("{}:{}:participants:{conversation}", self.prefix, self.generation)
    }

    /// Counter of a user's commands of one kind in the running window.
    pub(crate) fn limit(&self, name: &str, user: &UserId) -> String {
        format!("{}:limit:{name}:{user}", self.prefix)
    }

    /// String: the position of an event whose key may have been used before.
    pub(crate) fn appended(&self, event: EventId) -> String {
        format!("{}:appended:{event}", self.prefix)
    }

    /// String: a reserved event; once it is on the log, the beginning of its request's hash, a space, and its position.
    /// The name has a hash of the scope, so that it is short. There is one for each command.
    pub(crate) fn reservation(&self, conversation: ConversationId, actor: &UserId, key: &IdempotencyKey) -> String {
        // Neither a user id nor a key contains spaces, so the parts stay apart.
        let hash = Sha256::digest(format!("{conversation} {actor} {key}"));
        format!("{}:reservation:{}", self.prefix, URL_SAFE_NO_PAD.encode(&hash[..16]))
    }

    /// String: the latest time of a user's keys that were used earlier than they may be, in Unix milliseconds. It stays
    /// until that key is no longer fresh.
    pub(crate) fn keys_ahead(&self, user: &UserId) -> String {
        format!("{}:keys-ahead:{user}", self.prefix)
    }

    /// Hash of what commands have just done to a message: `deletedAt`, in Unix milliseconds, and each added emoji.
    pub(crate) fn pending_changes(&self, message: MessageId) -> String {
        format!("{}:done:{message}", self.prefix)
    }

    /// String: JSON of a conversation or message that was just created, with its partition.
    pub(crate) fn pending_entity(&self, dependency: &Dependency) -> String {
        format!("{}:begun:{dependency}", self.prefix)
    }

    /// String: the time in milliseconds since which Redis has lost no reservation, and an id. It has no TTL: it
    /// disappears when Redis loses data, and the projector deletes it when it finds Redis behind.
    pub(crate) fn epoch(&self) -> String {
        format!("{}:reservations-since", self.prefix)
    }

    /// String that exists while a user types.
    pub(crate) fn typing(&self, conversation: ConversationId, user: &UserId) -> String {
        format!("{}:typing:{conversation}:{user}", self.prefix)
    }

    /// Sorted set of the ids of realtime nodes, by the time at which they expire, in Unix milliseconds.
    pub(crate) fn nodes(&self) -> String {
        format!("{}:nodes", self.prefix)
    }

    /// String: how many sockets and rooms a node has, and when it said so, in Unix milliseconds. It lives as long as the
    /// node.
    pub(crate) fn node_counts(&self, node: Uuid) -> String {
        format!("{}:node-counts:{node}", self.prefix)
    }

    /// Set of the users who are online on a node.
    pub(crate) fn node_users(&self, node: Uuid) -> String {
        format!("{}:node-users:{node}", self.prefix)
    }

    /// Channel of changes of presence.
    pub(crate) fn presence_channel(&self) -> String {
        format!("{}:presence-changed", self.prefix)
    }

    /// Set of the ids of the nodes on which a user is online.
    pub(crate) fn presence(&self, user: &UserId) -> String {
        format!("{}:presence:{user}", self.prefix)
    }

    /// String: when a user was last seen, in Unix milliseconds.
    pub(crate) fn last_seen(&self, user: &UserId) -> String {
        format!("{}:last-seen:{user}", self.prefix)
    }
}

/// A version that no dependency has had before.
pub(crate) fn fresh_version() -> String {
    Uuid::new_v4().simple().to_string()
}
