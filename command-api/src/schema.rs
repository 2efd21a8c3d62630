//! The bodies of commands and of their answers as the OpenAPI document has them. Bodies are read by
//! [`domain::Command`], which names every wrong field at once; this only describes what it takes.
#![expect(dead_code, reason = "only the schemas of these types are used")]

use domain::answer::{Begun, Reacted, Read};
use domain::event::{ConversationKind, MessageType};
use domain::view::MessageView;
use domain::{ConversationId, MessageId, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is asked for, by `action`; a message where it says nothing.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Act {
    Message(SendMessage),
    Conversation(BeginConversation),
    Reaction(React),
    RemoveReaction(RemoveReaction),
    Typing(SayTyping),
    Read(MarkRead),
}

/// Sends a message.
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
    /// `TEXT` where it isn't said.
    message_type: Option<MessageType>,
    /// Files that live elsewhere.
    #[schema(max_items = 10)]
    attachments: Option<Vec<AttachedFile>>,
    /// The message that this one answers, in the same conversation.
    reply_to_id: Option<MessageId>,
    /// Participants who are mentioned besides those whom the content names as `@userId`.
    #[schema(max_items = 20)]
    mentions: Option<Vec<UserId>>,
}

/// A file that lives elsewhere.
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
    /// In bytes.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_u64, example = 48_213)]
    size: u64,
}

/// Begins a conversation.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"action": "conversation", "participantIds": ["bob", "carol"], "title": "Lunch"}))]
pub(crate) struct BeginConversation {
    #[schema(inline)]
    action: ConversationAction,
    /// At least one other; you are added. Up to 1,000 in all.
    #[schema(min_items = 1, max_items = 1_000)]
    participant_ids: Vec<UserId>,
    /// Where it isn't said, two people without a title are `DIRECT`: a pair has one such conversation, ever.
    #[serde(rename = "type")]
    kind: Option<ConversationKind>,
    /// Of a group, in one line.
    #[schema(min_length = 1, max_length = 200)]
    title: Option<String>,
}

/// Reacts to a message.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"action": "reaction", "messageId": "0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a47", "emoji": "👍"}))]
pub(crate) struct React {
    #[schema(inline)]
    action: ReactionAction,
    message_id: MessageId,
    /// One emoji, of up to 32 bytes.
    emoji: String,
    /// `add` where it isn't said, `remove`, or a label that is kept beside the emoji.
    #[schema(min_length = 1, max_length = 32)]
    reaction: Option<String>,
}

/// Takes a reaction back.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "action": "remove_reaction", "messageId": "0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a47", "emoji": "👍"
}))]
pub(crate) struct RemoveReaction {
    #[schema(inline)]
    action: RemoveReactionAction,
    message_id: MessageId,
    /// One emoji, of up to 32 bytes.
    emoji: String,
}

/// Says that one is typing, or has stopped. A start ends by itself after 5 s.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"action": "typing_start", "conversationId": "3b0c2f6e-6f0e-5c55-8a10-2c8f7a0c9f11"}))]
pub(crate) struct SayTyping {
    #[schema(inline)]
    action: TypingAction,
    conversation_id: ConversationId,
}

/// Says that one has read.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"action": "mark_read", "conversationId": "3b0c2f6e-6f0e-5c55-8a10-2c8f7a0c9f11"}))]
pub(crate) struct MarkRead {
    #[schema(inline)]
    action: ReadAction,
    conversation_id: ConversationId,
    /// Up to this message; where it isn't said, everything so far.
    message_id: Option<MessageId>,
}

/// Gives a message another content.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"content": "hello @bob"}))]
pub(crate) struct EditMessage {
    /// The new content, whole, of up to 4,000 characters. May be empty only with attachments.
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

/// What was made: a message, a conversation or a reaction.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Made {
    Message(MessageView),
    Conversation(Begun),
    Reaction(Reacted),
}

/// What was done; for a command that was repeated with its key, what was made.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Done {
    Read(Read),
    Reaction(Reacted),
    Message(MessageView),
    Conversation(Begun),
}
