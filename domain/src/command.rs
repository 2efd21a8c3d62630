//! Commands: what a caller wants to do. This module reads them from the bodies of requests. It checks what the body
//! alone shows; it must not depend on any conversation or message.

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use url::Url;

use crate::event::{Attachment, ConversationKind, MessageType};
use crate::fields::Fields;
use crate::ids::{ConversationId, MessageId, UserId};
use crate::rejection::FieldError;
use crate::{content, emoji, limits, mentions, text};

/// A command that is valid by itself. [`crate::decide`] decides whether the caller may do it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Command {
    /// Create a conversation.
    Conversation {
        /// Direct or group.
        #[serde(rename = "type")]
        kind: ConversationKind,
        /// The title. A direct conversation has none.
        title: Option<String>,
        /// All participants, each once, the caller first.
        participant_ids: Vec<UserId>,
    },
    /// Send a message.
    Message(SendMessage),
    /// Edit a message.
    Edit {
        /// The message to edit.
        message_id: MessageId,
        /// The new content. It replaces the old content.
        content: String,
    },
    /// Delete a message.
    Delete {
        /// The message to delete.
        message_id: MessageId,
    },
    /// Add a reaction to a message.
    Reaction {
        /// The message to react to.
        message_id: MessageId,
        /// The emoji to react with.
        emoji: String,
        /// A label to store with the emoji.
        label: Option<String>,
    },
    /// Remove a reaction of the caller from a message.
    RemoveReaction {
        /// The message with the reaction.
        message_id: MessageId,
        /// The emoji of the reaction.
        emoji: String,
    },
    /// Announce that the caller is typing.
    TypingStart {
        /// The conversation in which the caller is typing.
        conversation_id: ConversationId,
    },
    /// Announce that the caller has stopped typing.
    TypingStop {
        /// The conversation in which the caller was typing.
        conversation_id: ConversationId,
    },
    /// Move the caller's read mark forward.
    MarkRead {
        /// The conversation that the caller has read.
        conversation_id: ConversationId,
        /// The last message that the caller has read. None means the newest.
        message_id: Option<MessageId>,
    },
}

/// The command to send a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SendMessage {
    /// The conversation to send to.
    pub conversation_id: ConversationId,
    /// The text. Empty only with attachments.
    pub content: String,
    /// How clients show the message.
    pub message_type: MessageType,
    /// Files that are stored elsewhere.
    pub attachments: Vec<Attachment>,
    /// The message that this one replies to.
    pub reply_to_id: Option<MessageId>,
    /// Users whom the client mentions, in addition to those whom the content names.
    pub mentions: Vec<UserId>,
}

const ACTIONS: &str = "conversation, message, reaction, remove_reaction, typing_start, typing_stop, mark_read";

impl Command {
    /// Reads the body of `POST /api/messages`.
    ///
    /// # Errors
    /// One error for each wrong or unknown field.
    pub fn from_post(caller: &UserId, body: Map<String, Value>) -> Result<Self, Vec<FieldError>> {
        let mut fields = Fields::new("", body);
        let action = match fields.take("action") {
            None => "message".to_owned(),
            Some(Value::String(action)) => action,
            Some(_) => return Err(vec![FieldError::new("action", "wrong_type", "must be a string")]),
        };
        let command = match action.as_str() {
            "conversation" => parse_conversation(caller, &mut fields),
            "message" => parse_message(&mut fields),
            "reaction" => parse_reaction(&mut fields),
            "remove_reaction" => {
                let message_id = fields.required_id("messageId");
                let emoji = parse_emoji(&mut fields);
                message_id.zip(emoji).map(|(message_id, emoji)| Self::RemoveReaction { message_id, emoji })
            }
            "typing_start" => {
                fields.required_id("conversationId").map(|conversation_id| Self::TypingStart { conversation_id })
            }
            "typing_stop" => {
                fields.required_id("conversationId").map(|conversation_id| Self::TypingStop { conversation_id })
            }
            "mark_read" => {
                let conversation_id = fields.required_id("conversationId");
                let message_id = fields.id("messageId");
                conversation_id.map(|conversation_id| Self::MarkRead { conversation_id, message_id })
            }
            _ => {
                let error = FieldError::new("action", "unknown_action", format!("must be one of {ACTIONS}"));
                return Err(vec![error]);
            }
        };
        command_or_errors(command, fields)
    }

    /// Reads the body of `PATCH /api/messages/{messageId}`.
    ///
    /// # Errors
    /// One error for each wrong or unknown field.
    pub fn from_patch(message_id: MessageId, body: Map<String, Value>) -> Result<Self, Vec<FieldError>> {
        let mut fields = Fields::new("", body);
        let content = fields.required_text("content");
        if let Some(error) = content.as_deref().and_then(content::check) {
            fields.errors.push(error);
        }
        command_or_errors(content.map(|content| Self::Edit { message_id, content }), fields)
    }

    /// SHA-256 in hex over the command's canonical JSON (RFC 8785). It tells a retry from another request with the same
    /// idempotency key.
    pub fn hash(&self) -> String {
        // Plain data with text keys always has a canonical form, so this can't fail.
        let canonical = serde_json_canonicalizer::to_vec(self).unwrap_or_default();
        Sha256::digest(&canonical).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The conversation that the command names, if it names one.
    pub fn conversation_id(&self) -> Option<ConversationId> {
        match self {
            Self::Message(send) => Some(send.conversation_id),
            Self::TypingStart { conversation_id }
            | Self::TypingStop { conversation_id }
            | Self::MarkRead { conversation_id, .. } => Some(*conversation_id),
            _ => None,
        }
    }

    /// The message that the decision needs to know, if it needs one.
    pub fn message_id(&self) -> Option<MessageId> {
        match self {
            Self::Message(send) => send.reply_to_id,
            Self::MarkRead { message_id, .. } => *message_id,
            Self::Edit { message_id, .. }
            | Self::Delete { message_id }
            | Self::Reaction { message_id, .. }
            | Self::RemoveReaction { message_id, .. } => Some(*message_id),
            _ => None,
        }
    }

    /// Whether the decision needs the list of participants, to find mentions. Otherwise it only needs to know whether
    /// the caller is one.
    pub fn needs_participants(&self) -> bool {
        match self {
            Self::Message(send) => !send.mentions.is_empty() || mentions::may_mention(&send.content),
            Self::Edit { content, .. } => mentions::may_mention(content),
            _ => false,
        }
    }
}

/// The command, unless a field is wrong or unknown.
fn command_or_errors(command: Option<Command>, fields: Fields) -> Result<Command, Vec<FieldError>> {
    let errors = fields.finish();
    match command {
        Some(command) if errors.is_empty() => Ok(command),
        _ => Err(errors),
    }
}

fn parse_conversation(caller: &UserId, fields: &mut Fields) -> Option<Command> {
    let words = [("DIRECT", ConversationKind::Direct), ("GROUP", ConversationKind::Group)];
    let kind = fields.one_of("type", &words);
    let title = fields.line("title", limits::MAX_TITLE_CHARS);
    if !fields.require("participantIds") {
        return None;
    }
    let others = fields.user_ids("participantIds", limits::MAX_PARTICIPANTS)?;
    let mut participant_ids = vec![caller.clone()];
    participant_ids.extend(others.into_iter().filter(|user| user != caller));
    if participant_ids.len() < 2 && fields.errors.is_empty() {
        fields.push_error("participantIds", "too_few", "must name at least one other user");
    }
    if participant_ids.len() > limits::MAX_PARTICIPANTS {
        let detail = format!("must be at most {} users, including the caller", limits::MAX_PARTICIPANTS);
        fields.push_error("participantIds", "too_many", detail);
    }
    let is_pair = participant_ids.len() == 2;
    let default_kind = if is_pair && title.is_none() { ConversationKind::Direct } else { ConversationKind::Group };
    let kind = kind.unwrap_or(default_kind);
    if kind == ConversationKind::Direct {
        if participant_ids.len() > 2 {
            fields.push_error("participantIds", "too_many", "a direct conversation has exactly two participants");
        }
        if title.is_some() {
            fields.push_error("title", "not_allowed", "a direct conversation has no title");
        }
    }
    Some(Command::Conversation { kind, title, participant_ids })
}

fn parse_message(fields: &mut Fields) -> Option<Command> {
    let conversation_id = fields.required_id("conversationId");
    let words = [
        ("TEXT", MessageType::Text),
        ("IMAGE", MessageType::Image),
        ("VIDEO", MessageType::Video),
        ("AUDIO", MessageType::Audio),
        ("FILE", MessageType::File),
    ];
    let message_type = fields.one_of("messageType", &words).unwrap_or_default();
    let AttachmentsField { has_items: has_attachments, valid: attachments } = parse_attachments(fields);
    let content =
        if has_attachments { fields.text("content").or(Some(String::new())) } else { fields.required_text("content") };
    let reply_to_id = fields.id("replyToId");
    let mentions = fields.user_ids("mentions", limits::MAX_MENTIONS).unwrap_or_default();
    let content = content?;
    if let Some(error) = content::check(&content) {
        fields.errors.push(error);
    } else if !has_attachments && text::is_blank(&content) {
        fields.errors.push(content::blank_error());
    }
    let conversation_id = conversation_id?;
    Some(Command::Message(SendMessage { conversation_id, content, message_type, attachments, reply_to_id, mentions }))
}

/// The attachments of a message, and whether the client sent any.
struct AttachmentsField {
    /// Whether the list has items, valid or not.
    has_items: bool,
    valid: Vec<Attachment>,
}

fn parse_attachments(fields: &mut Fields) -> AttachmentsField {
    let items = fields.list("attachments", limits::MAX_ATTACHMENTS).unwrap_or_default();
    let has_items = !items.is_empty();
    let mut valid = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let path = format!("attachments[{index}]");
        let Value::Object(object) = item else {
            fields.push_error(&path, "wrong_type", "must be an object");
            continue;
        };
        let mut item = Fields::new(path, object);
        let url = item.required_line("url", limits::MAX_URL_CHARS);
        if url.as_deref().is_some_and(|url| !is_public_url(url)) {
            item.push_error("url", "invalid_url", "must be an https URL with a host and without credentials");
        }
        let name = item.required_line("name", limits::MAX_NAME_CHARS);
        let mime_type = item.required_line("mimeType", limits::MAX_NAME_CHARS);
        if mime_type.as_deref().is_some_and(|mime| !is_media_type(mime)) {
            item.push_error("mimeType", "invalid_value", "must be a media type such as image/png");
        }
        let size = parse_size(&mut item);
        fields.errors.extend(item.finish());
        if let (Some(url), Some(name), Some(mime_type), Some(size)) = (url, name, mime_type, size) {
            valid.push(Attachment { url, name, mime_type, size });
        }
    }
    AttachmentsField { has_items, valid }
}

fn parse_size(item: &mut Fields) -> Option<u64> {
    /// Every JSON reader represents whole numbers up to this one exactly (RFC 8259, section 6).
    const MAX: u64 = (1 << 53) - 1;
    match item.take("size") {
        None => item.push_error("size", "required", "is required"),
        Some(value) => match whole_number(&value).filter(|size| *size <= MAX) {
            Some(size) => return Some(size),
            None if value.is_number() => item.push_error("size", "invalid_value", "must be a whole number of bytes"),
            None => item.push_error("size", "wrong_type", "must be a number"),
        },
    }
    None
}

/// The number that a JSON value is, if it is whole: `5`, and also `5.0` and `5e0`, which some languages write for it.
fn whole_number(value: &Value) -> Option<u64> {
    // Above this, an f64 no longer tells neighbours apart.
    let exact = 0.0..=(1_u64 << 53) as f64;
    let from_float = |number: f64| (number.fract() == 0.0 && exact.contains(&number)).then_some(number as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(from_float))
}

/// Whether a text is a URL as the URL Standard of the WHATWG parses it, and so every browser: `https`, with a host, and
/// without credentials, which everybody who sees the message would see.
fn is_public_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        let has_credentials = !url.username().is_empty() || url.password().is_some();
        url.scheme() == "https" && url.has_host() && !has_credentials
    })
}

fn is_media_type(text: &str) -> bool {
    let is_token = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    let without_parameters = text.split(';').next().unwrap_or_default().trim_end();
    without_parameters.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

fn parse_reaction(fields: &mut Fields) -> Option<Command> {
    let message_id = fields.required_id("messageId");
    let emoji = parse_emoji(fields);
    let reaction = fields.line("reaction", limits::MAX_LABEL_CHARS);
    let (message_id, emoji) = message_id.zip(emoji)?;
    Some(match reaction.as_deref() {
        Some("remove") => Command::RemoveReaction { message_id, emoji },
        None | Some("add") => Command::Reaction { message_id, emoji, label: None },
        Some(_) => Command::Reaction { message_id, emoji, label: reaction },
    })
}

fn parse_emoji(fields: &mut Fields) -> Option<String> {
    let text = fields.required_text("emoji")?;
    if emoji::is_emoji(&text) {
        return Some(text);
    }
    fields.push_error(
        "emoji",
        "not_an_emoji",
        format!("must be one emoji of at most {} bytes", limits::MAX_EMOJI_BYTES),
    );
    None
}
