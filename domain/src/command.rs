//! Commands: what a caller asks for, read from the body of a request.

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::content;
use crate::emoji;
use crate::event::{Attachment, ConversationKind, MessageType};
use crate::fields::Fields;
use crate::ids::{ConversationId, MessageId, UserId};
use crate::limits;
use crate::rejection::FieldError;

/// A command that is valid by itself; whether it can be done is for [`crate::decide`] to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Command {
    /// Begin a conversation.
    Conversation {
        /// Direct or group.
        #[serde(rename = "type")]
        kind: ConversationKind,
        /// The title, of a group only.
        title: Option<String>,
        /// Everyone in it, the caller first, each once.
        participant_ids: Vec<UserId>,
    },
    /// Send a message.
    Message(SendMessage),
    /// Give a message another content.
    Edit {
        /// Which message.
        message_id: MessageId,
        /// The new content, whole.
        content: String,
    },
    /// Delete a message.
    Delete {
        /// Which message.
        message_id: MessageId,
    },
    /// React to a message.
    Reaction {
        /// Which message.
        message_id: MessageId,
        /// One emoji.
        emoji: String,
        /// A label to store with the emoji.
        label: Option<String>,
    },
    /// Take a reaction back.
    RemoveReaction {
        /// Which message.
        message_id: MessageId,
        /// One emoji.
        emoji: String,
    },
    /// Say that one is typing.
    TypingStart {
        /// Where.
        conversation_id: ConversationId,
    },
    /// Say that one has stopped typing.
    TypingStop {
        /// Where.
        conversation_id: ConversationId,
    },
    /// Say that one has read.
    MarkRead {
        /// Where.
        conversation_id: ConversationId,
        /// Up to this message; none: up to the newest.
        message_id: Option<MessageId>,
    },
}

/// What it takes to send a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SendMessage {
    /// Where to.
    pub conversation_id: ConversationId,
    /// The text.
    pub content: String,
    /// What kind of message it is.
    pub message_type: MessageType,
    /// Files that live elsewhere.
    pub attachments: Vec<Attachment>,
    /// The message that this one answers.
    pub reply_to_id: Option<MessageId>,
    /// People whom the client names as mentioned, besides those in the text.
    pub mentions: Vec<UserId>,
}

const ACTIONS: &str = "conversation, message, reaction, remove_reaction, typing_start, typing_stop, mark_read";

impl Command {
    /// Reads the body of `POST /api/messages`.
    ///
    /// # Errors
    /// Every field that is wrong, unknown ones included.
    pub fn from_post(caller: &UserId, body: Map<String, Value>) -> Result<Self, Vec<FieldError>> {
        let mut fields = Fields::new("", body);
        let action = match fields.take("action") {
            None => "message".to_owned(),
            Some(Value::String(action)) => action,
            Some(_) => return Err(vec![FieldError::new("action", "wrong_type", "must be a string")]),
        };
        let command = match action.as_str() {
            "conversation" => conversation(caller, &mut fields),
            "message" => message(&mut fields),
            "reaction" => reaction(&mut fields),
            "remove_reaction" => {
                let (message_id, emoji) = (fields.required_id("messageId"), emoji_field(&mut fields));
                message_id.zip(emoji).map(|(message_id, emoji)| Self::RemoveReaction { message_id, emoji })
            }
            "typing_start" => {
                fields.required_id("conversationId").map(|conversation_id| Self::TypingStart { conversation_id })
            }
            "typing_stop" => {
                fields.required_id("conversationId").map(|conversation_id| Self::TypingStop { conversation_id })
            }
            "mark_read" => {
                let (conversation_id, message_id) = (fields.required_id("conversationId"), fields.id("messageId"));
                conversation_id.map(|conversation_id| Self::MarkRead { conversation_id, message_id })
            }
            _ => {
                let error = FieldError::new("action", "unknown_action", format!("must be one of {ACTIONS}"));
                return Err(vec![error]);
            }
        };
        finish(command, fields)
    }

    /// Reads the body of `PATCH /api/messages/{messageId}`.
    ///
    /// # Errors
    /// Every field that is wrong, unknown ones included.
    pub fn from_patch(message_id: MessageId, body: Map<String, Value>) -> Result<Self, Vec<FieldError>> {
        let mut fields = Fields::new("", body);
        let content = fields.required_text("content");
        if let Some(error) = content.as_deref().and_then(content::check) {
            fields.errors.push(error);
        }
        finish(content.map(|content| Self::Edit { message_id, content }), fields)
    }

    /// SHA-256 in hex over the command's canonical JSON (RFC 8785): what tells a retry from another request
    /// under the same key.
    pub fn hash(&self) -> String {
        // Plain data with text keys has a canonical form; it can't fail.
        let canonical = serde_json_canonicalizer::to_vec(self).unwrap_or_default();
        Sha256::digest(&canonical).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The conversation that the command names by itself, if it names one.
    pub fn conversation_id(&self) -> Option<ConversationId> {
        match self {
            Self::Message(send) => Some(send.conversation_id),
            Self::TypingStart { conversation_id }
            | Self::TypingStop { conversation_id }
            | Self::MarkRead { conversation_id, .. } => Some(*conversation_id),
            _ => None,
        }
    }

    /// The message that has to be known to decide the command, if there is one.
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

    /// Whether deciding needs everyone in the conversation, not just whether the caller is in it.
    pub fn needs_participants(&self) -> bool {
        match self {
            Self::Message(send) => !send.mentions.is_empty() || content::may_mention(&send.content),
            Self::Edit { content, .. } => content::may_mention(content),
            _ => false,
        }
    }
}

fn finish(command: Option<Command>, fields: Fields) -> Result<Command, Vec<FieldError>> {
    let errors = fields.finish();
    match command {
        Some(command) if errors.is_empty() => Ok(command),
        _ => Err(errors),
    }
}

fn conversation(caller: &UserId, fields: &mut Fields) -> Option<Command> {
    let words = [("DIRECT", ConversationKind::Direct), ("GROUP", ConversationKind::Group)];
    let kind = fields.word("type", &words);
    let title = fields.line("title", limits::TITLE_CHARS);
    if !fields.require("participantIds") {
        return None;
    }
    let others = fields.users("participantIds", limits::PARTICIPANTS)?;
    let mut participant_ids = vec![caller.clone()];
    participant_ids.extend(others.into_iter().filter(|user| user != caller));
    if participant_ids.len() < 2 && fields.errors.is_empty() {
        fields.fail("participantIds", "too_few", "must name at least one other user");
    }
    if participant_ids.len() > limits::PARTICIPANTS {
        let detail = format!("must be at most {} users, the caller included", limits::PARTICIPANTS);
        fields.fail("participantIds", "too_many", detail);
    }
    let pair = participant_ids.len() == 2;
    let kind = kind.unwrap_or(if pair && title.is_none() { ConversationKind::Direct } else { ConversationKind::Group });
    if kind == ConversationKind::Direct {
        if participant_ids.len() > 2 {
            fields.fail("participantIds", "too_many", "a direct conversation is between two");
        }
        if title.is_some() {
            fields.fail("title", "not_allowed", "a direct conversation has no title");
        }
    }
    Some(Command::Conversation { kind, title, participant_ids })
}

fn message(fields: &mut Fields) -> Option<Command> {
    let conversation_id = fields.required_id("conversationId");
    let kinds = [
        ("TEXT", MessageType::Text),
        ("IMAGE", MessageType::Image),
        ("VIDEO", MessageType::Video),
        ("AUDIO", MessageType::Audio),
        ("FILE", MessageType::File),
    ];
    let message_type = fields.word("messageType", &kinds).unwrap_or_default();
    let (attachments, any) = attachments(fields);
    let content = if any { fields.text("content").or(Some(String::new())) } else { fields.required_text("content") };
    let reply_to_id = fields.id("replyToId");
    let mentions = fields.users("mentions", limits::MENTIONS).unwrap_or_default();
    let content = content?;
    if let Some(error) = content::check(&content) {
        fields.errors.push(error);
    } else if !any && content::is_blank(&content) {
        fields.errors.push(content::blank_error());
    }
    let conversation_id = conversation_id?;
    Some(Command::Message(SendMessage { conversation_id, content, message_type, attachments, reply_to_id, mentions }))
}

/// The attachments that are right, and whether any were given.
fn attachments(fields: &mut Fields) -> (Vec<Attachment>, bool) {
    let items = fields.list("attachments", limits::ATTACHMENTS).unwrap_or_default();
    let any = !items.is_empty();
    let mut attachments = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let path = format!("attachments[{index}]");
        let Value::Object(object) = item else {
            fields.fail(&path, "wrong_type", "must be an object");
            continue;
        };
        let mut item = Fields::new(path, object);
        let url = item.required_line("url", limits::URL_CHARS);
        if url.as_deref().is_some_and(|url| !is_https(url)) {
            item.fail("url", "invalid_url", "must be an https URL");
        }
        let name = item.required_line("name", limits::NAME_CHARS);
        let mime_type = item.required_line("mimeType", limits::NAME_CHARS);
        if mime_type.as_deref().is_some_and(|mime| !is_mime(mime)) {
            item.fail("mimeType", "invalid_value", "must be a media type such as image/png");
        }
        let size = size(&mut item);
        fields.errors.extend(item.finish());
        if let (Some(url), Some(name), Some(mime_type), Some(size)) = (url, name, mime_type, size) {
            attachments.push(Attachment { url, name, mime_type, size });
        }
    }
    (attachments, any)
}

fn size(item: &mut Fields) -> Option<u64> {
    /// Whole numbers up to here are exact in every JSON reader (RFC 8259, section 6).
    const MAX: u64 = (1 << 53) - 1;
    match item.take("size") {
        None => item.fail("size", "required", "is required"),
        Some(value) => match value.as_u64().filter(|size| *size <= MAX) {
            Some(size) => return Some(size),
            None if value.is_number() => item.fail("size", "invalid_value", "must be a whole number of bytes"),
            None => item.fail("size", "wrong_type", "must be a number"),
        },
    }
    None
}

fn is_https(url: &str) -> bool {
    let host = |rest: &str| rest.split(['/', '?', '#']).next().is_some_and(|host| !host.is_empty());
    let scheme = url.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"));
    scheme && host(&url[8..]) && !url.contains(char::is_whitespace)
}

fn is_mime(text: &str) -> bool {
    let token = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    essence.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub))
}

fn reaction(fields: &mut Fields) -> Option<Command> {
    let (message_id, emoji) = (fields.required_id("messageId"), emoji_field(fields));
    let reaction = fields.line("reaction", limits::LABEL_CHARS);
    let (message_id, emoji) = message_id.zip(emoji)?;
    Some(match reaction.as_deref() {
        Some("remove") => Command::RemoveReaction { message_id, emoji },
        None | Some("add") => Command::Reaction { message_id, emoji, label: None },
        Some(_) => Command::Reaction { message_id, emoji, label: reaction },
    })
}

fn emoji_field(fields: &mut Fields) -> Option<String> {
    let text = fields.required_text("emoji")?;
    if emoji::is_emoji(&text) {
        return Some(text);
    }
    fields.fail("emoji", "not_an_emoji", format!("must be one emoji of at most {} bytes", limits::EMOJI_BYTES));
    None
}
