//! Deciding: from a command and what is known to the events that it makes.

use std::collections::HashSet;

use uuid::Uuid;

use crate::command::{Command, SendMessage};
use crate::content;
use crate::event::{ConversationKind, Event, EventData, MessageSent, Request};
use crate::facts::{ConversationFacts, Facts, MessageFacts};
use crate::ids::{ConversationId, EventId, IdempotencyKey, MessageId, UserId};
use crate::limits;
use crate::rejection::{FieldError, Rejection};
use crate::timestamp::Timestamp;

/// What a command came with, besides itself.
#[derive(Debug, Clone)]
pub struct Context {
    /// Who asks.
    pub actor: UserId,
    /// Now.
    pub now: Timestamp,
    /// The idempotency key, if the client gave one.
    pub key: Option<IdempotencyKey>,
    /// A fresh id for the event, taken when there is no key to derive one from.
    pub fresh_event: Uuid,
    /// A fresh id for the message or group, likewise.
    pub fresh_entity: Uuid,
}

impl Context {
    fn event(&self, command: &Command, conversation_id: ConversationId, data: EventData) -> Event {
        let typing = matches!(data, EventData::TypingStart {} | EventData::TypingStop {});
        let key = self.key.as_ref().filter(|_| !typing);
        let event_id = match key {
            Some(key) => EventId::for_key(conversation_id, &self.actor, key, data.type_name()),
            None => EventId(self.fresh_event),
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

    /// The id of the conversation that a command begins.
    pub fn conversation_to_create(&self, kind: ConversationKind, participant_ids: &[UserId]) -> ConversationId {
        match (kind, participant_ids, &self.key) {
            (ConversationKind::Direct, [one, other], _) => ConversationId::direct(one, other),
            (_, _, Some(key)) => ConversationId::for_key(&self.actor, key),
            (_, _, None) => ConversationId(self.fresh_entity),
        }
    }
}

/// Decides a command: the event that it makes. The facts must be those that the command names.
///
/// A valid command always makes an event, also when it seems to change nothing: only the fold knows.
///
/// # Errors
/// Why it can't be done; nothing happens then.
pub fn decide(context: &Context, command: &Command, facts: &Facts) -> Result<Event, Rejection> {
    let (conversation_id, data) = match command {
        Command::Conversation { kind, title, participant_ids } => {
            let id = context.conversation_to_create(*kind, participant_ids);
            let (kind, title, participant_ids) = (*kind, title.clone(), participant_ids.clone());
            (id, EventData::ConversationCreated { kind, title, participant_ids })
        }
        Command::Message(send) => {
            let conversation = joined(facts, "conversationId")?;
            check_same_conversation("replyToId", send.reply_to_id, conversation.id, facts)?;
            (conversation.id, message(context, send, conversation)?)
        }
        Command::Edit { message_id, content } => {
            let (conversation, message) = own_message(context, facts)?;
            if message.deleted_at.is_some() {
                return Err(Rejection::MessageDeleted);
            }
            if content::is_blank(content) && !message.has_attachments {
                return Err(content::blank_error().into());
            }
            let mentions = mentions(content, &[], &conversation.participants)?;
            let (message_id, content) = (*message_id, content.clone());
            (conversation.id, EventData::MessageEdited { message_id, content, mentions })
        }
        Command::Delete { message_id } => {
            let (conversation, _) = own_message(context, facts)?;
            (conversation.id, EventData::MessageDeleted { message_id: *message_id })
        }
        Command::Reaction { message_id, emoji, label } => {
            let (conversation, message) = live_message(facts)?;
            if !message.emoji.contains(emoji) && message.emoji.len() >= limits::EMOJI_PER_MESSAGE {
                let detail = format!("the message already has {} different emoji", limits::EMOJI_PER_MESSAGE);
                return Err(FieldError::new("emoji", "too_many", detail).into());
            }
            let (message_id, emoji, label) = (*message_id, emoji.clone(), label.clone());
            (conversation.id, EventData::ReactionAdded { message_id, emoji, label })
        }
        Command::RemoveReaction { message_id, emoji } => {
            let (conversation, _) = live_message(facts)?;
            (conversation.id, EventData::ReactionRemoved { message_id: *message_id, emoji: emoji.clone() })
        }
        Command::TypingStart { .. } => (joined(facts, "conversationId")?.id, EventData::TypingStart {}),
        Command::TypingStop { .. } => (joined(facts, "conversationId")?.id, EventData::TypingStop {}),
        Command::MarkRead { message_id, .. } => {
            let conversation = joined(facts, "conversationId")?;
            check_same_conversation("messageId", *message_id, conversation.id, facts)?;
            (conversation.id, EventData::MessagesRead { message_id: *message_id })
        }
    };
    let mut event = context.event(command, conversation_id, data);
    if let (Command::Delete { .. }, Some(message)) = (command, &facts.message) {
        // It says again what happened before, so that whoever hears of it only now hears the time that stays.
        event.occurred_at = message.deleted_at.unwrap_or(event.occurred_at);
    }
    Ok(event)
}

/// The notifications that follow a sent message on its key: one for each mentioned participant but the
/// sender. They derive from the event alone, so that a retry appends the same ones.
pub fn notifications(sent: &Event) -> Vec<Event> {
    let EventData::MessageSent(message) = &sent.data else { return Vec::new() };
    let notify = |user: &UserId| Event {
        event_id: EventId::for_mention(sent.event_id, user),
        occurred_at: sent.occurred_at,
        conversation_id: sent.conversation_id,
        actor_id: sent.actor_id.clone(),
        request: None,
        data: EventData::MentionNotification { message_id: message.message_id, user_id: user.clone() },
    };
    message.mentions.iter().filter(|user| **user != sent.actor_id).map(notify).collect()
}

fn not_found(field: &str) -> Rejection {
    Rejection::NotFound(FieldError::new(field, "not_found", "there is nothing with this id that you can see"))
}

fn message(context: &Context, send: &SendMessage, conversation: &ConversationFacts) -> Result<EventData, Rejection> {
    let message_id = match &context.key {
        Some(key) => MessageId::for_key(conversation.id, &context.actor, key),
        None => MessageId(context.fresh_entity),
    };
    Ok(EventData::MessageSent(MessageSent {
        message_id,
        content: send.content.clone(),
        message_type: send.message_type,
        attachments: send.attachments.clone(),
        mentions: mentions(&send.content, &send.mentions, &conversation.participants)?,
        reply_to_id: send.reply_to_id,
    }))
}

/// Those whom the client names and those whom the text names, each once.
fn mentions(text: &str, named: &[UserId], participants: &[UserId]) -> Result<Vec<UserId>, Rejection> {
    let known: HashSet<&UserId> = participants.iter().collect();
    let strangers: Vec<FieldError> = named
        .iter()
        .enumerate()
        .filter(|(_, user)| !known.contains(user))
        .map(|(index, _)| {
            let detail = "is not a participant of the conversation";
            FieldError::new(format!("mentions[{index}]"), "not_a_participant", detail)
        })
        .collect();
    if !strangers.is_empty() {
        return Err(Rejection::Invalid(strangers));
    }
    let mut mentions = named.to_vec();
    for user in content::mentions(text, participants) {
        if !mentions.contains(&user) {
            mentions.push(user);
        }
    }
    if mentions.len() > limits::MENTIONS {
        let detail = format!("must mention at most {} participants", limits::MENTIONS);
        return Err(FieldError::new("mentions", "too_many", detail).into());
    }
    Ok(mentions)
}

/// The conversation, if the caller is in it. `field` is what named it in the request.
fn joined<'a>(facts: &'a Facts, field: &str) -> Result<&'a ConversationFacts, Rejection> {
    facts.conversation.as_ref().filter(|conversation| conversation.is_participant).ok_or_else(|| not_found(field))
}

/// The message and its conversation, if the caller is in it.
fn visible_message(facts: &Facts) -> Result<(&ConversationFacts, &MessageFacts), Rejection> {
    let conversation = joined(facts, "messageId")?;
    facts.message.as_ref().map(|message| (conversation, message)).ok_or_else(|| not_found("messageId"))
}

fn live_message(facts: &Facts) -> Result<(&ConversationFacts, &MessageFacts), Rejection> {
    let (conversation, message) = visible_message(facts)?;
    if message.deleted_at.is_some() { Err(Rejection::MessageDeleted) } else { Ok((conversation, message)) }
}

fn own_message<'a>(
    context: &Context,
    facts: &'a Facts,
) -> Result<(&'a ConversationFacts, &'a MessageFacts), Rejection> {
    let (conversation, message) = visible_message(facts)?;
    if message.sender_id == context.actor { Ok((conversation, message)) } else { Err(Rejection::NotAuthor) }
}

/// A message that the command points to must be in its conversation. One elsewhere looks like none at all.
fn check_same_conversation(
    field: &str,
    message_id: Option<MessageId>,
    conversation_id: ConversationId,
    facts: &Facts,
) -> Result<(), Rejection> {
    let here = |message: &MessageFacts| message.conversation_id == conversation_id;
    if message_id.is_none() || facts.message.as_ref().is_some_and(here) { Ok(()) } else { Err(not_found(field)) }
}
