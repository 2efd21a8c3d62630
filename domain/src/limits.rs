//! Limits on what a command may contain, and on how much a view lists. They bind commands only: the fold must accept
//! every event on the log, whatever its size.

/// The longest message content, in Unicode scalar values.
pub const MAX_CONTENT_CHARS: usize = 4_000;
/// The longest conversation title, in Unicode scalar values.
pub const MAX_TITLE_CHARS: usize = 200;
/// The longest reaction label, in Unicode scalar values.
pub const MAX_LABEL_CHARS: usize = 32;
/// The longest emoji, in bytes of UTF-8.
pub const MAX_EMOJI_BYTES: usize = 64;
/// The largest number of different emoji that users may ever add to one message.
pub const MAX_EMOJI_PER_MESSAGE: usize = 20;
/// The largest number of participants of a conversation, its creator included.
pub const MAX_PARTICIPANTS: usize = 1_000;
/// The largest number of attachments of a message.
pub const MAX_ATTACHMENTS: usize = 10;
/// The longest attachment URL, in Unicode scalar values.
pub const MAX_URL_CHARS: usize = 2_048;
/// The longest attachment name or media type, in Unicode scalar values.
pub const MAX_NAME_CHARS: usize = 255;
/// The largest number of users that a message may mention.
pub const MAX_MENTIONS: usize = 20;
/// The longest user id, in Unicode scalar values.
pub const MAX_USER_ID_CHARS: usize = 128;
/// The longest idempotency key, in bytes of ASCII.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 128;
/// The number of participants that a conversation's view lists. Clients fetch the others page by page.
pub const PARTICIPANTS_IN_VIEW: usize = 50;
/// The number of users that a reaction's view lists.
pub const REACTION_USERS_IN_VIEW: usize = 20;
/// The largest conversation for which the read model keeps each member's recency. A query merges larger conversations
/// into the list when it reads.
pub const SMALL_CONVERSATION_MAX: usize = 64;

crate::limit_rows! {
    Contents, "characters of a message's content", Count MAX_CONTENT_CHARS, "422 `too_long`", "the log, pages and frames";
    Contents, "characters of a title", Count MAX_TITLE_CHARS, "422 `too_long`", "lists";
    Contents, "characters of a reaction's label", Count MAX_LABEL_CHARS, "422 `too_long`", "pages, which show it with each message";
    Contents, "bytes of an emoji", Count MAX_EMOJI_BYTES, "422 `not_an_emoji`", "pages, which show it with each message";
    Contents, "different emoji that users ever add to a message", Count MAX_EMOJI_PER_MESSAGE, "422 `too_many`; an emoji that the message has had may come again", "pages, which show all of them";
    Contents, "participants of a conversation, its creator included", Count MAX_PARTICIPANTS, "422 `too_many`", "the projector, which writes a row for each";
    Contents, "attachments of a message", Count MAX_ATTACHMENTS, "422 `too_many`", "the log, pages and frames";
    Contents, "characters of an attachment's URL", Count MAX_URL_CHARS, "422 `too_long`", "the log, pages and frames";
    Contents, "characters of an attachment's name or media type", Count MAX_NAME_CHARS, "422 `too_long`", "the log, pages and frames";
    Contents, "users whom a message mentions", Count MAX_MENTIONS, "422 `too_many`", "the log, which has a notification for each";
    Contents, "characters of a user id", Count MAX_USER_ID_CHARS, "401 `invalid_token` for the caller's own id, else 422 `invalid_id`", "rows, keys and frames that name users";
    Contents, "bytes of an idempotency key", Count MAX_IDEMPOTENCY_KEY_BYTES, "400 `invalid_header`", "reservations, and an index of Postgres";
    Queries, "participants that a conversation shows", Count PARTICIPANTS_IN_VIEW, "the others come page by page", "lists, which show each conversation";
    Queries, "users that a reaction shows", Count REACTION_USERS_IN_VIEW, "the others only count", "pages, which show each reaction";
    Projector, "participants of a conversation whose members' rows copy its activity", Count SMALL_CONVERSATION_MAX, "lists and syncs look at the conversation itself", "batches: a copy costs a row";
}
