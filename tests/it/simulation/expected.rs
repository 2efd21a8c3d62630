//! What the read model must hold: a fold of the log that shares no code with the product's. It keeps every version of
//! each conversation, so it also tells what the read model held at any earlier offset.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use domain::event::{ConversationKind, EventData, MessageSent};
use domain::facts::MessageFacts;
use domain::state::{self, State};
use domain::view::{ConversationView, MessageView, ParticipantView, ReactionView};
use domain::{ConversationId, Event, EventId, IdempotencyKey, MessageId, Position, Timestamp, UserId};

/// All versions of all conversations.
#[derive(Default)]
pub(super) struct Expected {
    /// Oldest first. A version counts from the offset after its own.
    versions: BTreeMap<ConversationId, Vec<(Position, Rc<Conversation>)>>,
    homes: BTreeMap<MessageId, BTreeSet<ConversationId>>,
}

/// One conversation after some event, with everything in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Conversation {
    begun: Option<(ConversationKind, Option<String>, Timestamp)>,
    active_at: Option<Timestamp>,
    changed: Option<Position>,
    participants: Vec<Participant>,
    /// The message with the `seq` 1 is the first.
    messages: Vec<Message>,
    events: BTreeSet<EventId>,
    keys: BTreeSet<(UserId, IdempotencyKey)>,
}

#[derive(Debug, Clone)]
struct Participant {
    user: UserId,
    has_read: usize,
    read_at: Option<Timestamp>,
    position: Position,
}

#[derive(Debug, Clone)]
struct Message {
    sent: MessageSent,
    sender: UserId,
    at: Timestamp,
    edited_at: Option<Timestamp>,
    deleted_at: Option<Timestamp>,
    /// Emoji, label and users, in the order in which the emoji came.
    reactions: Vec<(String, Option<String>, Vec<UserId>)>,
    position: Position,
}

impl Expected {
    /// Folds the next event of a partition.
    pub(super) fn append(&mut self, event: &Event, position: Position) {
        if let Some(message) = event.data.message_id() {
            self.homes.entry(message).or_default().insert(event.conversation_id);
        }
        let versions = self.versions.entry(event.conversation_id).or_default();
        let mut next = versions.last().map_or_else(Conversation::default, |(_, newest)| Conversation::clone(newest));
        next.append(event, position);
        versions.push((position, Rc::new(next)));
    }

    /// A conversation as the events below this offset of its partition make it; none before its creation.
    pub(super) fn conversation(&self, id: ConversationId, next_offset: i64) -> Option<&Conversation> {
        let versions = self.versions.get(&id)?;
        let count = versions.partition_point(|(position, _)| position.offset < next_offset);
        let (_, version) = versions.get(count.checked_sub(1)?)?;
        version.begun.is_some().then_some(version.as_ref())
    }

    /// Offsets at which the conversation may differ, from `least` to `most`.
    pub(super) fn offsets_between(&self, id: ConversationId, least: i64, most: i64) -> impl Iterator<Item = i64> {
        let changes = self.versions.get(&id).into_iter().flatten().map(|(position, _)| position.offset + 1);
        std::iter::once(least).chain(changes.filter(move |next| (least + 1..=most).contains(next)))
    }

    /// The conversation of a message, where only one has a message with this id.
    pub(super) fn home_of(&self, id: MessageId) -> Option<ConversationId> {
        let homes = self.homes.get(&id)?;
        homes.first().copied().filter(|_| homes.len() == 1)
    }

    /// The conversations of a user, given the next offset of each conversation's partition.
    pub(super) fn conversations_of(
        &self,
        user: &UserId,
        next_offset: impl Fn(ConversationId) -> i64,
    ) -> BTreeSet<ConversationId> {
        let is_in = |id: &ConversationId| {
            let conversation = self.conversation(*id, next_offset(*id));
            conversation.is_some_and(|it| it.participants.iter().any(|it| it.user == *user))
        };
        self.versions.keys().copied().filter(is_in).collect()
    }

    /// Whether the events below the end include one with this id, or with this key.
    pub(super) fn has_used(&self, event: &Event) -> bool {
        let Some((_, newest)) = self.versions.get(&event.conversation_id).and_then(|versions| versions.last()) else {
            return false;
        };
        let key = event.request.as_ref().map(|request| (event.actor_id.clone(), request.key.clone()));
        newest.events.contains(&event.event_id) || key.is_some_and(|key| newest.keys.contains(&key))
    }

    /// The whole read model at the end of the log.
    pub(super) fn state(&self) -> State {
        let mut state = State::default();
        for (id, versions) in &self.versions {
            if let Some((_, newest)) = versions.last() {
                newest.add_to(*id, &mut state);
            }
        }
        state
    }
}

impl Conversation {
    fn append(&mut self, event: &Event, position: Position) {
        use EventData as E;
        if matches!(event.data, E::TypingStart {} | E::TypingStop {} | E::MentionNotification { .. }) {
            return;
        }
        let key = event.request.as_ref().map(|request| (event.actor_id.clone(), request.key.clone()));
        if self.events.contains(&event.event_id) || key.as_ref().is_some_and(|key| self.keys.contains(key)) {
            return;
        }
        self.events.insert(event.event_id);
        self.keys.extend(key);
        let actor = self.participants.iter().position(|it| it.user == event.actor_id);
        let has_changed = match (&event.data, actor) {
            (E::ConversationCreated { kind, title, participant_ids }, _) => {
                self.begun.is_none() && self.begin(event, (*kind, title.clone()), participant_ids, position)
            }
            (_, None) => false,
            (E::MessageSent(sent), Some(actor)) => self.add(sent, event, actor, position),
            (E::MessagesRead { message_id }, Some(actor)) => {
                let up_to = match message_id {
                    Some(id) => self.messages.iter().position(|it| it.sent.message_id == *id).map(|index| index + 1),
                    None => Some(self.messages.len()),
                };
                up_to.is_some_and(|up_to| self.participants[actor].read(up_to, event.occurred_at, position))
            }
            (data, Some(_)) => self.change(data, event, position),
        };
        if has_changed {
            self.changed = Some(position);
        }
    }

    fn begin(
        &mut self,
        event: &Event,
        (kind, title): (ConversationKind, Option<String>),
        users: &[UserId],
        position: Position,
    ) -> bool {
        for user in users {
            if self.participants.iter().all(|it| it.user != *user) {
                let participant = Participant { user: user.clone(), has_read: 0, read_at: None, position };
                self.participants.push(participant);
            }
        }
        if users.is_empty() {
            return false;
        }
        self.begun = Some((kind, title, event.occurred_at));
        self.active_at = Some(event.occurred_at);
        true
    }

    fn add(&mut self, sent: &MessageSent, event: &Event, actor: usize, position: Position) -> bool {
        if self.messages.iter().any(|it| it.sent.message_id == sent.message_id) {
            return false;
        }
        self.messages.push(Message {
            sent: sent.clone(),
            sender: event.actor_id.clone(),
            at: event.occurred_at,
            edited_at: None,
            deleted_at: None,
            reactions: Vec::new(),
            position,
        });
        self.active_at = self.active_at.max(Some(event.occurred_at));
        let count = self.messages.len();
        self.participants[actor].read(count, event.occurred_at, position);
        true
    }

    /// A change to one message.
    fn change(&mut self, data: &EventData, event: &Event, position: Position) -> bool {
        let Some(id) = data.message_id() else { return false };
        let found = self.messages.iter_mut().find(|it| it.sent.message_id == id && it.deleted_at.is_none());
        let Some(message) = found else { return false };
        let is_author = message.sender == event.actor_id;
        let has_changed = match data {
            EventData::MessageEdited { content, mentions, .. } if is_author => {
                (message.sent.content, message.sent.mentions) = (content.clone(), mentions.clone());
                message.edited_at = Some(event.occurred_at);
                true
            }
            EventData::MessageDeleted { .. } if is_author => {
                message.deleted_at = Some(event.occurred_at);
                true
            }
            EventData::ReactionAdded { emoji, label, .. } => message.react(&event.actor_id, emoji, label.as_ref()),
            EventData::ReactionRemoved { emoji, .. } => {
                let given = message.reactions.iter_mut().find(|(given, _, _)| plain(given) == plain(emoji));
                given.is_some_and(|(_, _, users)| {
                    let index = users.iter().position(|user| *user == event.actor_id);
                    index.map(|index| users.remove(index)).is_some()
                })
            }
            _ => false,
        };
        if has_changed {
            message.position = position;
        }
        has_changed
    }

    fn add_to(&self, id: ConversationId, state: &mut State) {
        state.applied.extend(self.events.iter().map(|event| (id, *event)));
        state.keys.extend(self.keys.iter().map(|(user, key)| (id, user.clone(), key.clone())));
        let Some((kind, title, created_at)) = self.begun.clone() else { return };
        let conversation = state::Conversation {
            kind,
            title,
            participant_count: i64::try_from(self.participants.len()).unwrap(),
            created_at,
            updated_at: self.active_at.unwrap(),
            last_seq: i64::try_from(self.messages.len()).unwrap(),
            last_message: self.messages.last().map(|it| it.sent.message_id),
            position: self.changed.unwrap(),
        };
        state.conversations.insert(id, conversation);
        for (ordinal, it) in (0..).zip(&self.participants) {
            let last_read_seq = i64::try_from(it.has_read).unwrap();
            let member = state::Member { ordinal, last_read_seq, last_read_at: it.read_at, position: it.position };
            state.members.insert((id, it.user.clone()), member);
        }
        for (seq, it) in (1..).zip(&self.messages) {
            state.messages.insert((id, it.sent.message_id), it.state(seq));
        }
    }

    pub(super) fn active_at(&self) -> Option<Timestamp> {
        self.active_at
    }

    /// The conversation as a participant sees it, with the first participants.
    pub(super) fn view(&self, id: ConversationId, user: &UserId, participants: usize) -> Option<ConversationView> {
        let (kind, title, created_at) = self.begun.clone()?;
        let mine = self.participants.iter().find(|it| it.user == *user)?;
        let unread = self.messages.iter().skip(mine.has_read).filter(|it| it.deleted_at.is_none()).count();
        let participant = |it: &Participant| ParticipantView {
            user_id: it.user.clone(),
            last_read_seq: i64::try_from(it.has_read).unwrap(),
            last_read_at: it.read_at,
        };
        Some(ConversationView {
            id,
            kind,
            title,
            participant_count: i64::try_from(self.participants.len()).unwrap(),
            participants: self.participants.iter().take(participants).map(participant).collect(),
            last_message: self.messages.last().map(|it| it.view(id, self.messages.len())),
            unread_count: i64::try_from(unread).unwrap(),
            created_at,
            updated_at: self.active_at?,
            position: self.changed?,
        })
    }

    /// All messages, the newest first.
    pub(super) fn messages(&self, id: ConversationId) -> Vec<MessageView> {
        self.messages.iter().enumerate().map(|(index, it)| it.view(id, index + 1)).rev().collect()
    }

    pub(super) fn message(&self, id: ConversationId, message: MessageId) -> Option<MessageView> {
        let index = self.messages.iter().position(|it| it.sent.message_id == message)?;
        Some(self.messages[index].view(id, index + 1))
    }

    pub(super) fn facts(&self, id: ConversationId, message: MessageId) -> Option<MessageFacts> {
        let found = self.messages.iter().find(|it| it.sent.message_id == message)?;
        let is_deleted = found.deleted_at.is_some();
        Some(MessageFacts {
            id: message,
            conversation_id: id,
            sender_id: found.sender.clone(),
            has_attachments: !is_deleted && !found.sent.attachments.is_empty(),
            deleted_at: found.deleted_at,
            emoji: found.reactions.iter().filter(|_| !is_deleted).map(|(emoji, _, _)| emoji.clone()).collect(),
        })
    }
}

impl Participant {
    /// Moves the read mark forward. Returns whether it moved.
    fn read(&mut self, up_to: usize, at: Timestamp, position: Position) -> bool {
        let moves = up_to > self.has_read;
        if moves {
            (self.has_read, self.read_at, self.position) = (up_to, Some(at), position);
        }
        moves
    }
}

/// An emoji without the selector that some keyboards add.
fn plain(emoji: &str) -> String {
    emoji.replace('\u{fe0f}', "")
}

impl Message {
    fn react(&mut self, user: &UserId, emoji: &str, label: Option<&String>) -> bool {
        if self.reactions.iter().all(|(given, _, _)| plain(given) != plain(emoji)) {
            self.reactions.push((emoji.to_owned(), None, Vec::new()));
        }
        let (_, known, users) = self.reactions.iter_mut().find(|(given, _, _)| plain(given) == plain(emoji)).unwrap();
        let (is_new_user, is_new_label) = (!users.contains(user), label.is_some() && label != known.as_ref());
        if is_new_user {
            users.push(user.clone());
        }
        if is_new_label {
            *known = label.cloned();
        }
        is_new_user || is_new_label
    }

    fn state(&self, seq: i64) -> state::Message {
        let view = self.view(ConversationId(uuid::Uuid::nil()), 0);
        let reaction = |(emoji, label, users): &(String, Option<String>, Vec<UserId>)| state::Reaction {
            emoji: emoji.clone(),
            label: label.clone(),
            user_ids: users.clone(),
        };
        state::Message {
            seq,
            sender_id: view.sender_id,
            content: view.content,
            message_type: view.message_type,
            attachments: view.attachments,
            mentions: view.mentions,
            reply_to_id: view.reply_to_id,
            reactions: self.reactions.iter().filter(|_| self.deleted_at.is_none()).map(reaction).collect(),
            created_at: view.created_at,
            edited_at: view.edited_at,
            deleted_at: view.deleted_at,
            position: self.position,
        }
    }

    fn view(&self, conversation_id: ConversationId, seq: usize) -> MessageView {
        let is_kept = self.deleted_at.is_none();
        let reaction = |(emoji, label, users): &(String, Option<String>, Vec<UserId>)| ReactionView {
            emoji: emoji.clone(),
            label: label.clone(),
            count: i64::try_from(users.len()).unwrap(),
            user_ids: users.iter().take(20).cloned().collect(),
        };
        let given = self.reactions.iter().filter(|(_, _, users)| is_kept && !users.is_empty());
        MessageView {
            id: self.sent.message_id,
            conversation_id,
            seq: Some(i64::try_from(seq).unwrap()),
            position: Some(self.position),
            sender_id: self.sender.clone(),
            content: is_kept.then(|| self.sent.content.clone()),
            message_type: self.sent.message_type,
            attachments: if is_kept { self.sent.attachments.clone() } else { Vec::new() },
            mentions: if is_kept { self.sent.mentions.clone() } else { Vec::new() },
            reply_to_id: self.sent.reply_to_id,
            reactions: given.map(reaction).collect(),
            created_at: self.at,
            edited_at: self.edited_at,
            deleted_at: self.deleted_at,
        }
    }
}
