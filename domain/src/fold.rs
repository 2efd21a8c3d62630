//! The fold: applies the events of the log to the read model's state.
//!
//! The fold is pure, total and deterministic. Each event of each history has one defined effect; an invalid, late or
//! repeated event has none. The fold must never fail.

use crate::emoji;
use crate::event::{ConversationKind, Event, EventData, MessageSent};
use crate::ids::{ConversationId, MessageId, UserId};
use crate::position::Position;
use crate::state::{AppliedEvent, Changes, Conversation, Member, Message, Reaction, State};
use crate::timestamp::Timestamp;

/// Folds one event into the state, and adds what changed to `changes`. The state must contain what
/// [`crate::state::Touched::by`] names for the event, as far as that exists.
pub fn fold(state: &mut State, changes: &mut Changes, event: &Event, position: Position) {
    if !event.data.changes_state() || !record_first_use(state, changes, event, position) {
        return;
    }
    let context = EventContext {
        conversation: event.conversation_id,
        actor: &event.actor_id,
        occurred_at: event.occurred_at,
        position,
    };
    let changed = match &event.data {
        EventData::ConversationCreated { kind, title, participant_ids } => {
            create_conversation(state, changes, &context, *kind, title.clone(), participant_ids)
        }
        _ if !state.members.contains_key(&(event.conversation_id, event.actor_id.clone())) => false,
        EventData::MessageSent(sent) => add_message(state, changes, &context, sent),
        EventData::MessagesRead { message_id } => mark_read(state, changes, &context, *message_id),
        EventData::MessageEdited { message_id, content, mentions } => {
            change_message(state, changes, &context, *message_id, |message| edit(message, &context, content, mentions))
        }
        EventData::MessageDeleted { message_id } => {
            change_message(state, changes, &context, *message_id, |message| delete(message, &context))
        }
        EventData::ReactionAdded { message_id, emoji, label } => {
            let label = label.as_deref();
            change_message(state, changes, &context, *message_id, |message| {
                add_reaction(message, context.actor, emoji, label)
            })
        }
        EventData::ReactionRemoved { message_id, emoji } => {
            change_message(state, changes, &context, *message_id, |message| {
                remove_reaction(message, context.actor, emoji)
            })
        }
        EventData::TypingStart {} | EventData::TypingStop {} | EventData::MentionNotification { .. } => false,
    };
    if changed {
        changes.conversations.insert(event.conversation_id);
        if let Some(conversation) = state.conversations.get_mut(&event.conversation_id) {
            conversation.position = position;
        }
    }
}

/// The event's conversation, actor, time, and position on the log.
struct EventContext<'a> {
    conversation: ConversationId,
    actor: &'a UserId,
    occurred_at: Timestamp,
    position: Position,
}

/// Records the event's id and idempotency key, unless an earlier event has used one of them. Returns whether it
/// recorded them.
///
/// A key counts as used even if its event then has no effect, for example because the event lost a race.
fn record_first_use(state: &mut State, changes: &mut Changes, event: &Event, position: Position) -> bool {
    let conversation_id = event.conversation_id;
    let scoped_key =
        event.request.as_ref().map(|request| (conversation_id, event.actor_id.clone(), request.key.clone()));
    if state.applied.contains(&(conversation_id, event.event_id))
        || scoped_key.as_ref().is_some_and(|scoped_key| state.keys.contains(scoped_key))
    {
        return false;
    }
    state.applied.insert((conversation_id, event.event_id));
    let key = scoped_key.as_ref().map(|(_, actor, key)| (actor.clone(), key.clone()));
    state.keys.extend(scoped_key);
    changes.applied.push(AppliedEvent { conversation_id, event_id: event.event_id, key, position });
    true
}

fn create_conversation(
    state: &mut State,
    changes: &mut Changes,
    context: &EventContext<'_>,
    kind: ConversationKind,
    title: Option<String>,
    participant_ids: &[UserId],
) -> bool {
    let mut participants: Vec<UserId> = Vec::with_capacity(participant_ids.len());
    let mut seen = std::collections::HashSet::new();
    participants.extend(participant_ids.iter().filter(|user| seen.insert(*user)).cloned());
    if state.conversations.contains_key(&context.conversation) || participants.is_empty() {
        return false;
    }
    for (ordinal, user) in (0..).zip(&participants) {
        let key = (context.conversation, user.clone());
        let member = Member { ordinal, last_read_seq: 0, last_read_at: None, position: context.position };
        state.members.insert(key.clone(), member);
        changes.members.insert(key);
    }
    let conversation = Conversation {
        kind,
        title,
        participant_count: i64::try_from(participants.len()).unwrap_or(i64::MAX),
        created_at: context.occurred_at,
        updated_at: context.occurred_at,
        last_seq: 0,
        last_message: None,
        position: context.position,
    };
    state.conversations.insert(context.conversation, conversation);
    changes.created.push((context.conversation, participants));
    true
}

fn add_message(state: &mut State, changes: &mut Changes, context: &EventContext<'_>, sent: &MessageSent) -> bool {
    let key = (context.conversation, sent.message_id);
    let Some(conversation) = state.conversations.get_mut(&context.conversation) else { return false };
    if state.messages.contains_key(&key) {
        return false;
    }
    conversation.last_seq += 1;
    conversation.last_message = Some(sent.message_id);
    conversation.updated_at = conversation.updated_at.max(context.occurred_at);
    let message = Message {
        seq: conversation.last_seq,
        sender_id: context.actor.clone(),
        content: Some(sent.content.clone()),
        message_type: sent.message_type,
        attachments: sent.attachments.clone(),
        mentions: sent.mentions.clone(),
        reply_to_id: sent.reply_to_id,
        reactions: Vec::new(),
        created_at: context.occurred_at,
        edited_at: None,
        deleted_at: None,
        position: context.position,
    };
    let seq = message.seq;
    state.messages.insert(key, message);
    changes.messages.insert(key);
    // The sender of a message has read the messages above it.
    advance_read_mark(state, changes, context, seq);
    true
}

fn mark_read(state: &mut State, changes: &mut Changes, context: &EventContext<'_>, up_to: Option<MessageId>) -> bool {
    let seq = match up_to {
        Some(message_id) => state.messages.get(&(context.conversation, message_id)).map(|message| message.seq),
        None => state.conversations.get(&context.conversation).map(|conversation| conversation.last_seq),
    };
    seq.is_some_and(|seq| advance_read_mark(state, changes, context, seq))
}

/// Moves the actor's read mark forward, never back. Returns whether it moved.
fn advance_read_mark(state: &mut State, changes: &mut Changes, context: &EventContext<'_>, seq: i64) -> bool {
    let key = (context.conversation, context.actor.clone());
    let Some(member) = state.members.get_mut(&key).filter(|member| member.last_read_seq < seq) else { return false };
    member.last_read_seq = seq;
    member.last_read_at = Some(context.occurred_at);
    member.position = context.position;
    changes.members.insert(key);
    true
}

/// Changes a message that exists and isn't deleted. `apply` returns whether it changed the message.
fn change_message(
    state: &mut State,
    changes: &mut Changes,
    context: &EventContext<'_>,
    message_id: MessageId,
    apply: impl FnOnce(&mut Message) -> bool,
) -> bool {
    let key = (context.conversation, message_id);
    let Some(message) = state.messages.get_mut(&key).filter(|message| message.deleted_at.is_none()) else {
        return false;
    };
    if !apply(message) {
        return false;
    }
    message.position = context.position;
    changes.messages.insert(key);
    true
}

fn edit(message: &mut Message, context: &EventContext<'_>, content: &str, mentions: &[UserId]) -> bool {
    if message.sender_id != *context.actor {
        return false;
    }
    message.content = Some(content.to_owned());
    message.mentions = mentions.to_vec();
    message.edited_at = Some(context.occurred_at);
    true
}

fn delete(message: &mut Message, context: &EventContext<'_>) -> bool {
    if message.sender_id != *context.actor {
        return false;
    }
    message.content = None;
    message.attachments.clear();
    message.mentions.clear();
    message.reactions.clear();
    message.deleted_at = Some(context.occurred_at);
    true
}

fn add_reaction(message: &mut Message, actor: &UserId, emoji: &str, label: Option<&str>) -> bool {
    let index = match message.reactions.iter().position(|reaction| emoji::is_same(&reaction.emoji, emoji)) {
        Some(index) => index,
        None => {
            message.reactions.push(Reaction { emoji: emoji.to_owned(), label: None, user_ids: Vec::new() });
            message.reactions.len() - 1
        }
    };
    let reaction = &mut message.reactions[index];
    let is_new_user = !reaction.user_ids.contains(actor);
    let is_new_label = label.is_some() && label != reaction.label.as_deref();
    if is_new_user {
        reaction.user_ids.push(actor.clone());
    }
    if let Some(label) = label {
        reaction.label = Some(label.to_owned());
    }
    is_new_user || is_new_label
}

fn remove_reaction(message: &mut Message, actor: &UserId, emoji: &str) -> bool {
    let Some(reaction) = message.reactions.iter_mut().find(|reaction| emoji::is_same(&reaction.emoji, emoji)) else {
        return false;
    };
    let count_before = reaction.user_ids.len();
    reaction.user_ids.retain(|user| user != actor);
    reaction.user_ids.len() < count_before
}
