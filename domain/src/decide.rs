//! Decides commands: turns a command and the known facts into an event, or refuses it. A decision may rest on old
//! facts; it must never rest on anything but its arguments.

use std::collections::HashSet;

use uuid::Uuid;

use crate::command::{Command, SendMessage};
use crate::event::{ConversationKind, Event, EventData, MessageSent, Request};
use crate::facts::{ConversationFacts, Facts, MessageFacts};
use crate::ids::{ConversationId, EventId, IdempotencyKey, MessageId, UserId};
use crate::rejection::{FieldError, Rejection};
use crate::timestamp::Timestamp;
use crate::{content, limits, mentions, text};

/// What a decision needs in addition to the command and the facts.
#[derive(Debug, Clone)]
pub struct Context {
    /// The caller, who becomes the event's actor.
    pub actor: UserId,
    /// The present time, which becomes the event's time.
    pub now: Timestamp,
    /// The idempotency key, if the client sent one.
    pub key: Option<IdempotencyKey>,
    /// A fresh id for the event. Without a key, the event takes it.
    pub fresh_event_id: Uuid,
    /// A fresh id for the message or group. Without a key, the message or group takes it.
    pub fresh_entity_id: Uuid,
}

impl Context {
    fn event(&self, command: &Command, conversation_id: ConversationId, data: EventData) -> Event {
        let is_typing = matches!(data, EventData::TypingStart {} | EventData::TypingStop {});
        let key = self.key.as_ref().filter(|_| !is_typing);
        let event_id = match key {
            Some(key) => EventId::for_key(conversation_id, &self.actor, key, data.type_name()),
            None => EventId(self.fresh_event_id),
        };
        Event {
            event_id,
            occurred_at: self.now,
            conversation_id,
            actor_id: self.actor.clone(),
            request: key.map(|key| Request { key: key.clone(), hash: command.hash() }),
            data,
        }
    }

    /// The id of the conversation that a command creates.
    pub fn conversation_to_create(&self, kind: ConversationKind, participant_ids: &[UserId]) -> ConversationId {
        match (kind, participant_ids, &self.key) {
            (ConversationKind::Direct, [one, other], _) => ConversationId::direct(one, other),
            (_, _, Some(key)) => ConversationId::for_key(&self.actor, key),
            (_, _, None) => ConversationId(self.fresh_entity_id),
        }
    }
}

/// Decides a command: returns its event. `facts` must be about the conversation and message that the command names.
///
/// A valid command always has an event, even if it seems to change nothing. Only the fold knows whether it does.
///
/// # Errors
/// Why the caller can't do this. There is no event then.
pub fn decide(context: &Context, command: &Command, facts: &Facts) -> Result<Event, Rejection> {
    let (conversation_id, data) = match command {
        Command::Conversation { kind, title, participant_ids } => {
            let id = context.conversation_to_create(*kind, participant_ids);
            let (kind, title, participant_ids) = (*kind, title.clone(), participant_ids.clone());
            (id, EventData::ConversationCreated { kind, title, participant_ids })
        }
        Command::Message(send) => {
            let conversation = require_conversation(facts, "conversationId")?;
            check_same_conversation("replyToId", send.reply_to_id, conversation.id, facts)?;
            (conversation.id, message_sent(context, send, conversation)?)
        }
        Command::Edit { message_id, content } => {
            let KnownMessage { conversation, message } = require_own_message(context, facts)?;
            if message.deleted_at.is_some() {
                return Err(Rejection::MessageDeleted);
            }
            if text::is_blank(content) && !message.has_attachments {
                return Err(content::blank_error().into());
            }
            let mentions = all_mentions(content, &[], &conversation.participants)?;
            let (message_id, content) = (*message_id, content.clone());
            (conversation.id, EventData::MessageEdited { message_id, content, mentions })
        }
        Command::Delete { message_id } => {
            let known = require_own_message(context, facts)?;
            (known.conversation.id, EventData::MessageDeleted { message_id: *message_id })
        }
        Command::Reaction { message_id, emoji, label } => {
            let KnownMessage { conversation, message } = require_undeleted_message(facts)?;
            if !message.has_had(emoji) && message.emoji.len() >= limits::MAX_EMOJI_PER_MESSAGE {
                let detail = format!("the message already has {} different emoji", limits::MAX_EMOJI_PER_MESSAGE);
                return Err(FieldError::new("emoji", "too_many", detail).into());
            }
            let (message_id, emoji, label) = (*message_id, emoji.clone(), label.clone());
            (conversation.id, EventData::ReactionAdded { message_id, emoji, label })
        }
        Command::RemoveReaction { message_id, emoji } => {
            let known = require_undeleted_message(facts)?;
            (known.conversation.id, EventData::ReactionRemoved { message_id: *message_id, emoji: emoji.clone() })
        }
        Command::TypingStart { .. } => (require_conversation(facts, "conversationId")?.id, EventData::TypingStart {}),
        Command::TypingStop { .. } => (require_conversation(facts, "conversationId")?.id, EventData::TypingStop {}),
        Command::MarkRead { message_id, .. } => {
            let conversation = require_conversation(facts, "conversationId")?;
            check_same_conversation("messageId", *message_id, conversation.id, facts)?;
            (conversation.id, EventData::MessagesRead { message_id: *message_id })
        }
    };
    let mut event = context.event(command, conversation_id, data);
    if let (Command::Delete { .. }, Some(message)) = (command, &facts.message) {
        // A repeated deletion has the time of the first, which the message keeps. A client that learns of the deletion
        // only now then has the right time.
        event.occurred_at = message.deleted_at.unwrap_or(event.occurred_at);
    }
    Ok(event)
}

/// The notifications that follow a sent message on the log: one for each mentioned participant except the sender. They
/// derive from the event alone, so a retry appends the same ones.
pub fn notifications(sent: &Event) -> Vec<Event> {
    let EventData::MessageSent(message) = &sent.data else { return Vec::new() };
    let notification = |user: &UserId| Event {
        event_id: EventId::for_mention(sent.event_id, user),
        occurred_at: sent.occurred_at,
        conversation_id: sent.conversation_id,
        actor_id: sent.actor_id.clone(),
        request: None,
        data: EventData::MentionNotification { message_id: message.message_id, user_id: user.clone() },
    };
    message.mentions.iter().filter(|user| **user != sent.actor_id).map(notification).collect()
}

fn not_found(field: &str) -> Rejection {
    Rejection::NotFound(FieldError::new(field, "not_found", "there is nothing with this id that you can see"))
}

fn message_sent(
    context: &Context,
    send: &SendMessage,
    conversation: &ConversationFacts,
) -> Result<EventData, Rejection> {
    let message_id = match &context.key {
        Some(key) => MessageId::for_key(conversation.id, &context.actor, key),
        None => MessageId(context.fresh_entity_id),
    };
    Ok(EventData::MessageSent(MessageSent {
        message_id,
        content: send.content.clone(),
        message_type: send.message_type,
        attachments: send.attachments.clone(),
        mentions: all_mentions(&send.content, &send.mentions, &conversation.participants)?,
        reply_to_id: send.reply_to_id,
    }))
}

/// The users whom the request lists and those whom the text names, each once.
fn all_mentions(text: &str, listed: &[UserId], participants: &[UserId]) -> Result<Vec<UserId>, Rejection> {
    let participant_set: HashSet<&UserId> = participants.iter().collect();
    let errors: Vec<FieldError> = listed
        .iter()
        .enumerate()
        .filter(|(_, user)| !participant_set.contains(user))
        .map(|(index, _)| {
            let detail = "is not a participant of the conversation";
            FieldError::new(format!("mentions[{index}]"), "not_a_participant", detail)
        })
        .collect();
    if !errors.is_empty() {
        return Err(Rejection::Invalid(errors));
    }
    let mut all = listed.to_vec();
    for user in mentions::mentioned_users(text, participants) {
        if !all.contains(user) {
            all.push(user.clone());
        }
    }
    if all.len() > limits::MAX_MENTIONS {
        let detail = format!("must mention at most {} participants", limits::MAX_MENTIONS);
        return Err(FieldError::new("mentions", "too_many", detail).into());
    }
    Ok(all)
}

/// The conversation, if the caller is a participant. `field` is the field of the request that named it.
fn require_conversation<'a>(facts: &'a Facts, field: &str) -> Result<&'a ConversationFacts, Rejection> {
    facts.conversation.as_ref().filter(|conversation| conversation.is_participant).ok_or_else(|| not_found(field))
}

/// A message that the caller may see, and its conversation.
struct KnownMessage<'a> {
    conversation: &'a ConversationFacts,
    message: &'a MessageFacts,
}

/// The message, if the caller is a participant of its conversation.
fn require_message(facts: &Facts) -> Result<KnownMessage<'_>, Rejection> {
    let conversation = require_conversation(facts, "messageId")?;
    let message = facts.message.as_ref().ok_or_else(|| not_found("messageId"))?;
    Ok(KnownMessage { conversation, message })
}

fn require_undeleted_message(facts: &Facts) -> Result<KnownMessage<'_>, Rejection> {
    let known = require_message(facts)?;
    if known.message.deleted_at.is_some() { Err(Rejection::MessageDeleted) } else { Ok(known) }
}

/// The message, if the caller wrote it.
fn require_own_message<'a>(context: &Context, facts: &'a Facts) -> Result<KnownMessage<'a>, Rejection> {
    let known = require_message(facts)?;
    if known.message.sender_id == context.actor { Ok(known) } else { Err(Rejection::NotAuthor) }
}

/// Checks that a message to which the command refers is in the same conversation. The caller can't tell a message
/// elsewhere from one that doesn't exist.
fn check_same_conversation(
    field: &str,
    message_id: Option<MessageId>,
    conversation_id: ConversationId,
    facts: &Facts,
) -> Result<(), Rejection> {
    let is_here = |message: &MessageFacts| message.conversation_id == conversation_id;
    if message_id.is_none() || facts.message.as_ref().is_some_and(is_here) { Ok(()) } else { Err(not_found(field)) }
}
