//! The sizes that a command must keep to. They bind commands, never the fold: what is on the log counts.

/// Longest message content, in Unicode scalar values.
pub const CONTENT_CHARS: usize = 4_000;
/// Longest conversation title, in Unicode scalar values.
pub const TITLE_CHARS: usize = 200;
/// Longest reaction label, in Unicode scalar values.
pub const LABEL_CHARS: usize = 32;
/// Longest emoji, in bytes of UTF-8.
pub const EMOJI_BYTES: usize = 32;
/// Most different emoji ever added to one message.
pub const EMOJI_PER_MESSAGE: usize = 20;
/// Most participants of a conversation, its creator included.
pub const PARTICIPANTS: usize = 1_000;
/// Most attachments of a message.
pub const ATTACHMENTS: usize = 10;
/// Longest attachment URL, in Unicode scalar values.
pub const URL_CHARS: usize = 2_048;
/// Longest attachment name or MIME type, in Unicode scalar values.
pub const NAME_CHARS: usize = 255;
/// Most mentions in a message.
pub const MENTIONS: usize = 20;
/// Longest user id, in Unicode scalar values.
pub const USER_ID_CHARS: usize = 128;
/// Longest idempotency key, in bytes of ASCII.
pub const IDEMPOTENCY_KEY_BYTES: usize = 128;
/// How many participants a conversation's view lists at first.
pub const PARTICIPANTS_IN_VIEW: usize = 50;
/// How many users a reaction's view lists.
pub const REACTION_USERS_IN_VIEW: usize = 20;
/// Conversations up to this size keep recency for each member; larger ones are merged when read.
pub const SMALL_CONVERSATION_MAX: usize = 64;
