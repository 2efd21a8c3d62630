//! The bodies of commands and of their responses, for the OpenAPI document only. [`domain::Command`] reads the bodies
//! and names every wrong field at once; nothing here may parse a request.
#![expect(dead_code, reason = "only the schemas of these types are used")]

use domain::event::{ConversationKind, MessageType};
use domain::response::{CreatedConversation, ReactionResult, ReadMarkSet};
use domain::view::MessageView;
use domain::{ConversationId, MessageId, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body depends on `action`. Without `action`, it is a message.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum PostAction {
    Message(SendMessage),
    Conversation(CreateConversation),
    Reaction(AddReaction),
    RemoveReaction(RemoveReaction),
    Typing(SetTyping),
    Read(MarkRead),
}

/// Send a message.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "conversationId": "3b0c2f6e-6f0e-5c55-8a10-2c8f7a0c9f11", "content": "hi @bob"
}))]
pub(crate) struct SendMessage {
    #[schema(inline)]
    action: Option<MessageAction>,
    conversation_id: ConversationId,
    /// Up to 4,000 characters. May be empty only with attachments.
    #[schema(max_length = 4_000)]
    content: Option<String>,
    /// Default: `TEXT`.
    message_type: Option<MessageType>,
    /// Files that are stored elsewhere.
    #[schema(max_items = 10)]
    attachments: Option<Vec<AttachedFile>>,
    /// The message that this one replies to, in the same conversation.
    reply_to_id: Option<MessageId>,
    /// Mentioned participants, in addition to those whom the content names as `@userId`.
    #[schema(max_items = 20)]
    mentions: Option<Vec<UserId>>,
}

/// A file that is stored elsewhere.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = AttachedFile)]
pub(crate) struct AttachedFile {
    /// An https URL.
    #[schema(
        max_length = 2_048,
        pattern = r"^[Hh][Tt][Tt][Pp][Ss]://[^\s/?#]\S*$",
        example = "https://files.example/cat.png"
    )]
    url: String,
    #[schema(min_length = 1, max_length = 255, example = "cat.png")]
    name: String,
    #[schema(max_length = 255, pattern = "^[!-.0-~]+/[!-.0-:<-~]+$", example = "image/png")]
    mime_type: String,
    /// The file's size in bytes.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_u64, example = 48_213)]
    size: u64,
}

/// Create a conversation, or find the direct conversation of two users.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"action": "conversation", "participantIds": ["bob", "carol"], "title": "Lunch"}))]
pub(crate) struct CreateConversation {
    #[schema(inline)]
    action: ConversationAction,
    /// At least one other user. You are added. Up to 1,000 participants in all.
    #[schema(min_items = 1, max_items = 1_000)]
    participant_ids: Vec<UserId>,
    /// Default: `DIRECT` for two participants without a title, else `GROUP`. Two users have one direct conversation,
    /// permanently.
    #[serde(rename = "type")]
    kind: Option<ConversationKind>,
    /// The title of a group, in one line.
    #[schema(min_length = 1, max_length = 200)]
    title: Option<String>,
}

/// Add a reaction to a message.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"action": "reaction", "messageId": "0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a47", "emoji": "👍"}))]
pub(crate) struct AddReaction {
    #[schema(inline)]
    action: ReactionAction,
    message_id: MessageId,
    /// One emoji, of up to 64 bytes. Variation selectors make no other emoji of it.
    emoji: String,
    /// `add` (default), `remove`, or a label to store with the emoji.
    #[schema(min_length = 1, max_length = 32)]
    reaction: Option<String>,
}

/// Remove your reaction from a message.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "action": "remove_reaction", "messageId": "0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a47", "emoji": "👍"
}))]
pub(crate) struct RemoveReaction {
    #[schema(inline)]
    action: RemoveReactionAction,
    message_id: MessageId,
    /// One emoji, of up to 64 bytes. Variation selectors make no other emoji of it.
    emoji: String,
}

/// Start or stop typing. A start expires after 5 s.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"action": "typing_start", "conversationId": "3b0c2f6e-6f0e-5c55-8a10-2c8f7a0c9f11"}))]
pub(crate) struct SetTyping {
    #[schema(inline)]
    action: TypingAction,
    conversation_id: ConversationId,
}

/// Mark messages as read.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"action": "mark_read", "conversationId": "3b0c2f6e-6f0e-5c55-8a10-2c8f7a0c9f11"}))]
pub(crate) struct MarkRead {
    #[schema(inline)]
    action: ReadAction,
    conversation_id: ConversationId,
    /// The last message read. Default: the newest message.
    message_id: Option<MessageId>,
}

/// Replace the content of a message.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"content": "hello @bob"}))]
pub(crate) struct EditMessage {
    /// The new content, up to 4,000 characters. May be empty only with attachments.
    #[schema(max_length = 4_000)]
    content: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum MessageAction {
    Message,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ConversationAction {
    Conversation,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ReactionAction {
    Reaction,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum RemoveReactionAction {
    RemoveReaction,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum TypingAction {
    TypingStart,
    TypingStop,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ReadAction {
    MarkRead,
}

/// The created message, conversation or reaction.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum CreatedResponse {
    Message(MessageView),
    Conversation(CreatedConversation),
    Reaction(ReactionResult),
}

/// The result of the command. For a replayed command, also a created message or conversation.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum OkResponse {
    Read(ReadMarkSet),
    Reaction(ReactionResult),
    Message(MessageView),
    Conversation(CreatedConversation),
}
