//! The fold: from the log to the read model. Pure, total and deterministic: every event of every history
//! has one effect, and an invalid, late or repeated one has none.

use crate::event::{ConversationKind, Event, EventData, MessageSent};
use crate::ids::{ConversationId, MessageId, UserId};
use crate::position::Position;
use crate::state::{Applied, Changes, Conversation, Member, Message, Reaction, State};
use crate::timestamp::Timestamp;

/// Folds one event into the state and notes what changed. The state must hold what
/// [`crate::state::Touched::by`] names for the event, as far as it exists.
pub fn fold(state: &mut State, changes: &mut Changes, event: &Event, position: Position) {
    if !event.data.folds() || !remember(state, changes, event, position) {
        return;
    }
    let at = Action { conversation: event.conversation_id, actor: &event.actor_id, at: event.occurred_at, position };
    let changed = match &event.data {
        EventData::ConversationCreated { kind, title, participant_ids } => {
            create(state, changes, &at, *kind, title.clone(), participant_ids)
        }
        _ if !state.members.contains_key(&(event.conversation_id, event.actor_id.clone())) => false,
        EventData::MessageSent(sent) => send(state, changes, &at, sent),
        EventData::MessagesRead { message_id } => read(state, changes, &at, *message_id),
        EventData::MessageEdited { message_id, content, mentions } => {
            change(state, changes, &at, *message_id, |message| edit(message, at.actor, content, mentions, at.at))
        }
        EventData::MessageDeleted { message_id } => {
            change(state, changes, &at, *message_id, |message| delete(message, at.actor, at.at))
        }
        EventData::ReactionAdded { message_id, emoji, label } => {
            change(state, changes, &at, *message_id, |message| react(message, at.actor, emoji, label.as_deref()))
        }
        EventData::ReactionRemoved { message_id, emoji } => {
            change(state, changes, &at, *message_id, |message| take_back(message, at.actor, emoji))
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

/// Who does something, where, when, and at which position of the log.
struct Action<'a> {
    conversation: ConversationId,
    actor: &'a UserId,
    at: Timestamp,
    position: Position,
}

/// Whether the event is the first of its id and of its key. Remembered whatever its effect: a key that came
/// with an event that lost a race is used up too.
fn remember(state: &mut State, changes: &mut Changes, event: &Event, position: Position) -> bool {
    let conversation_id = event.conversation_id;
    let scoped = event.request.as_ref().map(|request| (conversation_id, event.actor_id.clone(), request.key.clone()));
    if state.applied.contains(&(conversation_id, event.event_id))
        || scoped.as_ref().is_some_and(|scoped| state.keys.contains(scoped))
    {
        return false;
    }
    state.applied.insert((conversation_id, event.event_id));
    let key = scoped.as_ref().map(|(_, actor, key)| (actor.clone(), key.clone()));
    state.keys.extend(scoped);
    changes.applied.push(Applied { conversation_id, event_id: event.event_id, key, position });
    true
}

fn create(
    state: &mut State,
    changes: &mut Changes,
    action: &Action<'_>,
    kind: ConversationKind,
    title: Option<String>,
    participant_ids: &[UserId],
) -> bool {
    let mut participants: Vec<UserId> = Vec::with_capacity(participant_ids.len());
    let mut seen = std::collections::HashSet::new();
    participants.extend(participant_ids.iter().filter(|user| seen.insert(*user)).cloned());
    if state.conversations.contains_key(&action.conversation) || participants.is_empty() {
        return false;
    }
    for (ordinal, user) in (0..).zip(&participants) {
        let key = (action.conversation, user.clone());
        let member = Member { ordinal, last_read_seq: 0, last_read_at: None, position: action.position };
        state.members.insert(key.clone(), member);
        changes.members.insert(key);
    }
    let conversation = Conversation {
        kind,
        title,
        participant_count: i64::try_from(participants.len()).unwrap_or(i64::MAX),
        created_at: action.at,
        updated_at: action.at,
        last_seq: 0,
        last_message: None,
        position: action.position,
    };
    state.conversations.insert(action.conversation, conversation);
    changes.created.push((action.conversation, participants));
    true
}

fn send(state: &mut State, changes: &mut Changes, action: &Action<'_>, sent: &MessageSent) -> bool {
    let key = (action.conversation, sent.message_id);
    let Some(conversation) = state.conversations.get_mut(&action.conversation) else { return false };
    if state.messages.contains_key(&key) {
        return false;
    }
    conversation.last_seq += 1;
    conversation.last_message = Some(sent.message_id);
    conversation.updated_at = conversation.updated_at.max(action.at);
    let message = Message {
        seq: conversation.last_seq,
        sender_id: action.actor.clone(),
        content: Some(sent.content.clone()),
        message_type: sent.message_type,
        attachments: sent.attachments.clone(),
        mentions: sent.mentions.clone(),
        reply_to_id: sent.reply_to_id,
        reactions: Vec::new(),
        created_at: action.at,
        edited_at: None,
        deleted_at: None,
        position: action.position,
    };
    let seq = message.seq;
    state.messages.insert(key, message);
    changes.messages.insert(key);
    // Who writes has read what is above.
    mark(state, changes, action, seq);
    true
}

fn read(state: &mut State, changes: &mut Changes, action: &Action<'_>, up_to: Option<MessageId>) -> bool {
    let seq = match up_to {
        Some(message_id) => state.messages.get(&(action.conversation, message_id)).map(|message| message.seq),
        None => state.conversations.get(&action.conversation).map(|conversation| conversation.last_seq),
    };
    seq.is_some_and(|seq| mark(state, changes, action, seq))
}

/// Moves the actor's read mark forward; never back.
fn mark(state: &mut State, changes: &mut Changes, action: &Action<'_>, seq: i64) -> bool {
    let key = (action.conversation, action.actor.clone());
    let Some(member) = state.members.get_mut(&key).filter(|member| member.last_read_seq < seq) else { return false };
    member.last_read_seq = seq;
    member.last_read_at = Some(action.at);
    member.position = action.position;
    changes.members.insert(key);
    true
}

/// Changes a message that is there and not deleted.
fn change(
    state: &mut State,
    changes: &mut Changes,
    action: &Action<'_>,
    message_id: MessageId,
    apply: impl FnOnce(&mut Message) -> bool,
) -> bool {
    let key = (action.conversation, message_id);
    let Some(message) = state.messages.get_mut(&key).filter(|message| message.deleted_at.is_none()) else {
        return false;
    };
    if !apply(message) {
        return false;
    }
    message.position = action.position;
    changes.messages.insert(key);
    true
}

fn edit(message: &mut Message, actor: &UserId, content: &str, mentions: &[UserId], at: Timestamp) -> bool {
    if message.sender_id != *actor {
        return false;
    }
    message.content = Some(content.to_owned());
    message.mentions = mentions.to_vec();
    message.edited_at = Some(at);
    true
}

fn delete(message: &mut Message, actor: &UserId, at: Timestamp) -> bool {
    if message.sender_id != *actor {
        return false;
    }
    message.content = None;
    message.attachments.clear();
    message.mentions.clear();
    message.reactions.clear();
    message.deleted_at = Some(at);
    true
}

fn react(message: &mut Message, actor: &UserId, emoji: &str, label: Option<&str>) -> bool {
    let index = match message.reactions.iter().position(|reaction| reaction.emoji == emoji) {
        Some(index) => index,
        None => {
            message.reactions.push(Reaction { emoji: emoji.to_owned(), label: None, user_ids: Vec::new() });
            message.reactions.len() - 1
        }
    };
    let reaction = &mut message.reactions[index];
    let new_user = !reaction.user_ids.contains(actor);
    let new_label = label.is_some() && label != reaction.label.as_deref();
    if new_user {
        reaction.user_ids.push(actor.clone());
    }
    if let Some(label) = label {
        reaction.label = Some(label.to_owned());
    }
    new_user || new_label
}

fn take_back(message: &mut Message, actor: &UserId, emoji: &str) -> bool {
    let Some(reaction) = message.reactions.iter_mut().find(|reaction| reaction.emoji == emoji) else { return false };
    let before = reaction.user_ids.len();
    reaction.user_ids.retain(|user| user != actor);
    reaction.user_ids.len() < before
}
